//! State that the workers of a tunnel share behind one lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::core::Core;
use super::error::DeviceError;
use super::mode::Mode;
use super::token::Token;
use super::worker::Worker;

/// No worker's number.
const NOBODY: usize = usize::MAX;

/// The mode and [`Core`], behind one lock.
#[derive(Debug)]
pub struct Shared<M> {
    state: Mutex<(M, Core)>,
    /// All are to end.
    is_ending: AtomicBool,
}

impl<M: Mode> Shared<M> {
    pub(super) const fn new(mode: M, core: Core) -> Self {
        Self { state: Mutex::new((mode, core)), is_ending: AtomicBool::new(false) }
    }

    /// Lets `worker` work with what is shared. Nothing that takes long belongs in here.
    pub(super) fn with<R>(
        &self,
        worker: &mut Worker<M>,
        act: impl FnOnce(&mut M, &mut Core, &mut Worker<M>) -> R,
    ) -> R {
        // one who panicked ends the tunnel, by another way
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.enter(worker.number, worker.now);
        let result = act(mode, core, worker);
        worker.ready.extend(core.take_tokens());
        worker.mtu = usize::try_from(core.link.mtu).unwrap_or(usize::MAX);
        result
    }

    /// Lets one who is no worker work with what is shared, as briefly.
    pub(super) fn alone<R>(&self, act: impl FnOnce(&mut M, &mut Core) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.enter(NOBODY, core.now);
        act(mode, core)
    }

    /// A worker has ended; the first ends the others.
    pub(super) fn fail(&self, error: DeviceError) {
        self.alone(|_, core| {
            core.failure.get_or_insert(error);
            core.post_to(0, Token::Bell);
        });
    }

    /// Returns true if all workers are to end.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Tells all workers to end.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.alone(|_, core| (0..core.workers()).for_each(|worker| core.post_to(worker, Token::Bell)));
    }
}
