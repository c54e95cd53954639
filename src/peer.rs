//! The other host: its protocol state, what went to and fro, and how we reach it.

use crate::config::Config;
use crate::counters::Counters;
use crate::time::Instant;
use crate::tunnel::plain::Plain;

/// The peer of a tunnel, known or not yet.
#[derive(Debug)]
pub struct Peer {
    /// The protocol's state; it knows the endpoint.
    pub engine: Plain,
    /// What was carried and dropped.
    pub counters: Counters,
    /// When to connect anew, after the way to the endpoint or our own address was lost.
    pub reconnect_at: Option<Instant>,
    /// When it was last connected or tried.
    pub connected_at: Option<Instant>,
}

impl Peer {
    /// A peer of which nothing is known yet but the options.
    pub fn new(config: &Config) -> Self {
        Self {
            engine: Plain::new(config.role(), config.keepalive),
            counters: Counters::default(),
            reconnect_at: None,
            connected_at: None,
        }
    }
}
