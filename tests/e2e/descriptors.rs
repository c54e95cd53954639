//! What a process has open, and taking away its right to open more.

use std::process::Command;

use nix::unistd::Pid;

use crate::waiting::succeed;

/// The numbers of a process' open descriptors.
pub(crate) fn open_descriptors(pid: Pid) -> Vec<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// Allows a process no descriptor more than it has. Gives what it was allowed before, for [`allow_descriptors`].
pub(crate) fn allow_no_descriptor(pid: Pid) -> String {
    let open = open_descriptors(pid);
    let before = succeed(prlimit(pid).args(["--nofile", "--noheadings", "--output=SOFT"]));
    // they are given from the lowest free number
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    allow_descriptors(pid, &free.to_string());
    before.trim().to_owned()
}

/// Sets the soft limit of a process' descriptors (RLIMIT_NOFILE).
pub(crate) fn allow_descriptors(pid: Pid, soft: &str) {
    succeed(prlimit(pid).arg(format!("--nofile={soft}:")));
}

/// `prlimit` as the user of the process: another's limits take CAP_SYS_RESOURCE, which root may be
/// without.
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
