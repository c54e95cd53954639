//! State of a tunnel in WireGuard mode.

use std::num::NonZeroU32;

use super::admin::Admin;
use super::bypass::Bypass;
use super::endpoint_cache::EndpointCache;
use super::excluded::Access;
use super::file::ConfigSource;
use super::firewall::Firewall;
use super::invitations::Invitations;
use super::nat64::Nat64;
use super::peers::Peers;
use super::saved_state::SavedState;
use super::uapi::Uapi;
use crate::logging::RateLimit;
use crate::netlink::Routes;
use crate::supervisor::dns::Dns;
use crate::supervisor::names::Names;
use crate::supervisor::socket_budget::SocketBudget;
use crate::supervisor::sockets::Sockets;
use wontun_proto::time::Instant;

/// The supervisor's part of a tunnel in WireGuard mode.
#[derive(Debug)]
pub(crate) struct WireGuard {
    pub(super) peers: Peers,
    pub(super) sockets: Sockets,
    /// Mark of the sockets: the requested one, or the one that the routes need.
    pub(super) mark: Option<NonZeroU32>,
    /// Mark requested by the file or wg(8).
    pub(super) fwmark: Option<NonZeroU32>,
    pub(super) uapi: Uapi,
    pub(super) source: ConfigSource,
    /// The host's routes, if wontun manages them.
    pub(super) routes: Option<Routes>,
    /// Time of the next adaptation of the routes to the peers' addresses; `routed_at` is that of
    /// the last one.
    pub(super) routes_due: Option<Instant>,
    /// Time of the next attempt to use IPv6, which another program has disabled on the device.
    pub(super) ipv6_due: Option<Instant>,
    pub(super) routed_at: Option<Instant>,
    pub(super) firewall: Firewall,
    pub(super) dns: Dns,
    pub(super) admin: Admin,
    pub(super) invitations: Invitations,
    pub(super) endpoint_cache: EndpointCache,
    pub(super) saved_state: SavedState,
    pub(super) access: Access,
    pub(super) bypass: Bypass,
    pub(super) nat64: Nat64,
    pub(super) names: Names,
    /// True once the tunnel process has everything that it needs to run.
    pub(super) is_running: bool,
    pub(super) spare: SocketBudget,
    pub(super) log_limits: LogLimits,
}

/// Rate limits of log lines.
#[derive(Debug)]
pub(super) struct LogLimits {
    pub(super) routes: RateLimit,
    pub(super) ruleset: RateLimit,
    pub(super) route_warnings: RateLimit,
}
