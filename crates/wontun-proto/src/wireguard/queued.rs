//! Handshake messages that wait in the queue or in the backlog.

use super::message::{Initiation, Response};

/// Maximum number of handshake messages that wait, including the backlog.
pub const MAX_QUEUED: usize = 4096;

/// A handshake message that waits to be processed.
#[derive(Clone, Copy)]
pub(super) enum Handshake {
    Initiation(Initiation),
    Response(Response),
}
