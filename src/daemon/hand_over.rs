//! Hand-over of the sessions: the process that has them stops all workers and writes them to a file
//! ([`hand_over`]), and the process that continues them waits for that file ([`await_sessions`]).
//!
//! No nonce is used twice: nothing is encrypted after the threads of all workers have ended, until
//! the supervisor says that no other process has the sessions. Packets stay in the queues of the
//! TUN device and of the sockets meanwhile.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::info;

use super::carry::Carry;
use super::error::{DaemonError, system};
use super::handshakes::handle_next;
use super::shared::Shared;
use super::worker::Worker;
use crate::messages::{ConnectedSocket, FromTunnel, ToTunnel};
use crate::net::timer::now;
use wontun_packet::DropReason;

/// Time for which datagrams that are encrypted already wait for a full socket.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(20);
/// Maximum number of waiting handshake messages that are still answered; each takes 0.1 ms.
const HANDSHAKES: usize = 32;

/// End of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandedOver {
    /// Another process continues the sessions, or the tunnel is to end.
    Done,
    /// No other process has them: this one continues.
    Resumed,
}

/// Passes the sessions to the supervisor after the threads of all `workers` have ended, and waits
/// for its decision.
///
/// # Errors
/// The supervisor has ended, or the system fails.
pub(super) fn hand_over<M: Carry>(
    shared: &Shared<M>,
    workers: &mut [Worker<M>],
) -> Result<HandedOver, DaemonError> {
    for worker in &mut *workers {
        worker.finish(shared)?;
    }
    shared.with_state(|mode, core| {
        let file = core.supervisor.export_to.take().ok_or(DaemonError::UnexpectedMessage)?;
        let exported = mode.export(core, file);
        let descriptors = exported.iter().flatten().map(|(_, socket)| socket.as_fd()).collect::<Vec<_>>();
        let result = match &exported {
            Ok(sockets) => Ok(sockets.iter().map(|(described, _)| *described).collect()),
            Err(reason) => Err(reason.clone()),
        };
        core.supervisor.channel.send_borrowed(&FromTunnel::Exported(result), &descriptors)?;
        Ok::<(), DaemonError>(())
    })?;
    loop {
        match next_message(shared)? {
            (ToTunnel::Resume, _) => {
                info!("continuing: no other process has taken the tunnel over");
                return Ok(HandedOver::Resumed);
            }
            (ToTunnel::Stop, _) => break,
            (message, descriptors) => apply(shared, message, descriptors)?,
        }
    }
    for worker in workers {
        if let Some(pending) = worker.pending.take() {
            worker.count_drops(DropReason::Unsent, pending.packets(), None);
        }
    }
    Ok(HandedOver::Done)
}

/// Continues the sessions of another process once the supervisor passes them, and returns when that
/// process carries no more packets.
///
/// # Errors
/// The supervisor has ended, or ends the start.
pub(super) fn await_sessions<M: Carry>(shared: &Shared<M>) -> Result<(), DaemonError> {
    loop {
        match next_message(shared)? {
            (ToTunnel::Proceed, _) => return Ok(()),
            (ToTunnel::Stop, _) => return Err(DaemonError::Stopped),
            (ToTunnel::Import(sockets), descriptors) => import(shared, sockets, descriptors)?,
            (message, descriptors) => apply(shared, message, descriptors)?,
        }
    }
}

fn import<M: Carry>(
    shared: &Shared<M>,
    sockets: Vec<ConnectedSocket>,
    descriptors: Vec<OwnedFd>,
) -> Result<(), DaemonError> {
    let mut descriptors = descriptors.into_iter();
    let file = descriptors.next().ok_or(DaemonError::UnexpectedMessage)?;
    if descriptors.len() != sockets.len() {
        return Err(DaemonError::UnexpectedMessage);
    }
    let sockets = sockets.into_iter().zip(descriptors).collect();
    shared.with_state(|mode, core| {
        let result = mode.import(core, file, sockets);
        core.supervisor.channel.send_blocking(&FromTunnel::Imported(result), Vec::new())?;
        Ok(())
    })
}

fn apply<M: Carry>(
    shared: &Shared<M>,
    message: ToTunnel,
    descriptors: Vec<OwnedFd>,
) -> Result<(), DaemonError> {
    shared.with_state(|mode, core| core.handle_message(mode, message, descriptors))
}

/// Waits for the next message of the supervisor. No worker runs.
fn next_message<M: Carry>(shared: &Shared<M>) -> Result<(ToTunnel, Vec<OwnedFd>), DaemonError> {
    let message = shared.with_state(|_, core| core.supervisor.channel.receive_until(None));
    let now = now().map_err(system("reading the clock"))?;
    shared.with_state(|_, core| core.now = core.now.max(now));
    message?.ok_or(DaemonError::SupervisorTimeout)
}

impl<M: Carry> Worker<M> {
    /// Sends what is encrypted already. The first worker also answers waiting handshake messages.
    fn finish(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        if self.number == 0 {
            for _ in 0..HANDSHAKES {
                if !handle_next(shared)? {
                    break;
                }
            }
            self.serve(shared)?;
        }
        if let Some((_, socket)) = &self.blocked {
            let limit = u16::try_from(FLUSH_TIMEOUT.as_millis()).unwrap_or(u16::MAX);
            // an error of poll(2) is handled like a timeout
            let _ = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(limit));
            self.flush(shared)?;
        }
        Ok(())
    }
}
