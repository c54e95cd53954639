//! What of the sandbox the kernel gave.

use std::fmt;
use std::io;

use landlock::{LandlockStatus, RestrictionStatus, RulesetStatus};
use nix::errno::Errno;

/// Whether a part of the sandbox is there.
#[derive(Debug)]
pub enum State {
    /// It is.
    On,
    /// The kernel does not have it.
    Absent,
    /// The kernel has it, but it was not turned on when the host was booted.
    Off,
    /// Somebody keeps us from it, such as the sandbox that we are in.
    Forbidden(io::Error),
    /// Nobody has told what this processor's calls are.
    UnknownProcessor,
}

impl State {
    /// What it means that the kernel refuses it with `error`, which comes back if it means something else.
    pub(super) fn of_refusal(error: io::Error) -> Result<Self, io::Error> {
        match error.raw_os_error().map(Errno::from_raw) {
            // that number of a call, or that of an operation, is not known
            Some(Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Self::Absent),
            Some(Errno::EPERM | Errno::EACCES) => Ok(Self::Forbidden(error)),
            _ => Err(error),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Absent => f.write_str("this kernel does not have it"),
            Self::Off => f.write_str("off on this host (the kernel's lsm= leaves it out)"),
            Self::Forbidden(error) => write!(f, "forbidden here ({error})"),
            Self::UnknownProcessor => f.write_str("not known for this processor"),
        }
    }
}

/// What Landlock does.
#[derive(Debug)]
pub struct Landlock {
    /// Whether it is there.
    pub state: State,
    /// The version of the kernel's interface, 0 where there is none.
    pub abi: i32,
    /// The kernel confines all that was asked for, and not only what its version knows.
    pub is_whole: bool,
}

impl Landlock {
    pub(super) fn new(status: &RestrictionStatus) -> Self {
        let abi = match status.landlock {
            LandlockStatus::Available { effective_abi, kernel_abi } => {
                kernel_abi.unwrap_or(effective_abi as i32)
            }
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        };
        let state = match status.landlock {
            LandlockStatus::NotEnabled => State::Off,
            LandlockStatus::NotImplemented => State::Absent,
            LandlockStatus::Available { .. } if status.ruleset == RulesetStatus::NotEnforced => State::Absent,
            LandlockStatus::Available { .. } => State::On,
        };
        Self { state, abi, is_whole: status.ruleset == RulesetStatus::FullyEnforced }
    }
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.state, self.is_whole) {
            (State::On, true) => write!(f, "on (ABI {})", self.abi),
            (State::On, false) => write!(f, "on as far as this kernel has it (ABI {} of 6)", self.abi),
            (state, _) => state.fmt(f),
        }
    }
}

/// What there is of the sandbox.
#[derive(Debug)]
pub struct Report {
    /// The filter of system calls.
    pub seccomp: State,
    /// The filter of files, TCP and abstract unix sockets.
    pub landlock: Landlock,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_told_from_what_is_forbidden_and_from_what_fails() {
        let state = |errno: Errno| State::of_refusal(errno.into());
        assert!(matches!(state(Errno::ENOSYS), Ok(State::Absent)));
        assert!(matches!(state(Errno::EINVAL), Ok(State::Absent)));
        assert!(matches!(state(Errno::EPERM), Ok(State::Forbidden(_))));
        assert!(state(Errno::ENOMEM).is_err());
    }

    #[test]
    fn it_says_what_a_kernel_has() {
        let landlock = |state, abi, is_whole| Landlock { state, abi, is_whole }.to_string();
        assert_eq!(landlock(State::On, 7, true), "on (ABI 7)");
        assert_eq!(landlock(State::On, 1, false), "on as far as this kernel has it (ABI 1 of 6)");
        assert_eq!(landlock(State::Absent, 0, false), "this kernel does not have it");
    }
}
