//! From an empty folder to clients that connect: `wontun init`, `serve` and `peer`.

mod files;
mod killed;
mod places;
mod running;
pub(crate) mod server;
mod story;
