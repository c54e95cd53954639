//! Errors concerning capabilities and users.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{self, ExitCode};
use caps::Capability;
use caps::errors::CapsError;
use nix::errno::Errno;

/// The reason why the program does not have, or cannot drop, its privileges as required.
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
    /// A user who has the capability only through the program's file requests a change that affects
    /// all users of the host.
    #[error(
        "{what} is refused: it changes the network for all users of this host, and this program has file capabilities \
         (setcap), so any user may start it: run it as root (sudo) or as a service"
    )]
    Setcap {
        /// The command, option or address.
        what: String,
    },
    /// The host's devices or routes cannot be read, so the request might redirect other users'
    /// traffic.
    #[error(
        "the host's devices and routes cannot be read from /proc/self/net ({0}), and a program with file \
         capabilities (setcap) must not redirect the traffic of other users: mount /proc, or run it as root (sudo)"
    )]
    Network(io::Error),
    /// The process has several threads. Capabilities belong to threads: another thread would keep
    /// what this one drops.
    #[error(
        "capabilities cannot be dropped in a process with {count} threads, only with one: \
         this is a bug in wontun, please report it"
    )]
    Threads {
        /// Threads found in /proc/self/task.
        count: usize,
    },
    /// The kernel did not return a capability set.
    #[error("the {set} capability set cannot be read; the sandbox (seccomp) must allow capget and prctl")]
    Read {
        /// The set's name.
        set: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel did not change a capability set.
    #[error("the {set} capability set cannot be changed; the sandbox (seccomp) must allow capset and prctl")]
    Change {
        /// The set's name.
        set: &'static str,
        /// The kernel's error.
        source: CapsError,
    },
    /// The kernel did not remove a capability from the bounding set.
    #[error(
        "{} cannot be dropped from the bounding capability set; the sandbox (seccomp) must allow prctl",
        names(1 << .number)
    )]
    Bounding {
        /// The capability's number, below 64.
        number: u8,
        /// The kernel's error.
        source: io::Error,
    },
    /// There is no such user.
    #[error("--user {user}: {}; give the name of a user of this system, its number, or UID:GID",
        .source.map_or_else(|| "there is no such user".to_owned(), |error| error.to_string()))]
    NoUser {
        /// The requested user.
        user: String,
        /// The system's error.
        source: Option<Errno>,
    },
    /// The capabilities that --user needs are missing.
    #[error(
        "{needed} is missing, which --user needs: start it as root with CAP_SETUID and CAP_SETGID \
         (docker run --cap-add SETUID --cap-add SETGID), or as that user at once and without --user"
    )]
    CannotChangeUser {
        /// The first missing capability.
        needed: Capability,
    },
    /// The kernel did not change the user.
    #[error("the user cannot be changed ({what}); a user namespace or the sandbox (seccomp) forbids it")]
    User {
        /// The name of the call that failed.
        what: &'static str,
        /// The kernel's error.
        source: Errno,
    },
    /// The kernel did not set or return an attribute of the process.
    #[error("the process attribute {attribute} cannot be set; the sandbox (seccomp) must allow prctl")]
    Attribute {
        /// `no_new_privs` or `dumpable`.
        attribute: &'static str,
        /// The kernel's error.
        source: Errno,
    },
    /// All changes succeeded, but the kernel reports a different state.
    #[error(
        "after the privilege drop the kernel reports {what} = {found} where {expected} was set: \
         this system cannot be trusted to confine wontun, please report it"
    )]
    Verify {
        /// The set or attribute that differs.
        what: &'static str,
        /// The expected value.
        expected: String,
        /// The value that was read back.
        found: String,
    },
}

impl ExitCode for PrivilegeError {
    fn exit_code(&self) -> u8 {
        if matches!(self, Self::NoUser { .. }) { exit::CONFIG } else { exit::NO_PERMISSION }
    }
}

/// Returns the names of the capabilities in `mask`, lowest number first; `none` for the empty set.
pub(super) fn names(mask: u64) -> String {
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

/// Quotes a path as a shell accepts it, on one line whatever it contains.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    if text.chars().all(plain) { text.into_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
