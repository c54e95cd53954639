//! Metrics: a small HTTP server for the state of the tunnel in Prometheus' text format.
//!
//! It runs in a thread of its own. The data is a `Sample`, taken at most twice a second however
//! often it is requested; `Exposition` formats it piece by piece, so that ten thousand peers need
//! no buffer of megabytes. The thread is busy at most a fifth of the time: aggressive scrapers get
//! slow answers, and cannot take CPU time from packets. Connections, the length of a request and
//! the time for each are limited.
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

pub(crate) use exposition::Exposition;
pub use family::{FAMILIES, Family, Kind};
pub(crate) use host::HostName;
pub(crate) use listener::{MetricsError, MetricsListener};
pub(crate) use process::{ProcessReader, ProcessSample};
pub(crate) use sample::{PeerSample, QueueSample, Sample, WorkerSample};
pub(crate) use server::MetricsServer;
