//! The `dns` process.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::messages::{FromDns, ToDns, Warnings};
use super::select::{open_bus, select};
use super::{Backend, DnsError, DnsEvent, ROLE};
use crate::config::TunName;
use crate::net::timer::now;
use crate::privileges::UserIds;
use crate::process::{self, Channel, ChannelError, format_error_chain};
use crate::resolver::messages::ErrorMessage;

/// The process's end of the channel.
type HelperChannel = Channel<ToDns, FromDns>;

/// Main function of the process: applies what is requested on `socket` until its other end is
/// closed, and watches it. Returns the exit code.
pub fn main(socket: OwnedFd) -> u8 {
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let (tunnel, method, is_sandboxed) = match channel.receive_until(None) {
        Ok(Some((ToDns::Start { tunnel, method, is_sandboxed }, _))) => (tunnel, method, is_sandboxed),
        // its parent has ended
        Err(ChannelError::Closed) => return 0,
        _ => return 1,
    };
    // before the drop: a user's connection to the bus stays that user's
    let bus = open_bus(method, is_sandboxed);
    // /etc/resolv.conf is the start's user's to write
    let user = if matches!(bus, Ok(Some(_))) { UserIds::helper() } else { None };
    let prepared = process::prepare_helper_as(ROLE, user).map_err(|error| format_error_chain(&error));
    let opened = prepared.and_then(|()| {
        let tunnel: TunName = tunnel.parse().map_err(|error| format_error_chain(&error))?;
        let bus = bus.map_err(|error| format_error_chain(&error))?;
        let backend = select(&tunnel, bus).map_err(|error| format_error_chain(&error))?;
        if is_sandboxed {
            backend
                .sandbox()
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        Ok(backend)
    });
    let (answer, backend) = match opened {
        Ok(backend) => (FromDns::Ready(ErrorMessage::cut(backend.name().to_owned())), Some(backend)),
        Err(text) => (FromDns::NotReady(ErrorMessage::cut(text)), None),
    };
    if channel.send_blocking(&answer, Vec::new()).is_err() {
        return 1;
    }
    backend.map_or(1, |mut backend| serve(&mut channel, backend.as_mut()))
}

/// Serves requests and events until the other end is closed. Returns the exit code.
fn serve(channel: &mut HelperChannel, backend: &mut dyn Backend) -> u8 {
    loop {
        let is_due = match wait(channel, backend) {
            Ok(is_due) => is_due,
            Err(_) => return 1,
        };
        loop {
            let answer = match channel.receive() {
                Ok(Some((ToDns::Apply(settings), _))) => match backend.apply(&settings) {
                    Ok(warnings) => FromDns::Applied(Warnings::first_of(warnings)),
                    Err(error) => FromDns::NotApplied(message(&error)),
                },
                Ok(Some((ToDns::Revert, _))) => match backend.revert() {
                    Ok(warnings) => FromDns::Reverted(Warnings::first_of(warnings)),
                    Err(error) => FromDns::NotReverted(message(&error)),
                },
                Ok(None) => break,
                // the supervisor has ended: nothing is reverted, so that no query leaks
                Err(ChannelError::Closed) => return 0,
                Ok(Some((ToDns::Start { .. }, _))) | Err(_) => return 1,
            };
            if channel.send_blocking(&answer, Vec::new()).is_err() {
                return 1;
            }
        }
        let Ok(now) = now() else { return 1 };
        let events = if is_due { backend.check(now) } else { Vec::new() };
        for event in events {
            let message = match event {
                DnsEvent::Restored(text) => FromDns::Restored(ErrorMessage::cut(text)),
                DnsEvent::Lost(text) => FromDns::Lost(ErrorMessage::cut(text)),
            };
            if channel.send_blocking(&message, Vec::new()).is_err() {
                return 1;
            }
        }
    }
}

fn message(error: &DnsError) -> ErrorMessage {
    ErrorMessage::cut(format_error_chain(error))
}

/// Waits for a message or an event. Returns true if the back end has to check the host's state.
fn wait(channel: &HelperChannel, backend: &mut dyn Backend) -> nix::Result<bool> {
    let deadline = backend.deadline();
    let timeout = match (deadline, now()) {
        (Some(deadline), Ok(now)) => {
            let millis = deadline.since(now).as_micros().div_ceil(1000);
            i32::try_from(millis).unwrap_or(i32::MAX).try_into().unwrap_or(PollTimeout::MAX)
        }
        _ => PollTimeout::NONE,
    };
    let mut descriptors = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    descriptors.extend(backend.descriptors().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut descriptors, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(false),
        Err(error) => return Err(error),
    }
    let has_event = descriptors.iter().skip(1).any(|polled| polled.any() == Some(true));
    let is_late = deadline.is_some_and(|deadline| now().is_ok_and(|now| deadline <= now));
    Ok(has_event || is_late)
}
