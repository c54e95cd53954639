//! Why a server's file was not read, or not changed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::address::Subnet;
use crate::config::wg_quick::LoadError;
use crate::config::{Cidr, PeerName};
use crate::io::random::NoRandomness;
use crate::routing::Prefix;
use crate::tunnel::wireguard::{KeyError, PublicKey};

/// How many names an error lists.
const LISTED: usize = 20;

/// What could not be done. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file cannot be read, or has an error in it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no randomness to make keys of.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The folder has no file.
    #[error("{} is not there: make it with 'wontun init --endpoint HOST', or name its folder with --dir", .0.display())]
    NoFile(PathBuf),
    /// We may not read or write there.
    #[error("may not {what} {}: run this as root or as the folder's owner", path.display())]
    NotPermitted {
        /// `read` or `write`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}{remedy}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
        /// What to do, after a colon.
        remedy: &'static str,
    },
    /// The file would belong to somebody else than before.
    #[error(
        "{} belongs to user {uid} and group {gid}, which a new version of it cannot be given to ({source}): run this as root or as that user",
        path.display()
    )]
    Owner {
        /// The file, or for a new one its folder.
        path: PathBuf,
        /// Its user's id.
        uid: u32,
        /// Its group's id.
        gid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file that would be overwritten.
    #[error("{} exists: give the name of a file that does not, or remove it", .0.display())]
    Exists(PathBuf),
    /// Somebody else is writing.
    #[error("another process has been changing {} for seconds: wait for it, or stop whoever holds {}", path.display(), lock.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
    },
    /// The file would not say what was meant.
    #[error("{} would say something else than was meant after this change: please report it, and change it by hand", .0.display())]
    Edit(PathBuf),
    /// The file differs from an option about its beginning.
    #[error(
        "{} says {key} = {found}, not {wanted}: leave the option out, or change the file by hand, and the clients' files after it",
        path.display()
    )]
    Different {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: &'static str,
        /// What it says.
        found: String,
        /// What the option says.
        wanted: String,
    },
    /// Two subnets of one family.
    #[error("--subnet {0} and {1} are of one kind: give one IPv4 and one IPv6 subnet at most")]
    Subnets(Subnet, Subnet),
    /// Addresses that this host has elsewhere.
    #[error("the subnet {subnet} overlaps {address} of {interface}: choose another, such as --subnet {}", Other(*subnet))]
    Overlap {
        /// What the VPN would have.
        subnet: Subnet,
        /// What an interface of this host has.
        address: Cidr,
        /// The interface.
        interface: String,
    },
    /// There is such a peer already.
    #[error(
        "there is a peer '{0}' already: choose another name, or remove it first with 'wontun peer remove'"
    )]
    NameTaken(PeerName),
    /// There is a peer with that key already.
    #[error("the peer {0} has that public key already: a client has a key of its own")]
    KeyTaken(String),
    /// A client with the server's own key.
    #[error("that public key is this server's own: give the client's")]
    OwnKey,
    /// What was given as a public key is none. It is not repeated: it may be the other half.
    #[error("--public-key: {0}")]
    PublicKey(#[from] KeyError),
    /// Nobody is called so.
    #[error("there is no peer '{}': {}", wanted.escape_debug(), Known(known))]
    UnknownPeer {
        /// The name or key.
        wanted: String,
        /// The names that there are; keys of peers without one.
        known: Vec<String>,
    },
    /// Several are called so.
    #[error("several peers are called '{wanted}': name one by its public key, {}", Keys(keys))]
    Ambiguous {
        /// The name.
        wanted: String,
        /// Their keys.
        keys: Vec<PublicKey>,
    },
    /// A client would not know where to connect to.
    #[error(
        "{} does not say where clients find this server: run 'wontun init --endpoint HOST[:PORT]' once, with the name or address that they know it by",
        .0.display()
    )]
    NoEndpoint(PathBuf),
    /// What `# ClientEndpoint =` or `# ClientDNS =` says is none.
    #[error("{}: {key}: {error}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// The key of the comment.
        key: &'static str,
        /// What is wrong with its value.
        error: String,
    },
    /// There is no network to take an address from.
    #[error("{} has no Address with room for clients: write one with its network's prefix length, such as 10.8.0.1/24", .0.display())]
    NoSubnet(PathBuf),
    /// All addresses are in use.
    #[error("all addresses of {0} are in use: remove a peer, or change Address to a larger network by hand")]
    Full(Prefix),
    /// The client's file is larger than any QR code.
    #[error("the client's file is too long for a QR code: leave --qr out, and copy the file")]
    TooLongForQr,
}

/// A subnet that may be free.
struct Other(Subnet);

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.prefix().network().is_ipv4() { "10.77.0.0/24" } else { "fd00:77::/64" })
    }
}

struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str("there is none yet, 'wontun peer add NAME' makes one");
        };
        write!(f, "known: {first}")?;
        rest.iter().take(LISTED - 1).try_for_each(|name| write!(f, ", {name}"))?;
        match rest.len().saturating_sub(LISTED - 1) {
            0 => Ok(()),
            more => write!(f, " and {more} more, see 'wontun peer list'"),
        }
    }
}

struct Keys<'a>(&'a [PublicKey]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for key in self.0.iter().take(LISTED) {
            write!(f, "{separator}{key}")?;
            separator = " or ";
        }
        Ok(())
    }
}
