//! Capabilities: what the program needs, and the proof that it keeps nothing else.
//!
//! The program needs CAP_NET_ADMIN, for as long as it runs: the tun's ioctls and netlink ask for it. It opens
//! what it needs, then calls [`drop_all_but_net_admin`], which does not trust the calls that it makes: the
//! kernel is asked for every set afterwards, by another way than the sets were changed. With --user it also becomes
//! somebody else ([`Identity`]).

mod identity;
pub mod setcap;

use std::io;
use std::path::{Path, PathBuf};

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use tracing::warn;

pub use self::identity::{Identity, UserSpec, UserSpecError};
use crate::sys::{capability, process};

/// Why the program does not have, or cannot give up, what it should.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The program was started without CAP_NET_ADMIN.
    #[error(
        "CAP_NET_ADMIN is missing: run it as root (sudo), or a copy of {} that only its group may start (mode 0750) \
         after `sudo setcap cap_net_admin=ep COPY`, or with AmbientCapabilities=CAP_NET_ADMIN under systemd, or with --cap-add=NET_ADMIN under docker",
        quoted(.program)
    )]
    Missing {
        /// The program's own file.
        program: PathBuf,
    },
    /// A user whose capability is the program's wants what concerns all users of the host.
    #[error(
        "{what} is refused: it changes the network for all users of this host, and the right to do so comes from this \
         program's file (setcap), hence to whoever may start it: run it as root (sudo) or as a service"
    )]
    Setcap {
        /// The command, option or address.
        what: String,
    },
    /// The host's devices or routes are not known, and might be led elsewhere.
    #[error(
        "the host's devices and routes cannot be read from /proc/self/net ({0}), and a program with capabilities of its \
         own file (setcap) takes only what nobody else has: mount /proc, or run it as root (sudo)"
    )]
    Network(io::Error),
    /// Capabilities belong to threads: another thread would keep what this one drops.
    #[error(
        "capabilities cannot be dropped in a process with {count} threads, only with one: \
         this is a fault in wontun, please report it"
    )]
    Threads {
        /// Threads found in /proc/self/task.
        count: usize,
    },
    /// The kernel did not tell a capability set.
    #[error("the {set} capability set cannot be read; the sandbox (seccomp) must allow capget and prctl")]
    Read {
        /// The set's name.
        set: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not change a capability set.
    #[error("the {set} capability set cannot be changed; the sandbox (seccomp) must allow capset and prctl")]
    Change {
        /// The set's name.
        set: &'static str,
        /// What the kernel said.
        source: CapsError,
    },
    /// The kernel did not take a capability out of the bounding set.
    #[error(
        "{} cannot be dropped from the bounding capability set; the sandbox (seccomp) must allow prctl",
        names(1 << .number)
    )]
    Bounding {
        /// The capability's number, below 64.
        number: u8,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such user.
    #[error("--user {user}: {}; give the name of a user of this system, its number, or UID:GID",
        .source.map_or_else(|| "there is no such user".to_owned(), |error| error.to_string()))]
    NoUser {
        /// Who was asked for.
        user: String,
        /// What the system said.
        source: Option<Errno>,
    },
    /// The program was started without what --user needs.
    #[error(
        "{needed} is missing, which --user needs: start it as root with CAP_SETUID and CAP_SETGID \
         (docker run --cap-add SETUID --cap-add SETGID), or as that user at once and without --user"
    )]
    CannotChangeUser {
        /// The first that is missing.
        needed: Capability,
    },
    /// The kernel did not change the user.
    #[error("the user cannot be changed ({what}); a user namespace or the sandbox (seccomp) forbids it")]
    User {
        /// The call.
        what: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// The kernel did not set or tell an attribute of the process.
    #[error("the process attribute {attribute} cannot be set; the sandbox (seccomp) must allow prctl")]
    Attribute {
        /// `no_new_privs` or `dumpable`.
        attribute: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// Everything was changed without an error, and yet the kernel tells another tale.
    #[error(
        "after the privilege drop the kernel reports {what} = {found} where {expected} was set: \
         this system cannot be trusted to confine wontun, please report it"
    )]
    Verify {
        /// The set or attribute that differs.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What was read back.
        found: String,
    },
}

/// Keeps the memory of this process out of core files and from debuggers of the same user: commands have keys in it.
/// A kernel that does not do it has nothing to lose by.
pub fn hide_memory() {
    forbid_core_files();
    let _ = prctl::set_dumpable(false);
}

