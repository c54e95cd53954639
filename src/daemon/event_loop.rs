//! A worker's event loop: each turn waits for events and serves every ready descriptor once.

use std::time::Duration;

use tracing::debug;

use super::budget::Progress;
use super::carry::Carry;
use super::core::{Core, StopReason};
use super::device_queues::QueueKind;
use super::error::{DaemonError, system};
use super::protocol::Protocol;
use super::shared::Shared;
use super::token::Token;
use super::worker::Worker;
use crate::net::timer::{now_and_suspended, thread_time};
use wontun_packet::DropReason;
use wontun_proto::stack;

/// First action of a turn.
enum Begin {
    Turn,
    /// A deadline has passed.
    Due,
    /// The stack must be overwritten first.
    ClearStack,
    End(StopReason),
}

/// Result of a turn.
enum Turn {
    Done,
    /// The turn did not start: the stack may hold copies of keys that are no longer used.
    ClearStack,
    End(StopReason),
}

impl<M: Carry> Worker<M> {
    /// Runs until the tunnel ends.
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more: a deleted device, or a failing system.
    pub(super) fn run(&mut self, shared: &Shared<M>) -> Result<Option<StopReason>, DaemonError> {
        if self.number == 0 {
            shared.with(self, |mode, core, _| {
                if std::mem::replace(&mut core.is_started, true) { Ok(()) } else { mode.start(core) }
            })?;
            self.serve(shared)?;
        }
        let stop = loop {
            match self.turn(shared)? {
                Turn::Done => {}
                Turn::ClearStack => stack::clear(),
                Turn::End(stop) => break Some(stop),
            }
            if shared.is_ending() {
                break None;
            }
        };
        // the stack is kept for another thread
        stack::clear();
        debug!(worker = self.number, lock_uses = self.lock_uses, "worker ended");
        Ok(stop)
    }

