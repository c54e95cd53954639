//! The filter of the `dns` process that is connected to the system bus, and of the one that sets
//! name servers: they have their connections, and open nothing.

use super::attacks::ATTACKS;
use super::tests::Stage;

#[test]
fn a_process_on_the_bus_opens_nothing() {
    let stage = Stage::new("dns-bus");
    for role in ["dns-bus", "dns-reconnect"] {
        for act in [
            // a datagram socket: to connect again takes one for streams
            "a unix socket",
            "open UDP sockets",
            "connect TCP",
            "read /etc/hosts",
            "write a new file",
            "start a thread",
            "clone3",
        ] {
            let outcome = stage.outcome(role, act);
            assert!(outcome.contains("code: 38"), "{role}: {act}: {outcome}");
        }
        assert!(stage.outcome(role, "panic").contains("caught"));
        for name in ["execve", "ptrace", "bpf", "mount"] {
            let (_, number, _) = ATTACKS.iter().find(|(known, ..)| *known == name).unwrap();
            stage.dies(role, name, *number);
        }
    }
}
