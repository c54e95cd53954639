//! Several workers: clients are spread over them, flows are not, and what concerns all of them
//! does.

pub(crate) mod lab;
mod life;
mod order;
mod spread;
