//! Hosts that change: other programs remove the tunnel's state, and it is restored.

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
