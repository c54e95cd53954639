//! State that the workers of a tunnel share behind one lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::core::Core;
use super::error::DaemonError;
use super::protocol::Protocol;
use super::token::Token;
use super::worker::Worker;

/// A number that is no worker's.
const NO_WORKER: usize = usize::MAX;

/// The mode and [`Core`], behind one lock.
#[derive(Debug)]
pub struct Shared<M> {
    state: Mutex<(M, Core)>,
    /// True once all workers must end.
    is_ending: AtomicBool,
}

impl<M: Protocol> Shared<M> {
    pub(super) const fn new(mode: M, core: Core) -> Self {
        Self { state: Mutex::new((mode, core)), is_ending: AtomicBool::new(false) }
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
        let result = act(mode, core, worker);
        worker.ready.extend(core.take_tokens());
        worker.mtu = usize::try_from(core.link.mtu).unwrap_or(usize::MAX);
        result
    }

    /// Calls `act` with the shared state, from a thread that is no worker. It must not take long.
    pub(super) fn with_state<R>(&self, act: impl FnOnce(&mut M, &mut Core) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.set_current(NO_WORKER, core.now);
        act(mode, core)
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
        self.with_state(|_, core| core.stop = None);
    }

    /// Makes all workers end.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.with_state(|_, core| {
            (0..core.worker_count()).for_each(|worker| core.post_to(worker, Token::Wake));
        });
    }
}
