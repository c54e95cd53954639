//! A kernel without nf_tables, as far as a program can observe: strace makes its socket(2) call
//! fail.

use super::site::Site;
use crate::mounts::BINARY;
use crate::waiting::eventually;

/// Returns a wrapper for wontun with `arguments` that makes one of its netfilter sockets fail, as a
/// kernel without netfilter's netlink does. `which` selects it from their positions among all
/// sockets, counted from 1, which a first, unmodified run determines.
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
