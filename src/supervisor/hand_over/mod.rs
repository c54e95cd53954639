//! Hand-over of a running tunnel to another process on the same host, such as a newer version of
//! this program, without losing a packet or a session.
//!
//! The running process (the *predecessor*) listens on an abstract unix socket. The other one (the
//! *successor*, started with `--take-over`) connects, receives duplicates of the TUN device's
//! queues and of the UDP sockets, and prepares everything else while the predecessor still carries
//! packets. Then:
//!
//! 1. The successor requests the sessions. The predecessor's tunnel process stops all workers,
//!    writes the sessions to a memfd and seals it. From now on packets wait in the queues.
//! 2. The successor's tunnel process reads the memfd. If it cannot, it starts without sessions: the
//!    peers have to handshake again.
//! 3. The successor announces that it is ready. The predecessor confirms, which it cannot take
//!    back, and ends. Only after the confirmation does the successor encrypt anything.
//! 4. The predecessor leaves its routes, rules and tables in place. Once it has ended, the
//!    successor makes them its own.
//!
//! If the successor ends before step 3, the predecessor continues with its sessions, which nobody
//! else has used. The memfd is never in a file system, and exists only between steps 1 and 3: the
//! sessions in it would otherwise be used twice after a kill of the process that has them.
//!
//! Each side checks the user of the other (SO_PEERCRED): root or its own.

mod listener;
mod messages;
mod predecessor;
mod source;
mod state;
mod store;
mod successor;
mod take_over;

pub(crate) use messages::ModeOffer;
pub(super) use predecessor::Inheritance;
pub(crate) use predecessor::{Predecessor, TakeOverError};
pub(crate) use source::TakeOverSource;
pub(super) use state::{HandOver, InheritedListeners};
pub(crate) use store::Stored;
