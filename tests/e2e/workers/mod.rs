//! Several workers: clients are spread over them, single flows are not, and settings apply to all
//! of them.

pub(crate) mod lab;
mod life;
mod order;
mod spread;
