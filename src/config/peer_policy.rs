//! The policy for traffic between a tunnel's peers.

/// Traffic that is allowed between peers, through this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PeerPolicy {
    /// Everything that their allowed IPs allow.
    #[default]
    Open,
    /// Nothing: each reaches this host and what is beyond it.
    Isolate,
}
