//! Errors of reading and changing a server's file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::address::Subnet;
use crate::config::peer_settings::PortForward;
use crate::config::wg_quick::LoadError;
use crate::config::{Cidr, PeerName, TunName};
use crate::exit::{self, ExitCode};
use crate::net::random::RandomError;
use wontun_proto::wireguard::{KeyError, PublicKey};

/// Maximum number of names in a message.
const MAX_LISTED: usize = 20;

/// Error of a setup operation. Nothing was changed unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The file cannot be read or contains an error.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No random bytes for keys.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// There is no such invitation.
    #[error("the invitation was used, taken back, or has expired: ask for a new code")]
    NoInvitation,
    /// The address of an invitation was to change.
    #[error(
        "'{0}' is an invitation, whose code has its address: remove the peer, and invite it with another"
    )]
    InvitationAddress(String),
    /// The peer is an invitation.
    #[error(
        "'{0}' is an invitation, and no device has a file yet: wait until one is enrolled, or make its file here with \
         'wontun peer renew'"
    )]
    Invitation(String),
    /// The folder does not contain the file.
    #[error("{} does not exist: name the folder of the server's file with --dir; 'wontun serve --endpoint HOST' creates a host's first", .0.display())]
    NoFile(PathBuf),
    /// No folder contains the file, and no server runs.
    #[error(
        "no server {0} is running, and neither /etc/wontun nor /var/lib/wontun has {0}.conf: name the folder of the server's \
         file with --dir; 'wontun serve --endpoint HOST' creates a host's first"
    )]
    NotFound(TunName),
    /// Several servers run.
    #[error("several servers are running ({}): choose one with --tun NAME", .0.join(", "))]
    SeveralServers(Vec<String>),
    /// No permission to read or write.
    #[error("permission denied: cannot {what} {}: run this as root or as the folder's owner", path.display())]
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
        /// Error from the kernel.
        source: io::Error,
        /// A remedy, after a colon; may be empty.
        remedy: &'static str,
    },
    /// The file would change its owner.
    #[error(
        "{} belongs to user {uid} and group {gid}, and its new version cannot be given the same owner ({source}): run this as root or as that user",
        path.display()
    )]
    Owner {
        /// The file, or the folder of a new one.
        path: PathBuf,
        /// User ID of the owner.
        uid: u32,
        /// Group ID of the owner.
        gid: u32,
        /// Error from the kernel.
        source: io::Error,
    },
    /// A file of this name exists and is not overwritten.
    #[error("{} exists: give the name of a file that does not, or remove it", .0.display())]
    Exists(PathBuf),
    /// Another process holds the lock.
    #[error("another process has locked {} for seconds: wait for it, or stop the process that holds {}", path.display(), lock.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// The edited text does not parse to the expected configuration.
    #[error("{} would not parse to the expected configuration after this change: please report it, and change it by hand", .0.display())]
    Edit(PathBuf),
    /// The existing file contradicts an option.
    #[error(
        "{} has {key} = {found}, not {wanted}: omit the option, or edit the file and then the clients' files",
        path.display()
    )]
    Conflict {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value in the file.
        found: String,
        /// The value of the option.
        wanted: String,
    },
    /// Clients would connect to another port than the server listens on.
    #[error(
        "--endpoint has port {port}, but {} has ListenPort = {listen_port}: give the endpoint that port, or, if a router or \
         container engine forwards UDP port {port} to {listen_port}, add --listen-port {listen_port}",
        path.display()
    )]
    OtherPort {
        /// The file.
        path: PathBuf,
        /// UDP port in the file.
        listen_port: u16,
        /// UDP port of the endpoint.
        port: u16,
    },
    /// Two subnets of one address family.
    #[error("--subnet {0} and {1} are of the same address family: give at most one IPv4 and one IPv6 subnet")]
    Subnets(Subnet, Subnet),
    /// A subnet overlaps a network of this host.
    #[error("the subnet {subnet} overlaps {address} of {interface}: choose another, such as --subnet {}", AlternativeSubnet(*subnet))]
    Overlap {
        /// The subnet of the VPN.
        subnet: Subnet,
        /// The address of the interface.
        address: Cidr,
        /// The name of the interface.
        interface: String,
    },
    /// Two port forwards of the same port.
    #[error("the port {forward} leads to {other} already: choose another port, or remove that forward")]
    SameForward {
        /// The port forward.
        forward: PortForward,
        /// The peer that has the port.
        other: String,
    },
    /// A port forward of the tunnel's own port.
    #[error("the port {0} is the one that clients connect to: choose another port")]
    ForwardOfTunnel(PortForward),
    /// Another peer has this name.
    #[error(
        "there is a peer '{0}' already: choose another name, or remove it first with 'wontun peer remove'"
    )]
    NameTaken(PeerName),
    /// The public key is invalid. The message does not contain it: it may be a private key.
    #[error("--public-key: {0}")]
    PublicKey(#[from] KeyError),
    /// The networks that a client sends through the tunnel are not known here.
    #[error(
        "the routes of '{0}' are not known, since it was imported: say whether it sends everything through the tunnel, \
         'wontun peer set {0} --route 0.0.0.0/0,::/0', only what is for the VPN, --route none, or which networks; its \
         present file continues to work"
    )]
    UnknownRoutes(String),
    /// The name of a client cannot be that of a file.
    #[error(
        "the name '{0}' has a '/' and cannot be the name of a file: add that client alone, with --out FILE"
    )]
    NoFileName(String),
    /// No peer has this name or key.
    #[error("there is no peer '{}': {}", wanted.escape_debug(), Known(known))]
    UnknownPeer {
        /// The name or key.
        wanted: String,
        /// The names of all peers; the public key of a peer without a name.
        known: Vec<String>,
    },
    /// Several peers have this name.
    #[error("several peers are called '{wanted}': name one by its public key, {}", Keys(keys))]
    Ambiguous {
        /// The name.
        wanted: String,
        /// The public keys of these peers.
        keys: Vec<PublicKey>,
    },
    /// The file does not contain the endpoint for clients.
    #[error(
        "{} has no endpoint for clients: run 'wontun init --endpoint HOST[:PORT]' once, with the name or address that clients connect to",
        .0.display()
    )]
    NoEndpoint(PathBuf),
    /// The value of `# ClientEndpoint =` or `# ClientDNS =` is invalid.
    #[error("{}: {key}: {error}", path.display())]
    InvalidComment {
        /// The file.
        path: PathBuf,
        /// Key of the comment.
        key: &'static str,
        /// The error in its value.
        error: String,
    },
    /// No address of the server has a network with room for clients.
    #[error("{} has no Address with room for clients: write one with its network's prefix length, such as 10.8.0.1/24", .0.display())]
    NoSubnet(PathBuf),
    /// A peer has no name, under which its client's file is delivered.
    #[error("the peer {0} has no name: give it one first with 'wontun peer rename KEY NAME'")]
    Unnamed(PublicKey),
    /// A peer has no address of its own in the server's networks.
    #[error(
        "the peer {0} has no address in the server's networks: write one into its AllowedIPs, such as 10.8.0.2/32"
    )]
    NoClientAddress(String),
    /// The client's file exceeds the capacity of a QR code.
    #[error("the client's file is too long for a QR code: leave --qr out, and copy the file")]
    TooLongForQr,
}

