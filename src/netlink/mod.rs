//! Addresses, MTU, link state and routes of the tunnel device, read and set over netlink.
//!
//! The image contains neither `ip` nor `nft`, so the binary does the work of `ip address add`, `ip
//! link set`, `ip route get` and, for its routes, of wg-quick(8). It uses four sockets:
//!
//! - `Link` sends one request at a time and waits for its acknowledgement. The kernel has carried
//!   out the request when the send returns, so the wait is short; it is bounded nevertheless.
//! - `LinkMonitor` is a non-blocking socket for the event loop that receives every change of a
//!   device. A device that went down and up again has lost its IPv6 addresses: [`Link::restore`]
//!   sets them again.
//! - `PathMonitor` is another one, which becomes readable when datagrams to a peer may take another
//!   path.
//! - `Routes` compares the host's routes and rules with those wanted for the tunnel, and applies
//!   the difference. Where policy routing is needed, it uses one more socket for its few nf_tables
//!   rules.
//!
//! Four more tables of nf_tables are independent of it: `Nat` enables forwarding and NAT for a
//! server's peers, `Guard` drops packets with the tunnel's addresses that come in by another
//! device, `AccessTable` drops what the rules of the peers deny, and `KillSwitch` drops all packets
//! that leave a client except through the tunnel.
//!
//! A packet that the device generates by itself would go through the tunnel and wake the peer
//! without need. [`Link::configure`] prevents such packets: no generated link-local address and no
//! router advertisement accepted (so no router is solicited), no multicast flag and no membership
//! in the all-routers group (so no multicast listener report, and no mDNS from programs that check
//! the flag).
//!
//! Messages of the kernel are parsed attribute by attribute, and only the attributes needed: an
//! unknown or longer attribute of a newer kernel must not keep a tunnel from starting.

mod access;
mod device;
mod error;
mod forwarding;
mod guard;
mod input;
mod interfaces;
mod ipv6_internet;
mod kill_switch;
mod legacy_iptables;
mod message;
mod monitor;
mod nat;
mod nft;
mod overlap;
mod path;
mod ranges;
mod request_error;
mod routes;
mod socket;
mod tun;

pub(crate) use access::AccessTable;
pub(crate) use device::Configured;
pub use device::Link;
pub use error::LinkError;
pub(crate) use guard::{Guard, GuardWarning};
pub(crate) use input::{InputWarning, find_input_drops};
pub(crate) use interfaces::{has_udp_tunnel, local_addresses};
pub(crate) use ipv6_internet::find_ipv6_obstacle;
pub(crate) use kill_switch::{AllowedTraffic, FoundKillSwitch, KillSwitch};
pub(crate) use message::LinkState;
pub(crate) use monitor::{LinkEvent, LinkMonitor};
pub(crate) use nat::{Nat, NatWarning};
pub(crate) use nft::{NftMonitor, RulesetChange};
pub(crate) use overlap::{Overlap, find_overlaps};
pub(crate) use path::{Path, PathMonitor};
pub use routes::{AddedRouting, AppliedRouting, DesiredRouting, RestoreScope, RouteWarning, Routes};
pub(crate) use routes::{RoutingPreview, preview as preview_routing};
pub(crate) use tun::{ExistingLink, TunState, delete, existing_link, rename};

/// Opens the netlink sockets that routes, NAT and the kill switch may need later, if `all` is true,
/// and prevents this process from opening any other: the sandbox kills a process that tries.
pub(crate) fn seal_sockets(all: bool) {
    use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
    socket::seal(if all { &[NETLINK_ROUTE, NETLINK_NETFILTER] } else { &[] });
}
