//! Limit on the packets of one turn.

/// Packets or datagrams that one descriptor may hand over in one turn, junk included; a super-packet counts as all that
/// are in it.
pub(super) const BUDGET: usize = 128;

/// What a handler left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: the next edge will tell.
    Drained,
    /// Perhaps more: the budget ended first.
    More,
}
