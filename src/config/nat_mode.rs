//! NAT for the peers of a tunnel.

/// Forwarding and address translation for the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NatMode {
    /// On, unless a peer has the default route: then this host is no way out for others.
    Auto,
    /// Off: others see to it, or nobody.
    #[default]
    Off,
}
