//! Address, MTU, link state and routes of our device, asked of the kernel over netlink.
//!
//! There is no `ip` and no `nft` in the image, so the binary does what `ip address add`, `ip link set`, `ip route
//! get` and, for its routes, wg-quick(8) would. Three sockets do it:
//!
//! - [`Link`] sends one request at a time and waits for its acknowledgement. The kernel has done the work by
//!   the time the send returns, so the wait is a formality; it is bounded all the same.
//! - [`Monitor`] is a non-blocking socket for the event loop that hears of every change of a device. A device
//!   that went down and up again has lost its IPv6 addresses: [`Link::restore`] puts them back.
//! - [`Routes`] compares the host's routes and rules with what is wanted for the tunnel, and makes the difference.
//!   Where policy routing is needed, it has one more socket for its few nf_tables rules.
//!
//! Three more tables of nf_tables stand beside it: [`Nat`] lets a server's peers out to the world,
//! [`Guard`] drops what comes in past the tunnel with its addresses, [`KillSwitch`] lets nothing
//! out of a client but by the tunnel.
//!
//! A packet that the device makes up by itself would go through the tunnel and wake the far end for nothing,
//! so [`Link::configure`] silences it: no generated link-local address and no router advertisement accepted
//! (so no router is solicited), no multicast flag and not in the all-routers group (so no multicast listener
//! report, and no mDNS from those who look at the flag).
//!
//! What the kernel says is read attribute by attribute, and only the attributes that are needed: a newer
//! kernel's unknown or longer attribute must not keep a tunnel from starting.

mod device;
mod error;
mod failure;
mod forwarding;
mod guard;
mod input;
mod interfaces;
mod kill_switch;
mod legacy;
mod message;
mod monitor;
mod nat;
mod nft;
mod overlap;
mod ranges;
mod routes;
mod socket;
mod tun;

pub use device::{Configured, Link};
pub use error::LinkError;
pub use guard::{Guard, GuardWarning};
pub use input::{InputWarning, input_drops};
pub use kill_switch::{FoundKillSwitch, KillSwitch, Pass};
pub use message::LinkState;
pub use monitor::{LinkEvent, Monitor};
pub use nat::{Nat, NatApplied, NatWarning};
pub use nft::{RulesetChange, Watch};
pub use overlap::{Overlap, overlaps};
pub use routes::{Added, Applied, RouteWarning, Routes, Scope, Wanted};
pub use tun::{Occupant, TunState, delete, occupant, rename};

/// Opens the sockets that routes, address translation and the kill switch may yet need, if `all` of that may come, and sees
/// to it that no other is ever opened in this process: for a sandbox that ends whoever tries.
pub fn seal_sockets(all: bool) {
    use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
    socket::seal(if all { &[NETLINK_ROUTE, NETLINK_NETFILTER] } else { &[] });
}
