//! The user's options as typed and validated values. Parsers reject single values that are invalid;
//! this module rejects invalid combinations.

pub(crate) mod access;
mod admin_settings;
mod api_token;
mod apply_dns;
mod cidr;
mod client_dns;
mod dns_upstream;
mod environment;
mod file_options;
pub(crate) mod invalid_value;
mod kill_switch;
mod mtu;
mod nat_mode;
mod network;
mod owner_name;
mod peer_address;
mod peer_name;
mod peer_policy;
pub mod peer_settings;
mod state_file;
mod tun_name;
pub mod wg_quick;
mod zone_name;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub use admin_settings::{
    AdminName, AdminNameError, AdminProxy, AdminSettings, AdminSettingsError, ProxyField, ProxyFieldError,
};
pub use api_token::{ApiScope, ApiScopeError, ApiScopes, TokenName, TokenNameError};
pub use apply_dns::ApplyDns;
pub use cidr::{Cidr, CidrError};
pub(crate) use client_dns::ClientDns;
pub use dns_upstream::{
    DnsUpstream, DnsUpstreamError, DnsUpstreams, DnsUpstreamsError, TlsIdentity, TlsNameServer,
};
pub(crate) use environment::unknown_variables;
pub(crate) use file_options::FileOptions;
pub(crate) use kill_switch::{AllowedNetwork, KillSwitchMode, KillSwitchOptions};
pub(crate) use mtu::WIREGUARD_MTU;
pub(crate) use nat_mode::NatMode;
pub(crate) use network::{Network, NetworkError};
pub use owner_name::OwnerName;
pub(crate) use peer_address::{DEFAULT_PLAIN_PORT, DEFAULT_WIREGUARD_PORT, PeerAddress, PeerAddressError};
pub(crate) use peer_name::{PeerName, PeerNameError, display_name};
pub(crate) use peer_policy::PeerPolicy;
pub(crate) use state_file::StateFileOption;
pub use tun_name::{FileNameError, TunName, TunNameError};
pub use zone_name::{ZoneName, ZoneNameError, ZoneOption};

use crate::exit::{self, ExitCode};
use wontun_packet::ip;
use wontun_packet::ip::{IPV4_HEADER, IPV6_HEADER};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::plain::Role;

const UDP_HEADER: u32 = 8;
/// Maximum of the IPv4 total length field. An IPv6 packet may be 40 bytes longer, as its payload
/// length does not count the header.
const MAX_IP_LENGTH: u32 = 65_535;
const ETHERNET_MTU: u32 = 1500;

