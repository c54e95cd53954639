//! What waits in the queue of handshake messages and in the backlog.

use super::message::{Initiation, Response};

/// Handshake messages that may wait, the backlog's included.
pub const MAX_QUEUED: usize = 4096;

/// A handshake message that waits for its turn.
#[derive(Clone, Copy)]
pub(super) enum Handshake {
    Initiation(Initiation),
    Response(Response),
}
