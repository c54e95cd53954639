//! Capabilities: what the program needs, and the proof that it keeps nothing else.
//!
//! The program needs CAP_NET_ADMIN for as long as it runs: the TUN device's ioctls and netlink ask
//! for it. It opens what it needs, then calls [`drop_all_but_net_admin`], which does not trust the
//! calls that it makes: the kernel is asked for every set afterwards, by another interface than the
//! one that changed the sets. With --user it also changes its user ([`UserIds`]).

mod error;
pub(crate) mod setcap;
mod sets;
mod user;

use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use tracing::warn;

pub(crate) use self::error::PrivilegeError;
use self::error::names;
use self::sets::{change, raise, read, read_sets};
pub(crate) use self::user::{UserIds, UserSpec};
use wontun_sys::{capability, process};

/// Keeps the memory of this process, where commands have keys, out of core files and from debuggers
/// of the same user. A kernel that refuses is left as it is.
pub(crate) fn hide_memory() {
    forbid_core_files();
    let _ = prctl::set_dumpable(false);
}

/// Disables core files (RLIMIT_CORE) for this process and those that it starts: it has keys in
/// memory. Lowering a limit needs no privilege.
pub(crate) fn forbid_core_files() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// Makes sure that CAP_NET_ADMIN is effective, raising it where it is only permitted.
///
/// # Errors
/// [`PrivilegeError::Missing`], whose one line names the remedies; or the kernel refuses to answer.
pub(crate) fn require_net_admin() -> Result<(), PrivilegeError> {
    let sets = read_sets()?;
    let net_admin = Capability::CAP_NET_ADMIN.bitmask();
    if sets.permitted & net_admin == 0 {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("wontun"));
        return Err(PrivilegeError::Missing { program });
    }
    if sets.effective & net_admin == 0 {
        raise(Capability::CAP_NET_ADMIN)?;
    }
    Ok(())
}

/// Drops every capability but CAP_NET_ADMIN, for this process and all that it could ever start,
/// becomes `user` if there is one, and reads everything back.
///
/// Afterwards the process is not dumpable: most of its /proc/self belongs to root.
///
/// # Errors
/// A privilege could not be dropped, or does not read back as expected. The program must not go on.
pub(crate) fn drop_all_but_net_admin(user: Option<UserIds>) -> Result<(), PrivilegeError> {
    drop_to(&CapsHashSet::from([Capability::CAP_NET_ADMIN]), 0, user)
}

/// Drops every capability, for a child process that needs none, becomes `user` if there is one, and
/// reads everything back.
///
/// # Errors
/// As [`drop_all_but_net_admin`].
pub(crate) fn drop_everything(user: Option<UserIds>) -> Result<(), PrivilegeError> {
    drop_to(&CapsHashSet::new(), 0, user)
}

/// As [`drop_everything`], for a process that executes this program's own file once more. If that
/// has a capability (setcap), the kernel refuses to execute it (EPERM) once the bounding set is
/// without it, although `no_new_privs` keeps it from being gained: then CAP_NET_ADMIN stays in the
/// bounding set.
///
/// # Errors
/// As [`drop_all_but_net_admin`].
pub(crate) fn drop_everything_for_exec(user: Option<UserIds>) -> Result<(), PrivilegeError> {
    let mut value = [0_u8; 64];
    let has_capability = rustix::fs::getxattr("/proc/self/exe", "security.capability", &mut value).is_ok();
    let bounding = if has_capability { Capability::CAP_NET_ADMIN.bitmask() } else { 0 };
    drop_to(&CapsHashSet::new(), bounding, user)
}

