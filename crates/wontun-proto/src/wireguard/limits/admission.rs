//! Decisions about packets.

/// Decision about packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They pass now.
    Pass,
    /// They wait.
    Wait,
}

/// Direction of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Direction {
    /// From the peer.
    Up,
    /// To the peer.
    Down,
}
