//! Whether a tunnel's peers are let out to the rest of the world.

/// Forwarding and address translation for the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NatMode {
    /// On, unless a peer has the default route: then this host is no way out for others.
    Auto,
    /// Off: others see to it, or nobody.
    #[default]
    Off,
}
