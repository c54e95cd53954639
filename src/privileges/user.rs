//! The user that the process switches to once everything is open.

use std::fmt;
use std::fs;
use std::str::FromStr;

use caps::Capability;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{
    Gid, Uid, User, getgroups, getresgid, getresuid, setfsuid, setgroups, setresgid, setresuid,
};

use super::error::PrivilegeError;
use super::sets::{raise, read_sets};

/// The capabilities that it takes to switch to another user.
const REQUIRED: [Capability; 2] = [Capability::CAP_SETGID, Capability::CAP_SETUID];

/// A user as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSpec {
    /// The user's name.
    Name(String),
    /// The user's number, with the number of a group if one is given.
    Number(u32, Option<u32>),
}

/// The error for a text that cannot be a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a user, its number, or UID:GID")]
pub struct UserSpecError;

/// A user and a group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserIds {
    uid: Uid,
    gid: Gid,
}

impl FromStr for UserSpec {
    type Err = UserSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // -1 would leave the user or group unchanged
        let number = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX).ok_or(UserSpecError);
        match text.split_once(':') {
            Some((uid, gid)) => Ok(Self::Number(number(uid)?, Some(number(gid)?))),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self::Number(number(text)?, None)),
            None if text.contains(['\0', '/']) => Err(UserSpecError),
            None => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(uid, Some(gid)) => write!(f, "{uid}:{gid}"),
            Self::Number(uid, None) => uid.fmt(f),
        }
    }
}

impl UserIds {
    /// Looks up the user and group of `spec`. Without a group it is the user's own; for a number
    /// without a user, the group of the same number. Queries the system (nsswitch.conf(5)), so call
    /// it before privileges are dropped.
    ///
    /// # Errors
    /// [`PrivilegeError::NoUser`]: there is no user of that name.
    pub(crate) fn look_up(spec: &UserSpec) -> Result<Self, PrivilegeError> {
        let unknown = |source| PrivilegeError::NoUser { user: spec.to_string(), source };
        match spec {
            UserSpec::Name(name) => {
                let user = User::from_name(name).map_err(|error| unknown(Some(error)))?;
                user.map(|user| Self { uid: user.uid, gid: user.gid }).ok_or_else(|| unknown(None))
            }
            UserSpec::Number(uid, Some(gid)) => {
                Ok(Self { uid: Uid::from_raw(*uid), gid: Gid::from_raw(*gid) })
            }
            UserSpec::Number(uid, None) => {
                let known = User::from_uid(Uid::from_raw(*uid)).ok().flatten();
                let gid = known.map_or(Gid::from_raw(*uid), |user| user.gid);
                Ok(Self { uid: Uid::from_raw(*uid), gid })
            }
        }
    }

    /// Returns the user that helper processes switch to; `None` if that is not possible. It is not
    /// `nobody`, which other daemons run as: they could send signals to a helper, and read its
    /// memory in the instant after its start.
    pub(crate) fn helper() -> Option<Self> {
        const HELPER: u32 = 65533;
        Self::from_id(HELPER)
    }

    /// Returns the user and the group of that number if this process may switch to them: it has the
    /// required capabilities, and its user namespace maps them and allows dropping groups.
    fn from_id(number: u32) -> Option<Self> {
        let permitted = read_sets().ok()?.permitted;
        let needed = REQUIRED.into_iter().fold(0, |needed, each| needed | each.bitmask());
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        let may = permitted & needed == needed
            && id_map_contains(&read("uid_map")?, number)
            && id_map_contains(&read("gid_map")?, number)
            && read("setgroups")?.trim() == "allow";
        may.then(|| Self { uid: Uid::from_raw(number), gid: Gid::from_raw(number) })
    }

    /// Returns the number of the user.
    pub(crate) const fn uid(self) -> u32 {
        self.uid.as_raw()
    }

    /// Runs `work` with its new sockets and files owned by `user` (setfsuid(2)), which the process
    /// switches to later. Without a user, or if the process may not change its user, which `switch`
    /// reports, it runs `work` unchanged.
    ///
    /// SO_REUSEPORT compares the owners of sockets, which stay the same when the process switches
    /// to another user. Changing them (fchown(2)) takes CAP_CHOWN, which `--user` does not need
    /// otherwise.
    pub(crate) fn with_socket_owner<T>(user: Option<Self>, work: impl FnOnce() -> T) -> T {
        let Some(user) = user else { return work() };
        // where it is only permitted; `switch` reports any error
        if read_sets().is_ok_and(|sets| sets.permitted & Capability::CAP_SETUID.bitmask() != 0) {
            let _ = raise(Capability::CAP_SETUID);
        }
        let before = setfsuid(user.uid);
        let result = work();
        setfsuid(before);
        result
    }

    /// Runs `work` as this user for the kernel's checks, and for SO_PEERCRED of sockets that it
    /// connects. Afterwards the process is root again. Must be called while this process has one
    /// thread, as root.
    ///
    /// # Errors
    /// The required capabilities are missing, or the kernel refuses: the process may be anyone
    /// then, and must end if it needs what it was before.
    pub(crate) fn act_as<T>(self, work: impl FnOnce() -> T) -> Result<T, PrivilegeError> {
        require_capabilities()?;
        REQUIRED.into_iter().try_for_each(raise)?;
        let refused = |what| move |source: Errno| PrivilegeError::User { what, source };
        let (uids, gids) =
            (getresuid().map_err(refused("getresuid"))?, getresgid().map_err(refused("getresgid"))?);
        let groups = getgroups().map_err(refused("getgroups"))?;
        setgroups(&[]).map_err(refused("setgroups"))?;
        setresgid(gids.real, self.gid, gids.saved).map_err(refused("setresgid"))?;
        setresuid(uids.real, self.uid, uids.saved).map_err(refused("setresuid"))?;
        let result = work();
        // the kernel raises the effective capabilities again with the user id
        setresuid(uids.real, uids.effective, uids.saved).map_err(refused("setresuid"))?;
        setresgid(gids.real, gids.effective, gids.saved).map_err(refused("setresgid"))?;
        setgroups(&groups).map_err(refused("setgroups"))?;
        Ok(result)
    }