/// Error of a combination of options.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The tun's MTU is out of range.
    #[error("--mtu {mtu} cannot work: expected {min} to {max} bytes{why}")]
    Mtu {
        /// The requested MTU in bytes.
        mtu: u32,
        /// Smallest valid MTU in bytes.
        min: u32,
        /// Largest valid MTU in bytes.
        max: u32,
        /// Reason for the limit; may be empty.
        why: &'static str,
    },
    /// An option that needs `--config` is given without it.
    #[error("{0} has no effect without --config: give the file, or leave it out")]
    NoFile(&'static str),
    /// `--kill-switch-allow` is given without `--kill-switch`.
    #[error(
        "--kill-switch-allow has no effect without --kill-switch ('hold': --kill-switch-for): give both, or leave it out"
    )]
    NoKillSwitch,
    /// `--dns-bypass` is given together with `--kill-switch`.
    #[error(
        "--dns-bypass contradicts --kill-switch: remove one of them, or give a name server with --resolver ADDRESS"
    )]
    BypassedKillSwitch,
    /// A network of `--nat-allow` that is not link-local. Peers reach all other networks without
    /// it.
    #[error(
        "--nat-allow {0} is not link-local: expected a network within 169.254.0.0/16 or fe80::/10, such as 169.254.169.254/32; peers reach all others without it"
    )]
    NotLinkLocal(Cidr),
    /// Settings of the admin page that do not go together.
    #[error(transparent)]
    Admin(#[from] AdminSettingsError),
    /// Name servers for the peers that do not go together.
    #[error(transparent)]
    DnsUpstreams(#[from] DnsUpstreamsError),
    /// Too many name servers.
    #[error("--resolver gives {count} name servers: expected at most {limit}")]
    Resolvers {
        /// Number of name servers given.
        count: usize,
        /// Maximum number of name servers.
        limit: usize,
    },
    /// A kill switch for a tunnel that is not a full tunnel.
    #[error(
        "--kill-switch would block all traffic that does not go through this tunnel: expected a peer with AllowedIPs = 0.0.0.0/0, ::/0 (or one of them) in the file; add it, or leave the option out"
    )]
    NotFullTunnel,
    /// An address is given twice.
    #[error("--address {0} is given twice: leave one out")]
    AddressTwice(Cidr),
    /// An option without effect together with `--no-configure`.
    #[error(
        "{0} has no effect with --no-configure, with which wontun does not configure the device: remove one of the two"
    )]
    NotConfigured(&'static str),
    /// A listen address is given twice, or covered by another listen address.
    #[error("--listen {0} is covered by another --listen: leave one out")]
    ListenTwice(IpAddr),
    /// A link-local listen address, which is ambiguous without an interface.
    #[error("--listen {0} is link-local, which is not supported: listen on :: instead")]
    ListenLinkLocal(IpAddr),
    /// All listen addresses are loopback addresses and the peer's is not.
    #[error(
        "--peer {peer} cannot be reached from --listen {listen}, which is loopback: listen on another address too"
    )]
    ListenLoopback {
        /// The peer's address.
        peer: SocketAddr,
        /// The listen address.
        listen: IpAddr,
    },
    /// No listen address has the address family of the peer.
    #[error(
        "--peer {peer} is {family} but --listen allows no {family} address: add one, such as --listen {any}"
    )]
    Family {
        /// The peer's address.
        peer: SocketAddr,
        /// Name of the address family.
        family: &'static str,
        /// The unspecified address of that family.
        any: IpAddr,
    },
}

impl ExitCode for ConfigError {
    fn exit_code(&self) -> u8 {
        exit::CONFIG
    }
}

/// Parses the networks of `--nat-allow`.
///
/// # Errors
/// `ConfigError::NotLinkLocal` for the first network that is not link-local.
pub fn link_local(allowed: &[Cidr]) -> Result<Vec<Prefix>, ConfigError> {
    let network = |cidr: &Cidr| {
        let within = match cidr.address() {
            IpAddr::V4(address) => address.is_link_local() && cidr.prefix() >= 16,
            IpAddr::V6(address) => address.is_unicast_link_local() && cidr.prefix() >= 10,
        };
        let network = Prefix::new(cidr.address(), cidr.prefix()).filter(|_| within);
        network.ok_or(ConfigError::NotLinkLocal(*cidr))
    };
    allowed.iter().map(network).collect()
}

/// Performance options, common to all protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Number of worker threads, each with queues and sockets of its own; not 0.
    pub workers: usize,
    /// Enables offloads: the kernel joins and splits packets.
    pub offload: bool,
    /// Enables clamping of the MSS in TCP SYN segments to the tunnel's MTU; `None` for the default
    /// of the mode.
    pub clamp_mss: Option<bool>,
}

/// Configuration of a plain tunnel.
#[derive(Clone, Debug)]
pub struct PlainConfig {
    /// Address of the server; `None` for a server.
    pub peer: Option<PeerAddress>,
    /// Name of the tun device.
    pub tun: TunName,
    /// Addresses of the tun device; empty for the default of the role.
    pub addresses: Vec<Cidr>,
    /// MTU of the tun device in bytes; `None` for the MTU that fits an Ethernet path of the outer
    /// address family.
    pub mtu: Option<u32>,
    /// True if wontun sets the addresses and MTU of the device and brings it up.
    pub configure: bool,
    /// Local addresses to listen on; empty for all addresses of both families.
    pub listen: Vec<IpAddr>,
    /// UDP port to listen on; `None` for the default port. A client then falls back to another port
    /// if that one is in use.
    pub listen_port: Option<u16>,
    /// Interval between `hello?` messages of a client that got an answer; zero to send none.
    pub keepalive: Duration,
}

