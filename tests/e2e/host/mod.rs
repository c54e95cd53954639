//! A host that changes: others remove what is the tunnel's, and it comes back.

mod actor;
mod events;
mod flushed;
mod leak;
mod many;
mod older;
mod pieces;
mod random;
mod snapshot;
mod stage;
mod times;
