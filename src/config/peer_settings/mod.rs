//! Settings of a peer that `wg-quick` has no key for: comments `# KEY = VALUE` of its section,
//! which other programs ignore.
//!
//! | Comment | Value |
//! |---|---|
//! | `Allow`, `Deny` | list of targets: what the peer may reach, and may not |
//! | `AllowFrom` | list of targets: who may open connections to the peer |
//! | `Forward` | list of port forwards to the peer |
//! | `Invitation` | end of an invitation: a device may replace the peer's key by its own until then |
//! | `Expires` | end of the peer's access |
//! | `Disabled` | `yes` or `no` |
//! | `ClientRoutes` | list of networks that the client's file sends through the tunnel, besides the server's; `unknown` if the file was made elsewhere |
//! | `ClientDNS` | name servers of the client's file, or `none` |
//! | `ClientMTU` | MTU of the client's file |
//! | `ClientKeepalive` | interval of keepalives of the client's file, or `off` |
//! | `RateUp`, `RateDown` | rate from and to the peer |
//! | `Quota` | traffic of both directions per day or month |
//! | `OverQuota` | treatment of the peer once its quota is used up |
//! | `Owner` | name of the person to whom the peer belongs |
//! | `Note` | text |

mod client;
mod comment;
mod entered;
mod error;
mod exclusion;
mod expiry;
mod forward;
mod invitation;
mod limits;
mod note;
mod quota;
mod rate;
mod target;

use std::borrow::Cow;
use std::str::FromStr;

use super::{ClientDns, NetworkError, OwnerName};
pub use client::{ClientKeepalive, ClientMtu, ClientSettings};
pub use comment::PeerComment;
pub use error::SettingError;
pub use exclusion::{ExcludedPeer, Exclusion};
pub use expiry::Expiry;
pub use forward::PortForward;
pub use invitation::RESPONDER_PORT;
pub use limits::PeerLimits;
pub use note::Note;
pub use quota::{OverQuota, Quota, QuotaPeriod};
pub use rate::Rate;
pub use target::{Destination, Ports, Protocol, Target};

/// Settings of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSettings {
    /// Targets that the peer may reach; `None` for what the server's policy allows.
    pub allow: Option<Vec<Target>>,
    /// Targets that the peer may not reach, even if they are allowed.
    pub deny: Vec<Target>,
    /// Targets that may open connections to the peer, besides its port forwards; `None` without the
    /// comment.
    pub allow_from: Option<Vec<Target>>,
    /// Ports of the server that lead to the peer.
    pub forwards: Vec<PortForward>,
    /// End of the invitation, of which the peer's key is the one-time key; `None` for a device's
    /// own key. Until a device is enrolled, the rules and port forwards have no effect.
    pub invitation: Option<Expiry>,
    /// End of the peer's access.
    pub expires: Option<Expiry>,
    /// True if the peer has no access.
    pub is_disabled: bool,
    /// Values of the client's file.
    pub client: ClientSettings,
    /// Limits of its traffic.
    pub limits: PeerLimits,
    /// Person to whom the peer belongs, who sees and renews it on the admin page.
    pub owner: Option<OwnerName>,
    /// Text for people.
    pub note: Option<Note>,
}

impl PeerSettings {
    /// No settings.
    pub const NONE: Self = Self {
        allow: None,
        deny: Vec::new(),
        allow_from: None,
        forwards: Vec::new(),
        invitation: None,
        expires: None,
        is_disabled: false,
        client: ClientSettings::NONE,
        limits: PeerLimits::NONE,
        owner: None,
        note: None,
    };

    /// Returns true if the peer has rules of its own: then nobody may open connections to it,
    /// except as [`Self::allow_from`] says.
    pub const fn has_rules(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty() || self.allow_from.is_some()
    }

    /// Returns true if the server's policy does not apply to the peer: it has rules of its own, or
    /// is an invitation, which reaches nothing but the process that enrols devices.
    pub const fn is_restricted(&self) -> bool {
        self.has_rules() || self.invitation.is_some()
    }

    /// Returns the end of the peer's access, if there is one.
    pub fn access_end(&self) -> Option<Expiry> {
        [self.invitation, self.expires].into_iter().flatten().min()
    }

    /// Returns true if there is a setting that the running tunnel acts upon.
    pub fn concerns_tunnel(&self) -> bool {
        Self { owner: None, note: None, client: ClientSettings::NONE, ..self.clone() } != Self::NONE
    }