/// Leaves `keep`, and in the bounding set also `bounding`.
fn drop_to(keep: &CapsHashSet, bounding: u64, user: Option<UserIds>) -> Result<(), PrivilegeError> {
    match process::thread_count() {
        Some(1) => {}
        Some(count) => return Err(PrivilegeError::Threads { count }),
        None => warn!("/proc is not mounted: cannot verify that the capability drop covers all threads"),
    }
    let kept = mask(keep);

    if read("ambient", capability::ambient)? != 0 {
        change("ambient", caps::clear(None, CapSet::Ambient))?;
    }
    // The bounding set first: afterwards there is no CAP_SETPCAP left to reduce it with.
    let bounding = if read_sets()?.permitted & Capability::CAP_SETPCAP.bitmask() != 0 {
        raise(Capability::CAP_SETPCAP)?;
        Some(reduce_bounding(kept | bounding)?)
    } else {
        None
    };
    // While there are the capabilities to do it. The effective set is lost on the way.
    user.map_or(Ok(()), UserIds::switch)?;
    // Effective before permitted, which must contain it.
    change("effective", caps::set(None, CapSet::Effective, keep))?;
    change("inheritable", caps::clear(None, CapSet::Inheritable))?;
    change("permitted", caps::set(None, CapSet::Permitted, keep))?;
    attribute("no_new_privs", prctl::set_no_new_privs())?;
    attribute("dumpable", prctl::set_dumpable(false))?;

    verify(kept, bounding)?;
    user.map_or(Ok(()), UserIds::verify)
}

/// Removes everything but `kept` from the bounding set, including capabilities that no crate has a
/// name for. Returns the set that it should hold now.
fn reduce_bounding(kept: u64) -> Result<u64, PrivilegeError> {
    let held = read("bounding", capability::bounding)?;
    for number in (0..64_u8).filter(|number| held & !kept & 1 << number != 0) {
        capability::drop_from_bounding(number)
            .map_err(|source| PrivilegeError::Bounding { number, source })?;
    }
    Ok(held & kept)
}

fn verify(kept: u64, bounding: Option<u64>) -> Result<(), PrivilegeError> {
    let sets = read_sets()?;
    compare("the effective capability set", kept, sets.effective)?;
    compare("the permitted capability set", kept, sets.permitted)?;
    compare("the inheritable capability set", 0, sets.inheritable)?;
    compare("the ambient capability set", 0, read("ambient", capability::ambient)?)?;
    if let Some(bounding) = bounding {
        compare("the bounding capability set", bounding, read("bounding", capability::bounding)?)?;
    }
    for (what, expected, found) in [
        ("no_new_privs", true, attribute("no_new_privs", prctl::get_no_new_privs())?),
        ("dumpable", false, attribute("dumpable", prctl::get_dumpable())?),
    ] {
        if expected != found {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(PrivilegeError::Verify { what, expected, found });
        }
    }
    Ok(())
}

fn compare(what: &'static str, expected: u64, found: u64) -> Result<(), PrivilegeError> {
    if expected == found {
        return Ok(());
    }
    Err(PrivilegeError::Verify { what, expected: names(expected), found: names(found) })
}

fn attribute<T>(attribute: &'static str, result: nix::Result<T>) -> Result<T, PrivilegeError> {
    result.map_err(|source| PrivilegeError::Attribute { attribute, source })
}

fn mask(capabilities: &CapsHashSet) -> u64 {
    capabilities.iter().fold(0, |mask, capability| mask | capability.bitmask())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_told_by_name() {
        assert_eq!(names(0), "none");
        assert_eq!(names(1 << 12), "CAP_NET_ADMIN");
        assert_eq!(names(1 << 63 | 1 << 12 | 1), "CAP_CHOWN,CAP_NET_ADMIN,capability 63");
        assert_eq!(
            mask(&CapsHashSet::from([Capability::CAP_NET_ADMIN, Capability::CAP_BPF])),
            1 << 12 | 1 << 39
        );
    }

    #[test]
    fn a_difference_names_the_set_and_what_was_found() {
        assert!(compare("the effective capability set", 1 << 12, 1 << 12).is_ok());
        let line =
            compare("the permitted capability set", 1 << 12, 1 << 12 | 1 << 21).unwrap_err().to_string();
        assert!(
            line.contains("the permitted capability set = CAP_NET_ADMIN,CAP_SYS_ADMIN where CAP_NET_ADMIN")
        );
        let line = compare("the ambient capability set", 0, 1 << 12).unwrap_err().to_string();
        assert!(line.contains("= CAP_NET_ADMIN where none"), "{line}");
    }

    #[test]
    fn a_second_thread_forbids_the_drop() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let second = std::thread::spawn(move || wait.recv());
        for attempt in [drop_all_but_net_admin, drop_everything] {
            assert!(matches!(attempt(None), Err(PrivilegeError::Threads { count: 2.. })));
        }
        drop(done);
        let _ = second.join().unwrap();
    }
}