impl ExitCode for ServerError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Load(error) => error.exit_code(),
            Self::PublicKey(_) | Self::Subnets(..) | Self::SeveralServers(_) => exit::USAGE,
            Self::NotPermitted { .. } | Self::Owner { .. } => exit::NO_PERMISSION,
            Self::NoFile(_)
            | Self::NotFound(_)
            | Self::Conflict { .. }
            | Self::OtherPort { .. }
            | Self::InvalidComment { .. }
            | Self::NoEndpoint(_)
            | Self::NoSubnet(_)
            | Self::Overlap { .. } => exit::CONFIG,
            _ => exit::FAILURE,
        }
    }
}

/// Displays an alternative subnet of the same family, which may be free.
struct AlternativeSubnet(Subnet);

impl fmt::Display for AlternativeSubnet {
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
        rest.iter().take(MAX_LISTED - 1).try_for_each(|name| write!(f, ", {name}"))?;
        match rest.len().saturating_sub(MAX_LISTED - 1) {
            0 => Ok(()),
            more => write!(f, " and {more} more, see 'wontun peer list'"),
        }
    }
}

struct Keys<'a>(&'a [PublicKey]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for key in self.0.iter().take(MAX_LISTED) {
            write!(f, "{separator}{key}")?;
            separator = " or ";
        }
        Ok(())
    }
}
