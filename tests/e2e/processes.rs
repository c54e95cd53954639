//! The processes of a running tunnel: the one that was started (the supervisor) and its helpers.

use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;

use crate::daemon::children_of;
use crate::waiting::{TIMEOUT, holds_within};

/// Name of the process that carries packets.
pub(crate) const TUNNEL: &str = "wontun-tunnel";
/// Name of the process that looks up names.
pub(crate) const RESOLVER: &str = "wontun-resolver";
/// Name of the process that applies name servers.
pub(crate) const DNS: &str = "wontun-dns";
/// Name of the process that starts helpers.
pub(crate) const NURSERY: &str = "wontun-nursery";
/// User and group of helpers where the supervisor may choose.
pub(crate) const HELPER_ID: &str = "65533";

/// The processes of one tunnel, without the look-ups that the resolver starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) supervisor: Pid,
    pub(crate) tunnel: Pid,
    pub(crate) nursery: Option<Pid>,
    pub(crate) resolver: Option<Pid>,
}

impl Processes {
    /// Returns the processes other than the supervisor.
    pub(crate) fn helpers(&self) -> Vec<Pid> {
        [Some(self.tunnel), self.nursery, self.resolver].into_iter().flatten().collect()
    }

    pub(crate) fn all(&self) -> Vec<Pid> {
        [vec![self.supervisor], self.helpers()].concat()
    }
}

/// Returns the processes of the tunnel that was started as `pid`, once the one that carries packets
/// exists.
pub(crate) fn processes(pid: Pid) -> Processes {
    let tunnel = helper(pid, TUNNEL);
    let [nursery, resolver] = [NURSERY, RESOLVER].map(|name| try_helper(pid, name));
    Processes { supervisor: parent(tunnel), tunnel, nursery, resolver }
}

/// Returns the process that carries packets of the tunnel that was started as `pid`, or by a
/// descendant of it.
pub(crate) fn tunnel_pid(pid: Pid) -> Pid {
    helper(pid, TUNNEL)
}

/// Waits for the helper of that name of the tunnel that was started as `pid`, and returns it.
pub(crate) fn helper(pid: Pid, name: &str) -> Pid {
    let mut found = None;
    holds_within(TIMEOUT, || {
        found = try_helper(pid, name);
        found.is_some()
    });
    found.unwrap_or_else(|| {
        let there: Vec<_> = descendants(pid).into_iter().map(|pid| (pid, comm(pid))).collect();
        panic!("no process {name} of {pid}, but {there:?}")
    })
}

/// Returns the helper of that name, if there is one now.
pub(crate) fn try_helper(pid: Pid, name: &str) -> Option<Pid> {
    descendants(pid).into_iter().find(|pid| comm(*pid) == name && !is_gone(*pid))
}

/// Returns the children of `pid`, their children, and so on.
pub(crate) fn descendants(pid: Pid) -> Vec<Pid> {
    let mut found = children_of(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children_of(pid));
        next += 1;
    }
    found
}

/// Returns the name of a process; empty if it has ended.
pub(crate) fn comm(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Returns the fields of /proc/PID/stat after the name; `None` if the process has ended.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Returns true if `pid` has ended, whether or not its parent has waited for it.
pub(crate) fn is_gone(pid: Pid) -> bool {
    stat(pid).is_none_or(|fields| ["Z", "X"].contains(&fields[0].as_str()))
}

/// Returns true if `pid` was stopped by a signal.
pub(crate) fn is_suspended(pid: Pid) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "T")
}

fn parent(pid: Pid) -> Pid {
    Pid::from_raw(stat(pid).unwrap_or_else(|| panic!("process {pid} has ended"))[1].parse().unwrap())
}

/// Returns the CPU time of a process, in clock ticks of 10 ms.
pub(crate) fn cpu_ticks(pid: Pid) -> u64 {
    let fields = stat(pid).unwrap_or_else(|| panic!("process {pid} has ended"));
    [11, 12].iter().map(|&place: &usize| fields[place].parse::<u64>().unwrap()).sum()
}

/// Returns the memory of `pid` and its descendants, in kilobytes: the sum of their proportional set
/// sizes.
pub(crate) fn proportional_kilobytes(pid: Pid) -> u64 {
    let of = |pid: Pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.map_or(0, |line| line.split_whitespace().next().unwrap().parse().unwrap())
    };
    let own = of(pid);
    assert!(own > 0, "process {pid} has ended");
    own + descendants(pid).into_iter().map(of).sum::<u64>()
}

/// Returns the /proc directory of the process's thread of that name.
pub(crate) fn thread_named(pid: Pid, name: &str) -> PathBuf {
    let mut found = None;
    holds_within(TIMEOUT, || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
        found = tasks
            .into_iter()
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("process {pid} ({}) has no thread {name}", comm(pid)))
}
