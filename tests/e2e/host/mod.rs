//! A host that changes: others remove what is the tunnel's, and it comes back.

mod events;
mod flushed;
mod hostile;
mod leak;
mod many;
mod older;
mod pieces;
mod random;
mod snapshot;
mod stage;
mod times;
