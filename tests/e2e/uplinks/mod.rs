//! Networks that change under a tunnel: another uplink, another address, IPv6 that comes and goes,
//! a network with NAT64 only, a captive portal, a night's sleep. A client with two uplinks, each
//! with a router of its own, carries packets all the time, and the outage is measured.

mod meter;
mod records;
mod world;

mod calm;
mod moves;
mod nat64;
mod night;
mod plain;
mod portal;