    /// Checks that the process may switch to this user later, before anything is opened.
    ///
    /// # Errors
    /// The required capabilities are missing.
    pub(crate) fn require_permission(self) -> Result<(), PrivilegeError> {
        if self.verify().is_ok() { Ok(()) } else { require_capabilities() }
    }

    /// Switches to this user, without any other group, and keeps the permitted capabilities.
    ///
    /// # Errors
    /// The required capabilities are missing, or the kernel refuses.
    pub(super) fn switch(self) -> Result<(), PrivilegeError> {
        if self.verify().is_ok() {
            return Ok(());
        }
        require_capabilities()?;
        REQUIRED.into_iter().try_for_each(raise)?;
        let refused = |what| move |source: Errno| PrivilegeError::User { what, source };
        prctl::set_keepcaps(true).map_err(refused("prctl(PR_SET_KEEPCAPS)"))?;
        setgroups(&[]).map_err(refused("setgroups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(refused("setresgid"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(refused("setresuid"))?;
        prctl::set_keepcaps(false).map_err(refused("prctl(PR_SET_KEEPCAPS)"))
    }

    /// Verifies that the process runs as this user in every respect: user ids, group ids and
    /// groups.
    pub(super) fn verify(self) -> Result<(), PrivilegeError> {
        let refused = |what| move |source: Errno| PrivilegeError::User { what, source };
        let uids = getresuid().map_err(refused("getresuid"))?;
        let gids = getresgid().map_err(refused("getresgid"))?;
        let groups = getgroups().map_err(refused("getgroups"))?;
        let is_own = |group: &Gid| *group == self.gid;
        let found = [uids.real, uids.effective, uids.saved].map(Uid::as_raw);
        let found_groups = [gids.real, gids.effective, gids.saved].map(Gid::as_raw);
        if found == [self.uid.as_raw(); 3]
            && found_groups == [self.gid.as_raw(); 3]
            && groups.iter().all(is_own)
        {
            return Ok(());
        }
        Err(PrivilegeError::Verify {
            what: "the user",
            expected: format!("{}:{}", self.uid, self.gid),
            found: format!("{found:?}:{found_groups:?} and the groups {groups:?}"),
        })
    }
}

/// Checks that the capabilities that switching takes are permitted.
fn require_capabilities() -> Result<(), PrivilegeError> {
    let permitted = read_sets()?.permitted;
    match REQUIRED.into_iter().find(|needed| permitted & needed.bitmask() == 0) {
        Some(needed) => Err(PrivilegeError::CannotChangeUser { needed }),
        None => Ok(()),
    }
}

/// Returns true if the text of a `uid_map` or `gid_map` (user_namespaces(7)) includes `id`.
fn id_map_contains(text: &str, id: u32) -> bool {
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => {
                id.checked_sub(first).is_some_and(|offset| offset < count)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_user_or_not() {
        assert!(id_map_contains("         0          0 4294967295\n", 65534));
        assert!(id_map_contains("0 1000 1\n1 100000 65536\n", 65534));
        for text in ["", "0 1000 1\n", "0 100000 65534\n", "65535 7 9", "nonsense", "0 0"] {
            assert!(!id_map_contains(text, 65534), "{text}");
        }
    }

    #[test]
    fn a_user_is_a_name_or_numbers() {
        let parsed = |text: &str| text.parse::<UserSpec>();
        assert_eq!(parsed("nobody"), Ok(UserSpec::Name("nobody".to_owned())));
        assert_eq!(parsed("65534"), Ok(UserSpec::Number(65534, None)));
        assert_eq!(parsed("1:2"), Ok(UserSpec::Number(1, Some(2))));
        for wrong in ["", "1:", ":1", "a:b", "1:2:3", "4294967295", "99999999999", "/etc/passwd", "a\0"] {
            assert_eq!(parsed(wrong), Err(UserSpecError), "{wrong:?}");
        }
        assert_eq!(parsed("1:2").unwrap().to_string(), "1:2");
    }

    #[test]
    fn a_user_is_looked_up() {
        let of = |text: &str| UserIds::look_up(&text.parse().unwrap());
        let root = UserIds { uid: Uid::from_raw(0), gid: Gid::from_raw(0) };
        assert_eq!(of("root").unwrap(), root);
        assert_eq!(of("0").unwrap(), root);
        let numbers = UserIds { uid: Uid::from_raw(7), gid: Gid::from_raw(9) };
        assert_eq!(of("7:9").unwrap(), numbers);
        // a number without a user
        assert_eq!(of("3999999999").unwrap().gid, Gid::from_raw(3_999_999_999));
        let error = of("no-such-user").unwrap_err().to_string();
        assert!(error.contains("no-such-user") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn another_user_is_told() {
        let error = UserIds { uid: Uid::from_raw(4_000_000_000), gid: Gid::from_raw(7) }.verify();
        assert!(matches!(error, Err(PrivilegeError::Verify { what: "the user", .. })));
    }
}
