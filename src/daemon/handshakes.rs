//! Handshake messages, whose Curve25519 operations are done without the lock by a thread of its
//! own: packets wait for them neither on a worker nor for the lock, which is held for some
//! microseconds to begin a handshake and to apply each result.
//!
//! A worker that reads a message queues it in the engine and wakes the thread; the first worker
//! sends the response. The thread keeps to a budget of CPU time, as each worker does that reads
//! handshake messages.

use super::core::Core;
use super::error::{DaemonError, system};
use super::handshake_budget::CpuBudget;
use super::protocol::Protocol;
use super::shared::Shared;
use super::token::Token;
use crate::net::timer::{now, thread_time};
use wontun_proto::stack;
use wontun_proto::wireguard::HandshakeProgress;

/// Handles queued handshake messages until all workers must end.
///
/// # Errors
/// An error of the system.
pub(super) fn handle_handshakes<M: Protocol>(shared: &Shared<M>) -> Result<(), DaemonError> {
    let mut budget = CpuBudget::default();
    while shared.wait_for_handshake() {
        loop {
            if let Some(pause) = budget.pause(now().map_err(system("reading the clock"))?)
                && !shared.wait_for_end(pause)
            {
                continue;
            }
            // CPU time instead of the clock's: on a busy machine others use most of that
            let start = thread_time().map_err(system("reading the clock"))?;
            let is_handled = handle_next(shared)?;
            budget.spend(thread_time().map_err(system("reading the clock"))?.since(start));
            if !is_handled || shared.is_ending() {
                break;
            }
        }
    }
    Ok(())
}

/// Handles the message that waited longest; returns false if none waits. Leaves no secrets on the
/// stack.
///
/// # Errors
/// An error of the system.
pub(super) fn handle_next<M: Protocol>(shared: &Shared<M>) -> Result<bool, DaemonError> {
    stack::isolate(|| {
        let start = now().map_err(system("reading the clock"))?;
        let begin = |mode: &mut M, core: &mut Core| {
            core.record_response();
            let progress = mode.begin_handshake(core)?;
            Some(record(core, progress))
        };
        let Some(mut progress) = shared.with_handshakes(start, begin) else { return Ok(false) };
        while let HandshakeProgress::Next(step) = progress {
            let result = step.compute();
            let end = now().map_err(system("reading the clock"))?;
            progress = shared.with_handshakes(end, |mode, core| {
                let progress = mode.continue_handshake(core, result);
                record(core, progress)
            });
        }
        Ok(true)
    })
}

/// Counts a message that is dropped. Its events and the response to it are the first worker's.
fn record(core: &mut Core, progress: HandshakeProgress) -> HandshakeProgress {
    if let HandshakeProgress::Done(handled) = &progress {
        if let Err(reason) = handled {
            core.count_drop(*reason, None);
        }
        core.post_to(0, Token::Transmit);
    }
    progress
}
