//! A process's open descriptors, and its limit (RLIMIT_NOFILE).

use std::process::Command;

use nix::unistd::Pid;

use crate::waiting::succeed;

/// Returns the numbers of a process's open descriptors.
pub(crate) fn open_descriptors(pid: Pid) -> Vec<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// Lowers a process's limit so that it can open no further descriptor. Returns the previous limit,
/// for [`allow_descriptors`].
pub(crate) fn allow_no_descriptor(pid: Pid) -> String {
    let open = open_descriptors(pid);
    let before = succeed(prlimit(pid).args(["--nofile", "--noheadings", "--output=SOFT"]));
    // the kernel assigns the lowest free number
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    allow_descriptors(pid, &free.to_string());
    before.trim().to_owned()
}

/// Sets the soft limit of a process's descriptors (RLIMIT_NOFILE).
pub(crate) fn allow_descriptors(pid: Pid, soft: &str) {
    succeed(prlimit(pid).arg(format!("--nofile={soft}:")));
}

/// Returns `prlimit` as the user of the process: for another user's limits it needs
/// CAP_SYS_RESOURCE, which root may lack.
fn prlimit(pid: Pid) -> Command {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &number("Uid:"), "--regid", &number("Gid:"), "--clear-groups"]);
    command.args(["prlimit", "--pid", &pid.to_string()]);
    command
}
