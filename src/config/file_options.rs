//! Options of a tunnel that its configuration file does not contain.

use super::wg_quick::Hooks;
use super::{AdminSettings, ApplyDns, DnsUpstreams, NatMode, PeerPolicy, StateFileOption};
use wontun_proto::allowed_ips::Prefix;

/// Options of a tunnel that a configuration file describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// Treatment of hooks in the file.
    pub hooks: Hooks,
    /// Forwarding and NAT for the peers.
    pub nat: NatMode,
    /// Link-local networks that the peers may reach through NAT.
    pub nat_allow: Vec<Prefix>,
    /// The policy for peers without rules; `None` for the one in the file.
    pub policy: Option<PeerPolicy>,
    /// True if DNS queries may bypass the tunnel temporarily when an endpoint name cannot be
    /// resolved otherwise.
    pub dns_bypass: bool,
    /// Method to apply the file's name servers to this host.
    pub apply_dns: ApplyDns,
    /// Name servers for the names that the peers look up.
    pub dns_upstream: DnsUpstreams,
    /// File that keeps the state of peers over a restart.
    pub state: StateFileOption,
    /// The admin page, if it is served.
    pub admin: Option<AdminSettings>,
    /// True if invitations are answered.
    pub invitations: bool,
}