    /// Handles deadlines, then waits for events once and serves every ready descriptor once. Not
    /// inlined, so that all code that works with keys runs below the frame of [`Self::run`], which
    /// overwrites that part of the stack.
    #[inline(never)]
    fn turn(&mut self, shared: &Shared<M>) -> Result<Turn, DaemonError> {
        match self.begin_if_needed(shared)? {
            Begin::End(stop) => return Ok(Turn::End(stop)),
            Begin::ClearStack => return Ok(Turn::ClearStack),
            Begin::Turn => {}
            Begin::Due => {
                self.serve(shared)?;
                shared.with(self, |mode, core, _| arm(mode, core))?;
            }
        }
        let limit = if self.ready.is_empty() { self.handshakes.pause() } else { Some(Duration::ZERO) };
        let woken = self.poll.wait(&mut self.events, limit);
        for token in woken.map_err(system("waiting for events"))? {
            match token? {
                Token::SparseTun => self.ready.insert_first(Token::SparseTun),
                // otherwise in the order in which they came
                small @ Token::SmallData(_) if self.inbound.is_waiting() => self.ready.insert_first(small),
                token => self.ready.insert(token),
            }
        }
        let (now, suspended) = now_and_suspended().map_err(system("reading the clock"))?;
        self.now = now;
        if self.suspension.observe(suspended).is_some() {
            self.handle_resume(shared, suspended);
        }
        while let Some(token) = self.handshakes.take_waiting(self.now) {
            self.ready.insert(token);
        }
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop() else { break };
            if self.handle(shared, token)? == Progress::More {
                self.ready.insert(token);
            }
        }
        Ok(Turn::Done)
    }

    /// Drops packets that were to be encrypted with earlier keys; the first worker that notices a
    /// suspension drops all sessions.
    fn handle_resume(&mut self, shared: &Shared<M>, suspended: Duration) {
        shared.with(self, |mode, core, worker| {
            if let Some(last) = core.suspension.observe(suspended) {
                mode.handle_resume(core, last);
            }
            if let Some(pending) = worker.pending.take() {
                core.count_drops(DropReason::Unsent, pending.packets(), None);
            }
        });
    }

    /// Begins a turn. Deadlines and requests of others come as tokens that take the lock; so
    /// without the lock, nothing has changed that a turn begins with, except that a session may
    /// have ended.
    fn begin_if_needed(&mut self, shared: &Shared<M>) -> Result<Begin, DaemonError> {
        if self.begun == self.lock_uses && self.cleared_sessions == M::latest_ended_sessions(self) {
            return Ok(Begin::Turn);
        }
        let is_served = self.served == self.lock_uses;
        let begin = shared.with(self, |mode, core, worker| worker.begin(mode, core))?;
        // after the stack was cleared, the rest is done in the next turn
        if !matches!(begin, Begin::ClearStack) {
            self.begun = self.lock_uses;
        }
        if is_served && matches!(begin, Begin::Turn) {
            // it has left nothing for the mode to handle
            self.served = self.lock_uses;
        }
        Ok(begin)
    }

    /// Begins a turn, with the lock. The first worker owns the timer; a worker that sets an earlier
    /// deadline arms it.
    fn begin(&mut self, mode: &mut M, core: &mut Core) -> Result<Begin, DaemonError> {
        core.record_response();
        let ended = mode.ended_sessions();
        if std::mem::replace(&mut self.cleared_sessions, ended) != ended {
            core.wake_for_ended_sessions(ended);
            return Ok(Begin::ClearStack);
        }
        if self.number == 0 {
            if let Some(failure) = core.failure.take() {
                return Err(failure);
            }
            if let Some(stop) = core.stop {
                return Ok(Begin::End(stop));
            }
            if core.deadline().is_some_and(|deadline| core.now >= deadline) {
                core.handle_timeouts(mode);
                if let Some(stop) = core.stop {
                    return Ok(Begin::End(stop));
                }
            }
            if mode.deadline().is_some_and(|deadline| core.now >= deadline) {
                mode.handle_timeouts(core)?;
                return Ok(Begin::Due);
            }
        }
        arm(mode, core)?;
        Ok(Begin::Turn)
    }

    fn handle(&mut self, shared: &Shared<M>, token: Token) -> Result<Progress, DaemonError> {
        let progress = match token {
            Token::Tun => self.drain_tun(shared)?,
            Token::SparseTun => self.drain_queue(shared, QueueKind::Sparse)?,
            Token::Socket(id) => self.drain_socket(shared, id)?,
            Token::SmallData(id) => {
                let progress = self.drain_socket(shared, id)?;
                // the answers of this host are there already
                if self.drain_queue(shared, QueueKind::Sparse)? == Progress::More {
                    self.ready.insert(Token::SparseTun);
                }
                progress
            }
            // done after every token
            Token::Transmit => {
                self.request_lock();
                Progress::Drained
            }
            Token::Limited => self.drain_limited(shared)?,
            Token::Wake => {
                // the tokens posted to this worker were taken with the lock
                let _ = self.wake.read();
                self.request_lock();
                Progress::Drained
            }
            _ => shared.with(self, |mode, core, _| match token {
                Token::Timer => {
                    // the next turn checks all deadlines anyway
                    core.timer.handle_expiration().map_err(system("reading the timer"))?;
                    Ok(Progress::Drained)
                }
                Token::Signals => core.drain_signals(mode),
                Token::Supervisor => core.drain_supervisor(mode),
                Token::Health => {
                    core.answer_probe(mode);
                    Ok(core.drain_health(mode))
                }
                _ => mode.drain(core, token),
            })?,
        };
        self.serve(shared)?;
        if let Some(start) = self.handshakes_started.take() {
            let end = thread_time().map_err(system("reading the clock"))?;
            self.handshakes.spend(end.since(start));
        }
        Ok(progress)
    }

    /// Makes the mode handle pending events, and sends its messages unless the socket is full.
    pub(super) fn serve(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        // without the lock nothing has happened that the mode has to handle
        if self.served != self.lock_uses {
            self.serve_mode(shared)?;
        }
        if self.blocked.is_none() { self.flush(shared) } else { Ok(()) }
    }

    fn serve_mode(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        // the lock is released between two datagrams: an initiation takes as long as a hundred
        // packets
        loop {
            let progress = shared.with(self, |mode, core, worker| {
                let has_room = worker.blocked.is_none();
                core.set_has_room(has_room);
                mode.serve(core, has_room.then_some(&mut worker.send_batch))
            })?;
            if progress == Progress::Drained {
                break;
            }
        }
        // while a socket is full, the mode's messages wait
        if self.blocked.is_none() {
            self.served = self.lock_uses;
        }
        Ok(())
    }
}

fn arm<M: Protocol>(mode: &M, core: &mut Core) -> Result<(), DaemonError> {
    let deadline = [mode.deadline(), core.deadline()].into_iter().flatten().min();
    core.timer.arm(deadline).map_err(system("setting the timer"))
}
