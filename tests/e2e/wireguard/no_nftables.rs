//! A kernel without nf_tables, as far as a program can tell: strace refuses the socket to it.

use super::site::Site;
use crate::mounts::BINARY;
use crate::waiting::eventually;

/// What to run wontun with `arguments` under, so that one of its sockets to netfilter is refused,
/// as a kernel without netfilter's netlink does. `which` chooses it, from the places that they have
/// among all sockets, counted from 1; a run that is not refused any, and stopped again, finds them
/// out.
pub(crate) fn refuse(
    site: &Site,
    arguments: &[&str],
    which: impl FnOnce(&mut dyn Iterator<Item = usize>) -> Option<usize>,
) -> String {
    let trace = site.path().join("trace");
    let strace = format!("strace -D -e trace=socket -o {}", trace.display());
    let daemon = site.launch(BINARY.as_ref(), arguments).wrap(&strace).spawn();
    daemon.wait_for(" ready mode=");
    daemon.stop();
    let mut calls = String::new();
    eventually("strace has written all", || {
        calls = std::fs::read_to_string(&trace).unwrap_or_default();
        calls.contains("+++ exited")
    });
    let sockets = calls.lines().filter(|line| line.starts_with("socket("));
    let mut places = sockets.zip(1..).filter(|(call, _)| call.contains("NETLINK_NETFILTER")).map(|(_, n)| n);
    let place = which(&mut places).unwrap_or_else(|| panic!("no socket to netfilter:\n{calls}"));
    format!("strace -D -o /dev/null -e trace=socket -e inject=socket:error=EPROTONOSUPPORT:when={place}")
}
