//! Reading and changing the capability sets of this thread.

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability};

use super::error::PrivilegeError;
use wontun_sys::capability;

pub(super) fn raise(capability: Capability) -> Result<(), PrivilegeError> {
    change("effective", caps::raise(None, CapSet::Effective, capability))
}

pub(super) fn read_sets() -> Result<capability::CapabilitySets, PrivilegeError> {
    capability::sets().map_err(|source| PrivilegeError::Read { set: "effective", source })
}

pub(super) fn read(set: &'static str, how: fn() -> io::Result<u64>) -> Result<u64, PrivilegeError> {
    how().map_err(|source| PrivilegeError::Read { set, source })
}

pub(super) fn change(set: &'static str, result: Result<(), CapsError>) -> Result<(), PrivilegeError> {
    result.map_err(|source| PrivilegeError::Change { set, source })
}
