//! State of the host that the tunnel needs: compared with what is wanted whenever the kernel
//! reports a change, and put back.
//!
//! [`Piece`] is the list of what wontun sets up itself. It is derived from the configuration and
//! the peers by whoever sets it up, which keeps what is wanted: the device and its addresses by
//! [`Link`](crate::link::Link), routes and rules by [`Routes`](crate::link::Routes), tables and
//! settings by [`Nat`](crate::link::Nat), [`Guard`](crate::link::Guard) and
//! [`KillSwitch`](crate::link::KillSwitch). [`Need`] is the list of what is relied on and belongs
//! to others: it is reported and left alone.
//!
//! What was compared is the kernel's state at that moment, never what an event said; so events may
//! come late, twice or, after an overrun, not at all.

mod compare;
mod limit;
mod piece;
mod reconciler;

pub(super) use piece::{Compared, Need, Piece};
pub(super) use reconciler::Reconciler;
