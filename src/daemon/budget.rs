//! Limits on what is handled per turn.

/// Number of packets or datagrams that one descriptor may deliver per turn, invalid ones included;
/// each packet of a super-packet counts.
pub(super) const BUDGET: usize = 128;

/// Number of bytes after which a descriptor delivers nothing more in a turn: about two
/// super-packets, so that others wait for that long only.
pub(super) const BYTES: usize = 128_000;

/// Result of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left: wait for the next edge.
    Drained,
    /// More may be left: the budget was used up first.
    More,
}
