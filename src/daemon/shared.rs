//! State that the workers of a tunnel share behind one lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::core::Core;
use super::error::DaemonError;
use super::protocol::Protocol;
use super::token::Token;
use super::view::{LatestView, View};
use super::worker::Worker;
use wontun_proto::time::Instant;

/// A number that is no worker's.
const NO_WORKER: usize = usize::MAX;

/// The mode and [`Core`], behind one lock.
#[derive(Debug)]
pub struct Shared<M: Protocol> {
    state: Mutex<(M, Core)>,
    view: LatestView<M::Owner>,
    /// Notified when a handshake message waits, and when all workers must end.
    handshakes: Condvar,
    /// True once all workers must end.
    is_ending: AtomicBool,
}

impl<M: Protocol> Shared<M> {
    pub(super) const fn new(mode: M, core: Core, view: LatestView<M::Owner>) -> Self {
        let is_ending = AtomicBool::new(false);
        Self { state: Mutex::new((mode, core)), view, handshakes: Condvar::new(), is_ending }
    }

    /// Replaces the view if what it is a copy of has changed.
    fn update_view(&self, mode: &M, core: &mut Core) {
        let current = Some((mode.sockets().changes(), core.link));
        if core.viewed != current {
            core.viewed = current;
            self.view.store(Arc::new(View::new(mode, core)));
        }
    }

    /// Calls `act` with the shared state and `worker`. It must not take long.
    pub(super) fn with<R>(
        &self,
        worker: &mut Worker<M>,
        act: impl FnOnce(&mut M, &mut Core, &mut Worker<M>) -> R,
    ) -> R {
        // a worker that panicked ends the tunnel by other means
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.set_current(worker.number, worker.now);
        worker.request_lock();
        let result = act(mode, core, worker);
        self.update_view(mode, core);
        worker.ready.extend(core.take_tokens());
        if core.handshakes.take_wake() {
            drop(state);
            self.handshakes.notify_one();
        }
        result
    }

    /// Calls `act` with the shared state, from a thread that is no worker. It must not take long.
    pub(super) fn with_state<R>(&self, act: impl FnOnce(&mut M, &mut Core) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.set_current(NO_WORKER, core.now);
        let result = act(mode, core);
        self.update_view(mode, core);
        result
    }

    /// Calls `act` with the shared state at the time `now`, from the thread for handshakes or in
    /// its place.
    pub(super) fn with_handshakes<R>(&self, now: Instant, act: impl FnOnce(&mut M, &mut Core) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.set_current(core.worker_count(), now);
        let result = act(mode, core);
        self.update_view(mode, core);
        result
    }

    /// Waits until a handshake message may be queued; returns false once all workers must end.
    pub(super) fn wait_for_handshake(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_ending() {
            if state.1.handshakes.begin_wait() {
                return true;
            }
            state = self.handshakes.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    /// Waits for `time`, or until all workers must end; returns true if they must.
    pub(super) fn wait_for_end(&self, time: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_waiting = |_: &mut (M, Core)| !self.is_ending();
        drop(self.handshakes.wait_timeout_while(state, time, is_waiting));
        self.is_ending()
    }

    /// Records the error of a worker that has ended, and wakes the first worker, which ends the
    /// others.
    pub(super) fn fail(&self, error: DaemonError) {
        self.with_state(|_, core| {
            core.failure.get_or_insert(error);
            core.post_to(0, Token::Wake);
        });
    }

    /// Returns true if all workers must end.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Lets workers run again after [`Self::end`].
    pub(super) fn restart(&self) {
        self.is_ending.store(false, Ordering::Relaxed);
        self.with_state(|_, core| {
            core.stop = None;
            // messages that were left when the thread for handshakes ended
            core.handshakes.post();
        });
    }

    /// Makes all workers end.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.with_state(|_, core| {
            (0..core.worker_count()).for_each(|worker| core.post_to(worker, Token::Wake));
        });
        self.handshakes.notify_all();
    }
}
