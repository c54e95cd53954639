//! Errors and warnings about a configuration. Each message is one line and never contains a secret.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::amnezia::{IgnoredKeys, IncompatibleKey};
use super::field::{Field, Section};
use crate::config::Cidr;
use crate::config::peer_settings::{PeerComment, PortForward, SettingError};
use wontun_proto::allowed_ips::Prefix;

/// Maximum length in bytes of an unknown name that may be a misspelled key.
const MAX_NAME_LENGTH: usize = 24;

/// An invalid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {kind}", EscapedPath(file))]
pub struct WgQuickError {
    /// The name of the file, as given.
    pub file: PathBuf,
    /// Line number, starting at 1.
    pub line: usize,
    /// The error.
    pub kind: ErrorKind,
}

/// An error in a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// An invalid value.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The key.
        field: Field,
        /// The value, or a description of it.
        found: String,
        /// Description of a valid value.
        expected: Cow<'static, str>,
    },
    /// An unknown key.
    #[error("{}", UnknownKey(name.as_deref(), *nearest, *section))]
    UnknownKey {
        /// The name as written; `None` if it may be part of a secret.
        name: Option<String>,
        /// The most similar key.
        nearest: Option<Field>,
        /// The section that contains it.
        section: Section,
    },
    /// A key of AmneziaWG with a value that is incompatible with plain WireGuard.
    #[error("{}", IncompatibleKey(.0))]
    Amnezia(&'static str),
    /// A key in the wrong section.
    #[error("{0} belongs to {section}, not here: move it below such a line", section = .0.section())]
    Misplaced(Field),
    /// A key before the first section.
    #[error("expected [Interface] or [Peer] before the first key")]
    NoSection,
    /// An unknown section.
    #[error("found the section {0}, expected [Interface] or [Peer]")]
    UnknownSection(String),
    /// A line that is neither a section nor `KEY = VALUE`.
    #[error("{}expected KEY = VALUE, found a line without '='", After(*.0))]
    NoValue(Option<Field>),
    /// Bytes that are not UTF-8 text, outside of a comment.
    #[error("expected UTF-8 text; other bytes are allowed in comments only")]
    NotText,
    /// A key with a single value is given twice.
    #[error("{field} is given twice, first at line {first}: leave one out")]
    Repeated {
        /// The key.
        field: Field,
        /// Line number of the first occurrence.
        first: usize,
    },
    /// Two keys that exclude each other.
    #[error("{field} and {other} (line {first}) are both given: leave one out")]
    Both {
        /// The key of this line.
        field: Field,
        /// The other key.
        other: Field,
        /// Line number of the other key.
        first: usize,
    },
    /// A second `[Interface]` section; the line number of the first.
    #[error("[Interface] is given twice, first at line {0}: merge the sections")]
    SecondInterface(usize),
    /// Two peers with the same public key; the line number of the first.
    #[error("PublicKey: the peer at line {0} has the same key: merge the sections")]
    SamePeer(usize),
    /// A duplicate address of the interface.
    #[error("Address: {address} is given twice, first at line {first}: remove one")]
    SameAddress {
        /// The address.
        address: IpAddr,
        /// Line number of the first occurrence.
        first: usize,
    },
    /// An MTU below the minimum of IPv6.
    #[error("MTU: found {0}, expected at least 1280, since there is an IPv6 Address")]
    MtuTooSmallForIpv6(u32),
    /// A key that `wg-quick` would run as a command.
    #[error("{0} is refused, since wontun never runs commands of a file: remove it, or give --ignore-hooks")]
    Hook(Field),
    /// `SaveConfig = true`, with which `wg-quick` would overwrite the file.
    #[error("SaveConfig is refused, since the file is never written: remove it, or give --ignore-hooks")]
    SaveConfig,
    /// A section without a required key.
    #[error("{section} has no {field}: expected {expected}", section = .0.section(), field = .0,
        expected = .0.expected())]
    Missing(Field),
    /// An invalid setting in a comment of a peer. It is an error, since ignoring a restriction
    /// would grant more than intended.
    #[error("the comment {0}")]
    Comment(SettingError),
    /// The policy in the section of a peer, or touching it.
    #[error("the comment Policy belongs to [Interface]: move it below that line")]
    PolicyOfPeer,
    /// Two port forwards of the same port.
    #[error("the comment Forward of {peer}: {forward} leads to {other} already: remove one")]
    SameForward {
        /// The port forward.
        forward: PortForward,
        /// The peer that has it.
        peer: String,
        /// The peer that has the port already.
        other: String,
    },
    /// A port forward of the port that the tunnel listens on.
    #[error("the comment Forward of {peer}: {forward} is the ListenPort: choose another port")]
    ForwardOfTunnel {
        /// The port forward.
        forward: PortForward,
        /// The peer that has it.
        peer: String,
    },
    /// An invalid policy in a comment of the interface.
    #[error("the comment Policy: found {0}, expected open, isolate or internet-only")]
    Policy(String),
    /// A comment with a single value is given twice.
    #[error("the comment {key} is given twice, first at line {first}: leave one out")]
    RepeatedComment {
        /// The key.
        key: PeerComment,
        /// Line number of the first occurrence.
        first: usize,
    },
    /// A file without an `[Interface]` section.
    #[error("expected an [Interface] section, found the end of the file")]
    NoInterface,
}

