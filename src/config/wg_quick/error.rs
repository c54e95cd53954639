//! What can be wrong with a configuration, said in one line and without ever repeating a secret.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::amnezia::{Ignored, Refused};
use super::field::{Field, Section};
use crate::config::Cidr;
use crate::routing::Prefix;

/// As many base64 characters in a row may be a part of a key, in whatever place it was pasted.
const MAYBE_SECRET: usize = 20;
/// Longer names are no misspelled keys.
const LONGEST_NAME: usize = 24;
/// Characters of a wrong value that are shown.
const SHOWN: usize = 60;

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {fault}", Shown(file))]
pub struct WgQuickError {
    /// The file's name, as it was given.
    pub file: PathBuf,
    /// The line, the first being 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A value that the key cannot have.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The key.
        field: Field,
        /// The value, or what can be said of it.
        found: String,
        /// What it must be.
        expected: Cow<'static, str>,
    },
    /// A key that there is none of.
    #[error("{}", UnknownKey(name.as_deref(), *nearest, *section))]
    UnknownKey {
        /// What is written; `None` if it might be a part of a secret.
        name: Option<String>,
        /// The key that resembles it most.
        nearest: Option<Field>,
        /// Where it is.
        section: Section,
    },
    /// A key of AmneziaWG with a value that plain WireGuard does not have.
    #[error("{}", Refused(.0))]
    Amnezia(&'static str),
    /// A key where it does not belong.
    #[error("{0} belongs to {section}, not here: move it below such a line", section = .0.section())]
    Misplaced(Field),
    /// A key before any section.
    #[error("expected [Interface] or [Peer] before the first key")]
    NoSection,
    /// A section that there is none of.
    #[error("found the section {0}, expected [Interface] or [Peer]")]
    UnknownSection(String),
    /// A line that is none of the above.
    #[error("{}expected KEY = VALUE, found a line without '='", After(*.0))]
    NoValue(Option<Field>),
    /// Bytes that are no text.
    #[error("expected UTF-8 text; what is not may stand in a comment only")]
    NotText,
    /// A key that can have one value has two.
    #[error("{field} is given twice, first at line {first}: leave one out")]
    Repeated {
        /// The key.
        field: Field,
        /// The line of the first.
        first: usize,
    },
    /// Two keys of which one suffices.
    #[error("{field} and {other} (line {first}) are both given: leave one out")]
    Both {
        /// The key of this line.
        field: Field,
        /// The other.
        other: Field,
        /// Its line.
        first: usize,
    },
    /// A second `[Interface]`.
    #[error("[Interface] is there twice, first at line {0}: make it one section")]
    SecondInterface(usize),
    /// Two peers that are one.
    #[error("PublicKey: the peer at line {0} has the same: make them one section")]
    SamePeer(usize),
    /// An address that the interface has already.
    #[error("Address: {address} is there already, at line {first}: leave one out")]
    SameAddress {
        /// The address.
        address: IpAddr,
        /// The line of the first.
        first: usize,
    },
    /// IPv6 does not work with so small an MTU.
    #[error("MTU: found {0}, expected at least 1280, since there is an IPv6 Address")]
    MtuTooSmallForIpv6(u32),
    /// Something that would be run by a shell, or overwrite the file.
    #[error("{0} is refused, since nothing of a file is ever run: remove it, or give --ignore-hooks")]
    Hook(Field),
    /// As [`Self::Hook`], for what would overwrite the file.
    #[error("SaveConfig is refused, since the file is never written: remove it, or give --ignore-hooks")]
    SaveConfig,
    /// A section without what it must have.
    #[error("{section} has no {field}: expected {expected}", section = .0.section(), field = .0,
        expected = .0.expected())]
    Missing(Field),
    /// A file without an interface.
    #[error("expected an [Interface] section, found the end of the file")]
    NoInterface,
}

impl From<Refused> for Fault {
    fn from(Refused(key): Refused) -> Self {
        Self::Amnezia(key)
    }
}

/// Something that works, but perhaps not as was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file's name, as it was given.
    pub file: PathBuf,
    /// The line, the first being 1.
    pub line: usize,
    /// What is to be said.
    pub notice: Notice,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", Shown(&self.file), self.line, self.notice)
    }
}

/// What is to be said of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// DNS servers are not set. Given once for a file.
    DnsIgnored,
    /// Keys of AmneziaWG whose values mean plain WireGuard. Given once for a file.
    AmneziaIgnored(Ignored),
    /// A hook is not run.
    HookIgnored(Field),
    /// An address where a network is expected.
    HostBits {
        /// What is written.
        given: Cidr,
        /// What it is taken for.
        taken: Prefix,
    },
    /// A network that an earlier peer has, too; it goes to this one.
    Moved {
        /// The network.
        prefix: Prefix,
        /// The line of the other peer's claim.
        first: usize,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DnsIgnored => f.write_str("DNS is ignored: set name servers by other means"),
            Self::AmneziaIgnored(ignored) => ignored.fmt(f),
            Self::HookIgnored(field) => write!(f, "{field} is ignored, as --ignore-hooks asks"),
            Self::HostBits { given, taken } => {
                write!(f, "AllowedIPs: {given} is an address and not a network; taken for {taken}")
            }
            Self::Moved { prefix, first } => {
                write!(
                    f,
                    "AllowedIPs: {prefix} was another peer's at line {first}; it goes to this one alone"
                )
            }
        }
    }
}

/// What may be said of a value in a message.
pub(super) fn shown(value: &str) -> String {
    let length = value.chars().count();
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    if value.is_empty() {
        "nothing".to_owned()
    } else if value.split(|c| !is_base64(c)).any(|run| run.len() >= MAYBE_SECRET) {
        format!("{length} characters, not shown since they may be a secret")
    } else if length > SHOWN {
        let start: String = value.chars().take(SHOWN).collect();
        format!("'{}…'", start.escape_debug())
    } else {
        format!("'{}'", value.escape_debug())
    }
}

/// What may be said of a secret's value in a message.
pub(super) fn hidden(value: &str) -> String {
    match value.chars().count() {
        0 => "nothing".to_owned(),
        44 => "44 characters that are not such a key".to_owned(),
        1 => "1 character".to_owned(),
        length => format!("{length} characters"),
    }
}

/// An unknown key, as far as it may be shown: a line of a broken secret can look like one.
pub(super) fn shown_name(name: &str, value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '-');
    let is_name = !value.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain);
    is_name.then(|| name.to_owned())
}

/// A file's name in one line.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
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