impl PlainConfig {
    /// Validates the combination of options and fills in the default address of the role.
    ///
    /// # Errors
    /// `ConfigError` for the first invalid combination.
    pub fn checked(mut self) -> Result<Self, ConfigError> {
        if !self.configure {
            if !self.addresses.is_empty() {
                return Err(ConfigError::NotConfigured("--address"));
            }
            if self.mtu.is_some() {
                return Err(ConfigError::NotConfigured("--mtu"));
            }
        } else if self.addresses.is_empty() {
            let host = if self.role() == Role::Server { 1 } else { 3 };
            self.addresses.extend(Cidr::new(Ipv4Addr::new(10, 8, 0, host).into(), 24));
        }
        for (place, cidr) in self.addresses.iter().enumerate() {
            if self.addresses.iter().take(place).any(|earlier| earlier.address() == cidr.address()) {
                return Err(ConfigError::AddressTwice(*cidr));
            }
        }
        self.check_listen()?;
        if let Some(PeerAddress::Socket(peer)) = self.peer
            && !self.listens_on(peer.is_ipv4())
        {
            let (family, any): (_, IpAddr) = if peer.is_ipv4() {
                ("IPv4", Ipv4Addr::UNSPECIFIED.into())
            } else {
                ("IPv6", Ipv6Addr::UNSPECIFIED.into())
            };
            return Err(ConfigError::Family { peer, family, any });
        }
        if let Some(mtu) = self.mtu {
            self.check_mtu(mtu)?;
        }
        Ok(self)
    }

    fn check_listen(&self) -> Result<(), ConfigError> {
        for (place, address) in self.listen.iter().enumerate() {
            let others = self.listen.iter().enumerate().filter(|(other, _)| *other != place);
            for (_, other) in others {
                let covers = other.is_unspecified() && other.is_ipv4() == address.is_ipv4();
                if covers || other == address {
                    return Err(ConfigError::ListenTwice(*address));
                }
            }
            if let IpAddr::V6(v6) = address
                && v6.is_unicast_link_local()
            {
                return Err(ConfigError::ListenLinkLocal(*address));
            }
        }
        if let Some(PeerAddress::Socket(peer)) = self.peer {
            let mut family = self.listen.iter().filter(|address| address.is_ipv4() == peer.is_ipv4());
            if let Some(&listen) = family.next()
                && listen.is_loopback()
                && !peer.ip().is_loopback()
                && family.all(IpAddr::is_loopback)
            {
                return Err(ConfigError::ListenLoopback { peer, listen });
            }
        }
        Ok(())
    }

    fn check_mtu(&self, mtu: u32) -> Result<(), ConfigError> {
        let inner_v6 = self.addresses.iter().any(|cidr| cidr.address().is_ipv6());
        let min = if inner_v6 { ip::IPV6_MIN_MTU } else { ip::IPV4_MIN_MTU };
        let max = if self.is_outer_v4() {
            MAX_IP_LENGTH - UDP_HEADER - ipv4_header()
        } else {
            // the IPv6 payload length does not count the header, but the length of the inner packet
            // has 16 bits
            MAX_IP_LENGTH - UDP_HEADER
        };
        let why = if mtu > max {
            ", the largest packet that a UDP datagram can hold"
        } else if inner_v6 {
            ", since IPv6 inside needs 1280"
        } else {
            ""
        };
        if (min..=max).contains(&mtu) { Ok(()) } else { Err(ConfigError::Mtu { mtu, min, max, why }) }
    }

    /// Returns the role: client if there is a peer, else server.
    pub const fn role(&self) -> Role {
        if self.peer.is_some() { Role::Client } else { Role::Server }
    }

    /// Returns the MTU for an outer address family: the configured one, or the one that fits a path
    /// of 1500 bytes.
    pub fn mtu_over(&self, outer_v4: bool) -> u32 {
        let header = if outer_v4 { ipv4_header() } else { ipv6_header() };
        self.mtu.unwrap_or(ETHERNET_MTU - UDP_HEADER - header)
    }

    /// Returns true if the outer addresses are IPv4, as far as the options determine it.
    pub fn is_outer_v4(&self) -> bool {
        match self.peer {
            Some(PeerAddress::Socket(peer)) => peer.is_ipv4(),
            _ => self.listens_on(true),
        }
    }

    fn listens_on(&self, v4: bool) -> bool {
        self.listen.is_empty() || self.listen.iter().any(|address| address.is_ipv4() == v4)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "20 and 40 fit")]
const fn ipv4_header() -> u32 {
    IPV4_HEADER as u32
}

