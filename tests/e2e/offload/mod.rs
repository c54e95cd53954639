//! Super-packets on both sides of the tunnel: they arrive intact, with offloads and where the
//! kernel refuses them.

mod clamp;
mod datagrams;
mod devices;
mod encapsulated;
mod mtu;
mod narrow;
mod refused;
mod slow_link;
mod streams;
mod waiting;