impl ErrorKind {
    /// Returns the key that the error is about, if it was given in some way.
    pub(super) const fn field(&self) -> Option<Field> {
        match self {
            Self::Value { field, .. } | Self::Repeated { field, .. } | Self::Both { field, .. } => {
                Some(*field)
            }
            Self::UnknownKey { nearest: field, .. } | Self::NoValue(field) => *field,
            Self::SamePeer(_) => Some(Field::PublicKey),
            Self::Amnezia(_)
            | Self::Misplaced(_)
            | Self::NoSection
            | Self::UnknownSection(_)
            | Self::NotText
            | Self::SecondInterface(_)
            | Self::SameAddress { .. }
            | Self::MtuTooSmallForIpv6(_)
            | Self::Hook(_)
            | Self::SaveConfig
            | Self::Missing(_)
            | Self::Comment(_)
            | Self::Policy(_)
            | Self::PolicyOfPeer
            | Self::SameForward { .. }
            | Self::ForwardOfTunnel { .. }
            | Self::RepeatedComment { .. }
            | Self::NoInterface => None,
        }
    }
}

impl From<IncompatibleKey> for ErrorKind {
    fn from(IncompatibleKey(key): IncompatibleKey) -> Self {
        Self::Amnezia(key)
    }
}

/// A warning about a valid configuration that may not be what the user intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The name of the file, as given.
    pub file: PathBuf,
    /// Line number, starting at 1.
    pub line: usize,
    /// The warning.
    pub notice: Notice,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", EscapedPath(&self.file), self.line, self.notice)
    }
}

/// A warning about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Keys of AmneziaWG whose values are plain WireGuard. At most once per file.
    AmneziaIgnored(IgnoredKeys),
    /// A command that is not run.
    HookIgnored(Field),
    /// An address where a network is expected.
    HostBits {
        /// The address as written.
        given: Cidr,
        /// The network used instead.
        taken: Prefix,
    },
    /// A network of an earlier peer that now belongs to this one.
    Reassigned {
        /// The network.
        prefix: Prefix,
        /// Line number of the other peer's entry.
        first: usize,
    },
    /// A comment of a peer that is probably a misspelled setting.
    SimilarComment {
        /// The key as written.
        name: String,
        /// The key that it resembles.
        nearest: PeerComment,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmneziaIgnored(ignored) => ignored.fmt(f),
            Self::HookIgnored(field) => write!(f, "{field} is ignored, as --ignore-hooks asks"),
            Self::HostBits { given, taken } => {
                write!(f, "AllowedIPs: {given} is an address and not a network; using {taken}")
            }
            Self::SimilarComment { name, nearest } => {
                write!(f, "the comment '{}' is ignored; did you mean {nearest}?", name.escape_debug())
            }
            Self::Reassigned { prefix, first } => {
                write!(
                    f,
                    "AllowedIPs: {prefix} was assigned to another peer at line {first}; it belongs to this peer only"
                )
            }
        }
    }
}

/// Returns a description of a secret value for a message.
pub(super) fn describe_secret(value: &str) -> String {
    match value.chars().count() {
        0 => "nothing".to_owned(),
        44 => "44 characters that are not such a key".to_owned(),
        1 => "1 character".to_owned(),
        length => format!("{length} characters"),
    }
}

/// Returns an unknown key for a message, or `None` if it may be part of a secret: a line of a
/// broken secret can look like a key.
pub(super) fn describe_name(name: &str, value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '-');
    let is_name = !value.is_empty() && name.len() <= MAX_NAME_LENGTH && name.chars().all(plain);
    is_name.then(|| name.to_owned())
}

/// Displays a file name in one line.
struct EscapedPath<'a>(&'a Path);

impl fmt::Display for EscapedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string_lossy().escape_debug().fmt(f)
    }
}

struct UnknownKey<'a>(Option<&'a str>, Option<Field>, Section);

impl fmt::Display for UnknownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, nearest, section) = self;
        match name {
            Some(name) => write!(f, "unknown key '{name}' in {section}")?,
            None => write!(f, "found something that is no key of {section}")?,
        }
        if let Some(nearest) = nearest {
            return write!(f, "; did you mean {nearest}?");
        }
        let mut separator = "; expected one of ";
        for field in Field::ALL.iter().filter(|field| field.section() == *section) {
            write!(f, "{separator}{field}")?;
            separator = ", ";
        }
        Ok(())
    }
}

struct After(Option<Field>);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |field| write!(f, "{field}: "))
    }
}