    /// Sets what the comment `key` says. A list continues that of an earlier comment.
    ///
    /// # Errors
    /// [`SettingError`]: the value is invalid.
    pub fn set(&mut self, key: PeerComment, value: &str) -> Result<(), SettingError> {
        match key {
            PeerComment::Allow => self.allow.get_or_insert_default().extend(targets(key, value)?),
            PeerComment::Deny => self.deny.extend(targets(key, value)?),
            PeerComment::AllowFrom => self.allow_from.get_or_insert_default().extend(targets(key, value)?),
            PeerComment::Forward => {
                for item in items(value) {
                    self.forwards.push(parsed(key, item)?);
                }
            }
            PeerComment::Invitation => self.invitation = Some(parsed(key, value)?),
            PeerComment::Expires => self.expires = Some(parsed(key, value)?),
            PeerComment::Disabled => {
                self.is_disabled = match value {
                    _ if value.eq_ignore_ascii_case("yes") => true,
                    _ if value.eq_ignore_ascii_case("no") => false,
                    _ => return Err(SettingError::new(key, value, "yes or no")),
                }
            }
            PeerComment::ClientRoutes if value.eq_ignore_ascii_case(UNKNOWN) => {
                self.client.has_unknown_routes = true;
            }
            PeerComment::ClientRoutes => {
                for item in items(value) {
                    let wrong = |error: NetworkError| SettingError::new(key, item, error.expected());
                    self.client.routes.push(item.parse().map_err(wrong)?);
                }
            }
            PeerComment::ClientDns => {
                let wrong = |_| SettingError::new(key, value, ClientDns::EXPECTED);
                self.client.dns = Some(value.parse().map_err(wrong)?);
            }
            PeerComment::ClientMtu => self.client.mtu = Some(parsed(key, value)?),
            PeerComment::ClientKeepalive => self.client.keepalive = Some(parsed(key, value)?),
            PeerComment::RateUp => self.limits.rate_up = Some(parsed(key, value)?),
            PeerComment::RateDown => self.limits.rate_down = Some(parsed(key, value)?),
            PeerComment::Quota => self.limits.quota = Some(parsed(key, value)?),
            PeerComment::OverQuota => self.limits.over_quota = Some(parsed(key, value)?),
            PeerComment::Owner => self.owner = Some(parsed(key, value)?),
            PeerComment::Note => self.note = Some(parsed(key, value)?),
        }
        Ok(())
    }

    /// Sets what the comment `key` says, instead of what is set: a list begins anew.
    ///
    /// # Errors
    /// As [`Self::set`]; a list is empty then.
    pub fn replace(&mut self, key: PeerComment, value: &str) -> Result<(), SettingError> {
        if key.is_list() {
            self.remove(key);
        }
        self.set(key, value)
    }

    /// Returns the comments that say something, and their values.
    pub fn entries(&self) -> Vec<(PeerComment, String)> {
        PeerComment::ALL.into_iter().filter_map(|key| Some((key, self.get(key)?))).collect()
    }

    /// Returns the value of the comment `key`; `None` if it says nothing.
    pub fn get(&self, key: PeerComment) -> Option<String> {
        match key {
            PeerComment::Allow => self.allow.as_deref().map(list_or_none),
            PeerComment::Deny => (!self.deny.is_empty()).then(|| list_or_none(&self.deny)),
            PeerComment::AllowFrom => self.allow_from.as_deref().map(list_or_none),
            PeerComment::Forward => (!self.forwards.is_empty()).then(|| list(&self.forwards)),
            PeerComment::Invitation => self.invitation.map(|end| end.to_string()),
            PeerComment::Expires => self.expires.map(|expires| expires.to_string()),
            PeerComment::Disabled => self.is_disabled.then(|| "yes".to_owned()),
            PeerComment::ClientRoutes => match &self.client.routes[..] {
                [] => self.client.has_unknown_routes.then(|| UNKNOWN.to_owned()),
                routes => Some(list(routes)),
            },
            PeerComment::ClientDns => self.client.dns.as_ref().map(ToString::to_string),
            PeerComment::ClientMtu => self.client.mtu.map(|mtu| mtu.to_string()),
            PeerComment::ClientKeepalive => self.client.keepalive.map(|keepalive| keepalive.to_string()),
            PeerComment::RateUp => self.limits.rate_up.map(|rate| rate.to_string()),
            PeerComment::RateDown => self.limits.rate_down.map(|rate| rate.to_string()),
            PeerComment::Quota => self.limits.quota.map(|quota| quota.to_string()),
            PeerComment::OverQuota => self.limits.over_quota.map(|over| over.to_string()),
            PeerComment::Owner => self.owner.as_ref().map(ToString::to_string),
            PeerComment::Note => self.note.as_ref().map(ToString::to_string),
        }
    }
}

/// Parses one value, or one entry of a list. An error of the type is only what was expected, since
/// the value may be a secret.
fn parsed<T: FromStr<Err: Into<Cow<'static, str>>>>(
    key: PeerComment,
    value: &str,
) -> Result<T, SettingError> {
    value.parse().map_err(|expected: T::Err| SettingError::new(key, value, expected))
}

/// The value of `ClientRoutes` of a client whose file was made elsewhere.
const UNKNOWN: &str = "unknown";

fn targets(key: PeerComment, value: &str) -> Result<Vec<Target>, SettingError> {
    if value.eq_ignore_ascii_case(target::NONE) {
        return Ok(Vec::new());
    }
    if items(value).next().is_none() {
        return Err(SettingError::new(key, value, target::EXPECTED));
    }
    items(value).map(|item| item.parse().map_err(|error: &str| SettingError::new(key, item, error))).collect()
}

/// Splits a list at commas.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn list_or_none(targets: &[Target]) -> String {
    if targets.is_empty() { target::NONE.to_owned() } else { list(targets) }
}

#[cfg(test)]
mod tests;
