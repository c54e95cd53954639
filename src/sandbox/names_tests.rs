//! Attacks by the process that answers the peers' DNS queries.

use super::attacks::ATTACKS;
use super::tests::{Stage, has_landlock};

#[test]
fn a_process_that_answers_queries_listens_nowhere_else_and_writes_nothing() {
    let stage = Stage::new("names");
    for (act, code) in [
        ("a unix socket", "code: 38"),
        ("read the key", "code: 13"),
        ("bind TCP", "code: 38"),
        ("connect TCP", "code: 13"),
        ("read /proc/self/mem", "code: 13"),
        ("write a new file", "code: 38"),
        ("start a thread", "code: 38"),
        ("clone3", "code: 38"),
    ] {
        // without Landlock, the process may open and read what its user may
        if code.ends_with("13") && !has_landlock() {
            continue;
        }
        let outcome = stage.outcome("names", act);
        assert!(outcome.contains(code), "{act}: {outcome}");
    }
    // over TLS, no name server is asked in another way
    for (act, code) in [
        ("query by UDP", "code: 38"),
        ("read /etc/passwd", "code: 38"),
        ("a unix socket", "code: 38"),
        ("connect TCP", "code: 13"),
    ] {
        if code.ends_with("13") && !has_landlock() {
            continue;
        }
        let outcome = stage.outcome("names over TLS", act);
        assert!(outcome.contains(code), "over TLS: {act}: {outcome}");
    }
    assert_eq!(stage.outcome("names", "query by UDP"), "Ok(())");
    assert!(stage.outcome("names", "panic").contains("caught"));
    for name in ["execve", "ptrace", "bpf", "mount"] {
        let (_, number, _) = ATTACKS.iter().find(|(known, ..)| *known == name).unwrap();
        stage.dies("names", name, *number);
    }
}
