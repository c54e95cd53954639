//! The policy for traffic between a tunnel's peers.

/// Traffic that is allowed between peers, through this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PeerPolicy {
    /// Allow what their allowed IPs allow.
    #[default]
    Open,
    /// Allow nothing; clients reach this host and the networks beyond it.
    Isolate,
}