#[expect(clippy::cast_possible_truncation, reason = "20 and 40 fit")]
const fn ipv6_header() -> u32 {
    IPV6_HEADER as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_to_nat_are_link_local() {
        let parse = |text: &str| link_local(&[text.parse().unwrap()]);
        for text in ["169.254.169.254/32", "169.254.0.0/16", "fe80::/10", "fe80::a00/120"] {
            assert_eq!(parse(text).unwrap().len(), 1, "{text}");
        }
        for text in ["169.254.0.0/15", "10.0.0.0/8", "fe80::/9", "::/0"] {
            assert_eq!(parse(text), Err(ConfigError::NotLinkLocal(text.parse().unwrap())));
        }
    }

    fn config() -> PlainConfig {
        PlainConfig {
            peer: None,
            tun: "tun0".parse().unwrap(),
            addresses: Vec::new(),
            mtu: None,
            configure: true,
            listen: Vec::new(),
            listen_port: None,
            keepalive: Duration::from_secs(25),
        }
    }

    fn with_peer(peer: &str) -> PlainConfig {
        PlainConfig { peer: Some(peer.parse().unwrap()), ..config() }
    }

    #[test]
    fn each_role_has_its_address() {
        assert_eq!(config().checked().unwrap().addresses, ["10.8.0.1/24".parse().unwrap()]);
        let client = with_peer("192.0.2.1:19988").checked().unwrap();
        assert_eq!(client.addresses, ["10.8.0.3/24".parse().unwrap()]);
        assert!(PlainConfig { configure: false, ..config() }.checked().unwrap().addresses.is_empty());
    }

    #[test]
    fn the_default_mtu_fits_the_outer_family() {
        assert_eq!(config().mtu_over(true), 1472);
        assert_eq!(config().mtu_over(false), 1452);
        assert!(with_peer("192.0.2.1").is_outer_v4());
        assert!(!with_peer("[2001:db8::1]:1").is_outer_v4());
        assert!(!PlainConfig { listen: vec!["::".parse().unwrap()], ..config() }.is_outer_v4());
    }

    #[test]
    fn an_mtu_that_cannot_work_is_refused() {
        let v4 = |mtu| PlainConfig { mtu: Some(mtu), ..config() }.checked().is_ok();
        assert_eq!([67, 68, 576, 65_507, 65_508, 65_535].map(v4), [false, true, true, true, false, false]);
        let inner_v6 = vec!["fd00::1/64".parse().unwrap()];
        let v6 =
            |mtu| PlainConfig { mtu: Some(mtu), addresses: inner_v6.clone(), ..config() }.checked().is_ok();
        assert_eq!([576, 1279, 1280].map(v6), [false, false, true]);
        let outer = |mtu| PlainConfig { mtu: Some(mtu), ..with_peer("[2001:db8::1]:1") }.checked().is_ok();
        assert_eq!([65_527, 65_528].map(outer), [true, false]);
    }

    #[test]
    fn options_that_contradict_each_other_are_named() {
        let twice = vec!["10.0.0.1/24".parse().unwrap(), "10.0.0.1/16".parse().unwrap()];
        let v4_only = vec!["0.0.0.0".parse().unwrap()];
        let listen = |addresses: &[&str]| addresses.iter().map(|text| text.parse().unwrap()).collect();
        for (config, part) in [
            (
                PlainConfig { listen: listen(&["0.0.0.0", "127.0.0.1"]), ..config() },
                "--listen 127.0.0.1 is covered",
            ),
            (PlainConfig { listen: listen(&["::1", "::1"]), ..config() }, "--listen ::1 is covered"),
            (PlainConfig { listen: listen(&["fe80::1"]), ..config() }, "link-local"),
            (PlainConfig { listen: listen(&["127.0.0.1"]), ..with_peer("192.0.2.1") }, "loopback"),
            (PlainConfig { addresses: twice, ..config() }, "--address 10.0.0.1/16"),
            (PlainConfig { listen: v4_only, ..with_peer("[::1]:1") }, "--listen ::"),
            (PlainConfig { configure: false, mtu: Some(1400), ..config() }, "--mtu"),
            (
                PlainConfig { configure: false, addresses: vec!["10.0.0.1/8".parse().unwrap()], ..config() },
                "--address",
            ),
        ] {
            let said = config.checked().unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
