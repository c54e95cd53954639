//! Metrics: a small HTTP server that tells in Prometheus' text format how the tunnel is.
//!
//! It runs in a thread of its own. What the tunnel knows comes as a [`Sample`], taken at most twice a second however often
//! somebody asks; [`Exposition`] makes text of it piece by piece, so that ten thousand peers need no buffer of
//! megabytes. The thread works a fifth of the time at most: who asks without end gets slow answers, and the packets their
//! core. Connections, the bytes of a request and the time that each may take are bounded.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

mod connection;
mod exposition;
mod family;
mod host;
mod lines;
mod listener;
mod process;
mod request;
mod sample;
mod server;

#[cfg(test)]
mod tests;

pub use exposition::Exposition;
pub use family::{FAMILIES, Family, Kind};
pub use host::{HostName, HostNameError};
pub use listener::{MetricsError, MetricsListener};
pub use process::{Process, ProcessSample};
pub use sample::{PeerSample, QueueSample, Sample, WorkerSample};
pub use server::Metrics;
