//! `wontun hold`: owns a network namespace for containers that share it, without any right.
//!
//! A network namespace lives as long as a process in it. Containers that share the namespace of a
//! tunnel's container lose their network when that one is replaced; this process owns it instead,
//! and has nothing to do that would be a reason to replace it.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::kill_switch_on;
use crate::config::TunName;
use crate::exit::{self, Failure};
use crate::interrupted::retry;
use crate::net::signal::{Signals, reap_children};
use crate::privileges::{self, UserIds, setcap};
use crate::sandbox::{FeatureState, Sandbox};
use crate::uapi::UapiFolders;
use wontun_proto::allowed_ips::Prefix;

/// Name of the process in `ps`.
const NAME: &std::ffi::CStr = c"wontun-hold";

/// Engages the kill switch of the tunnel `kill_switch`, if one is given, gives up all rights, and
/// waits for SIGTERM or SIGINT. As PID 1 it reaps orphans.
///
/// # Errors
/// The kill switch cannot be engaged, or a right cannot be given up.
pub(crate) fn hold(kill_switch: Option<&TunName>, allowed: &[Prefix]) -> Result<(), Failure> {
    // first: for PID 1 the kernel drops signals without a handler
    let mut signals = Signals::open().map_err(cannot("block signals"))?;
    if let Some(name) = kill_switch {
        setcap::refuse("wontun hold --kill-switch-for")?;
        privileges::require_net_admin()?;
        kill_switch_on(name, &UapiFolders::new([]), allowed)?;
    }
    // a failure is harmless
    let _ = prctl::set_name(NAME);
    privileges::drop_everything(UserIds::helper())?;
    let status = Sandbox::for_hold()?.engage()?;
    let _ = writeln!(io::stderr(), "wontun: holding the network namespace until SIGTERM");
    if let FeatureState::Forbidden(_) = status.seccomp {
        let _ = writeln!(
            io::stderr(),
            "wontun: the sandbox is not whole: let the one around it allow seccomp(2)"
        );
    }
    wait(&mut signals).map_err(|error| {
        // here, since the sandbox allows no thread that would print it
        let message = format!("cannot wait for signals: {error}");
        let _ = writeln!(io::stderr(), "wontun: {message}");
        Failure { code: exit::FAILURE, message, is_reported: true }
    })
}

/// Reaps children until SIGTERM or SIGINT.
fn wait(signals: &mut Signals) -> io::Result<()> {
    loop {
        while let Some(signal) = signals.poll_signal()? {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => return Ok(()),
                Signal::SIGCHLD => reap_children(),
                _ => {}
            }
        }
        let mut descriptors = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        retry(|| poll(&mut descriptors, PollTimeout::NONE).map_err(Into::into))?;
    }
}

/// Returns a function that makes a failure of an error of the system.
fn cannot(action: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(exit::FAILURE, format!("cannot {action}: {error}"))
}
