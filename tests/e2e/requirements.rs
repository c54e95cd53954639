//! The machine's requirements for the tests, checked once. A missing one fails the test with its
//! name.

use std::path::Path;
use std::sync::OnceLock;

/// Tools that the laboratory runs, each with its Debian package.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("setcap", "libcap2-bin"),
    ("prlimit", "util-linux"),
    ("strace", "strace"),
    ("install", "coreutils"),
    ("mknod", "coreutils"),
    ("sh", "dash"),
    ("systemd-analyze", "systemd"),
    ("iptables", "iptables"),
    ("iptables-legacy", "iptables"),
    ("wg", "wireguard-tools"),
];

/// Panics with a message that names what this machine lacks.
pub(crate) fn check() {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(missing);
    assert!(missing.is_empty(), "the end-to-end tests cannot run here: {}", missing.join("; "));
}

fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("they need root, to make network namespaces".to_owned());
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        missing.push(format!("/dev/net/tun does not open ({error}); modprobe tun"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    for (tool, package) in TOOLS {
        let found =
            path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(tool).exists());
        if !found {
            missing.push(format!("the tool '{tool}' is missing; apt-get install {package}"));
        }
    }
    missing
}
