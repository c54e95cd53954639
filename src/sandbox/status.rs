//! The parts of the sandbox that the kernel supports.

use std::fmt;
use std::io;

use landlock::{LandlockStatus, RestrictionStatus, RulesetStatus};
use nix::errno::Errno;

/// State of a part of the sandbox.
#[derive(Debug)]
pub(crate) enum FeatureState {
    /// Engaged.
    On,
    /// Not supported by the kernel.
    Absent,
    /// Supported by the kernel, but not enabled at boot.
    Off,
    /// Refused by the environment, such as a surrounding sandbox.
    Forbidden(io::Error),
    /// The call numbers of this processor are unknown.
    UnknownProcessor,
}

impl FeatureState {
    /// Converts the error of a refused request. Returns the error if it does not indicate a missing
    /// feature or permission.
    pub(super) fn from_refusal(error: io::Error) -> Result<Self, io::Error> {
        match error.raw_os_error().map(Errno::from_raw) {
            // the number of the call or of the operation is unknown
            Some(Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Self::Absent),
            Some(Errno::EPERM | Errno::EACCES) => Ok(Self::Forbidden(error)),
            _ => Err(error),
        }
    }
}

impl fmt::Display for FeatureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Absent => f.write_str("not supported by this kernel"),
            Self::Off => f.write_str("disabled on this host (not in the kernel's lsm= list)"),
            Self::Forbidden(error) => write!(f, "not permitted ({error})"),
            Self::UnknownProcessor => f.write_str("not supported on this architecture"),
        }
    }
}

/// State of Landlock.
#[derive(Debug)]
pub(crate) struct LandlockState {
    /// Landlock's state.
    pub state: FeatureState,
    /// Version of the kernel's interface; 0 for none.
    pub abi: i32,
    /// True if the kernel enforces all requested restrictions; false if its version supports only
    /// some.
    pub is_whole: bool,
}

impl LandlockState {
    pub(super) fn new(status: &RestrictionStatus) -> Self {
        let abi = match status.landlock {
            LandlockStatus::Available { effective_abi, kernel_abi } => {
                kernel_abi.unwrap_or(effective_abi as i32)
            }
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        };
        let state = match status.landlock {
            LandlockStatus::NotEnabled => FeatureState::Off,
            LandlockStatus::NotImplemented => FeatureState::Absent,
            LandlockStatus::Available { .. } if status.ruleset == RulesetStatus::NotEnforced => {
                FeatureState::Absent
            }
            LandlockStatus::Available { .. } => FeatureState::On,
        };
        Self { state, abi, is_whole: status.ruleset == RulesetStatus::FullyEnforced }
    }
}

impl fmt::Display for LandlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.state, self.is_whole) {
            (FeatureState::On, true) => write!(f, "on (ABI {})", self.abi),
            (FeatureState::On, false) => {
                write!(f, "on, as far as this kernel supports it (ABI {} of 6)", self.abi)
            }
            (state, _) => state.fmt(f),
        }
    }
}

/// State of the sandbox.
#[derive(Debug)]
pub(crate) struct SandboxStatus {
    /// The filter of system calls.
    pub seccomp: FeatureState,
    /// The filter of files, TCP and abstract unix sockets.
    pub landlock: LandlockState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_forbidden_and_failing_features_are_distinguished() {
        let state = |errno: Errno| FeatureState::from_refusal(errno.into());
        assert!(matches!(state(Errno::ENOSYS), Ok(FeatureState::Absent)));
        assert!(matches!(state(Errno::EINVAL), Ok(FeatureState::Absent)));
        assert!(matches!(state(Errno::EPERM), Ok(FeatureState::Forbidden(_))));
        assert!(state(Errno::ENOMEM).is_err());
    }

    #[test]
    fn it_says_what_a_kernel_has() {
        let landlock = |state, abi, is_whole| LandlockState { state, abi, is_whole }.to_string();
        assert_eq!(landlock(FeatureState::On, 7, true), "on (ABI 7)");
        assert_eq!(
            landlock(FeatureState::On, 1, false),
            "on, as far as this kernel supports it (ABI 1 of 6)"
        );
        assert_eq!(landlock(FeatureState::Absent, 0, false), "not supported by this kernel");
    }
}