/// No core files (RLIMIT_CORE), for this process and those that it starts: it has keys in memory. Lowering a limit is
/// allowed to everybody.
pub fn forbid_core_files() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// Makes sure that CAP_NET_ADMIN is effective, raising it where it is only permitted.
///
/// # Errors
/// [`PrivilegeError::Missing`], whose one line names the remedies; or the kernel refuses to answer.
pub fn require_net_admin() -> Result<(), PrivilegeError> {
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

/// Gives up every capability but CAP_NET_ADMIN, for this process and all that it could ever start, becomes `user` if
/// there is one, and reads everything back.
///
/// Afterwards the process is not dumpable: most of its /proc/self belongs to root.
///
/// # Errors
/// Whatever could not be given up or does not read back as it should. The program must not go on then.
pub fn drop_all_but_net_admin(user: Option<Identity>) -> Result<(), PrivilegeError> {
    drop_to(&CapsHashSet::from([Capability::CAP_NET_ADMIN]), 0, user)
}

/// Gives up every capability, for a child process that needs none, becomes `user` if there is one, and reads everything
/// back.
///
/// # Errors
/// As [`drop_all_but_net_admin`].
pub fn drop_everything(user: Option<Identity>) -> Result<(), PrivilegeError> {
    drop_to(&CapsHashSet::new(), 0, user)
}

/// As [`drop_everything`], for a process that executes this program's own file once more. If that
/// has a capability (setcap), the kernel refuses to execute it (EPERM) once the bounding set is
/// without it, although `no_new_privs` keeps it from being gained: then CAP_NET_ADMIN stays in the
/// bounding set.
///
/// # Errors
/// As [`drop_all_but_net_admin`].
pub fn drop_everything_and_execute(user: Option<Identity>) -> Result<(), PrivilegeError> {
    let mut value = [0_u8; 64];
    let has_capability = rustix::fs::getxattr("/proc/self/exe", "security.capability", &mut value).is_ok();
    let bounding = if has_capability { Capability::CAP_NET_ADMIN.bitmask() } else { 0 };
    drop_to(&CapsHashSet::new(), bounding, user)
}

/// Leaves `keep`, and in the bounding set also `bounding`.
fn drop_to(keep: &CapsHashSet, bounding: u64, user: Option<Identity>) -> Result<(), PrivilegeError> {
    match process::thread_count() {
        Some(1) => {}
        Some(count) => return Err(PrivilegeError::Threads { count }),
        None => warn!("/proc is not mounted: nobody can check that the capability drop covers all threads"),
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
    user.map_or(Ok(()), Identity::assume)?;
    // Effective before permitted, which must contain it.
    change("effective", caps::set(None, CapSet::Effective, keep))?;
    change("inheritable", caps::clear(None, CapSet::Inheritable))?;
    change("permitted", caps::set(None, CapSet::Permitted, keep))?;
    attribute("no_new_privs", prctl::set_no_new_privs())?;
    attribute("dumpable", prctl::set_dumpable(false))?;

    verify(kept, bounding)?;
    user.map_or(Ok(()), Identity::verify)
}

/// Takes everything but `kept` out of the bounding set, capabilities included that no crate has a name for.
/// Returns what it should hold now.
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

fn raise(capability: Capability) -> Result<(), PrivilegeError> {
    change("effective", caps::raise(None, CapSet::Effective, capability))
}

fn read_sets() -> Result<capability::Sets, PrivilegeError> {
    capability::sets().map_err(|source| PrivilegeError::Read { set: "effective", source })
}

fn read(set: &'static str, how: fn() -> io::Result<u64>) -> Result<u64, PrivilegeError> {
    how().map_err(|source| PrivilegeError::Read { set, source })
}

fn change(set: &'static str, result: Result<(), CapsError>) -> Result<(), PrivilegeError> {
    result.map_err(|source| PrivilegeError::Change { set, source })
}

fn attribute<T>(attribute: &'static str, result: nix::Result<T>) -> Result<T, PrivilegeError> {
    result.map_err(|source| PrivilegeError::Attribute { attribute, source })
}

fn mask(capabilities: &CapsHashSet) -> u64 {
    capabilities.iter().fold(0, |mask, capability| mask | capability.bitmask())
}

/// The names of the capabilities in `mask`, lowest number first; `none` for the empty set.
fn names(mask: u64) -> String {
    let known = caps::all();
    let names: Vec<_> = (0..64_u8)
        .filter(|number| mask & 1 << number != 0)
        .map(|number| match known.iter().find(|capability| capability.index() == number) {
            Some(capability) => capability.to_string(),
            None => format!("capability {number}"),
        })
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

/// A path as a shell takes it, on one line whatever it is made of.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    if text.chars().all(plain) { text.into_owned() } else { format!("{text:?}") }
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
    fn what_is_missing_comes_with_every_remedy_on_one_line() {
        let line = PrivilegeError::Missing { program: PathBuf::from("/usr/bin/wontun") }.to_string();
        for remedy in [
            "root (sudo)",
            "a copy of /usr/bin/wontun that only its group may start (mode 0750)",
            "`sudo setcap cap_net_admin=ep COPY`",
            "AmbientCapabilities=CAP_NET_ADMIN",
            "--cap-add=NET_ADMIN",
        ] {
            assert!(line.contains(remedy), "{line}");
        }
        let odd = PrivilegeError::Missing { program: PathBuf::from("/a b\n/w") }.to_string();
        assert!(odd.contains(r#"a copy of "/a b\n/w" that"#) && odd.lines().count() == 1, "{odd}");
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
