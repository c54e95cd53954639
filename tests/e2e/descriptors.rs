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
    let pid_text = pid.to_string();
    let ask = ["--pid", &pid_text, "--nofile", "--noheadings", "--output=SOFT"];
    let before = succeed(Command::new("prlimit").args(ask));
    // they are given from the lowest free number
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    allow_descriptors(pid, &free.to_string());
    before.trim().to_owned()
}

/// Sets the soft limit of a process' descriptors (RLIMIT_NOFILE).
pub(crate) fn allow_descriptors(pid: Pid, soft: &str) {
    succeed(Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]));
}
