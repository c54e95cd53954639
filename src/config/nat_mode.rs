//! NAT for the peers of a tunnel.

/// Forwarding and address translation for the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NatMode {
    /// Enable forwarding and NAT, unless a peer has the default route.
    Auto,
    /// Leave forwarding and NAT to other tools.
    #[default]
    Off,
}
