//! Attacks by the process that enrols devices.

use super::attacks::ATTACKS;
use super::tests::Stage;

#[test]
fn a_process_that_enrols_devices_opens_nothing() {
    let stage = Stage::new("enroll");
    for (act, code) in [
        ("read the key", "code: 38"),
        ("read /proc/self/mem", "code: 38"),
        ("write a new file", "code: 38"),
        ("start a thread", "code: 38"),
        ("clone3", "code: 38"),
    ] {
        let outcome = stage.outcome("enroll", act);
        assert!(outcome.contains(code), "{act}: {outcome}");
    }
    assert!(stage.outcome("enroll", "panic").contains("caught"));
    for name in ["execve", "ptrace", "bpf", "mount"] {
        let (_, number, _) = ATTACKS.iter().find(|(known, ..)| *known == name).unwrap();
        stage.dies("enroll", name, *number);
    }
}
