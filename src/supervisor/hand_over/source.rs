//! Source of a tunnel that is taken over.

use super::predecessor::{Inheritance, Predecessor};
use super::store::Stored;

/// The process that runs the tunnel, or a service manager that keeps it.
#[derive(Debug)]
pub(crate) enum TakeOverSource {
    /// A running process.
    Process(Predecessor),
    /// A service manager.
    Store(Stored),
}

impl TakeOverSource {
    /// Returns the tunnel's resources, once.
    pub(in crate::supervisor) fn take_inheritance(&mut self) -> Option<Inheritance> {
        match self {
            Self::Process(predecessor) => predecessor.take_inheritance(),
            Self::Store(stored) => stored.take_inheritance(),
        }
    }
}
