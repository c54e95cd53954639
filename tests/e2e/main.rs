//! End-to-end tests: the real binary, real tun devices and real TCP, in network namespaces of their
//! own.
//!
//! `cargo test --profile e2e --test e2e` runs them. They need root and a few tools (see
//! `requirements.rs`); a machine that lacks one gets failures that name it. Nothing is added to the
//! machine's own network: every address, link and route is in a namespace that the test makes and
//! removes again.
//!
//! The first group of modules is the laboratory, the second the tests, one topic per file.

// Tests report failures by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Lengths and checksums of packets that the tests themselves build: small, and known to fit.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod bare;
mod daemon;
mod descriptors;
mod lab;
mod mounts;
mod packets;
mod preload;
mod processes;
mod requirements;
mod streams;
mod terminal;
mod tunnel;
mod uapi_server;
mod waiting;

mod admin;
mod allocation;
mod daemons;
mod data;
mod dns;
mod down;
mod endpoints;
mod errors;
mod hand_over;
mod health;
mod hold;
mod host;
mod hostile;
mod latency;
mod load;
mod local;
mod logs;
mod metrics;
mod names;
mod network;
mod notify;
mod offload;
mod process;
mod recipes;
mod routes;
mod sandbox;
mod separation;
mod setup;
mod show;
mod soak;
mod start;
mod top;
mod uapi;
mod uplinks;
mod wireguard;
mod workers;
