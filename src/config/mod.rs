//! config
mod cidr;

pub use cidr::{Cidr, CidrError};
