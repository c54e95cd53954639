//! The tunnel at work: workers, each with an edge-triggered epoll of its own and handlers that drain with a budget.
//!
//! A wake-up puts tokens into the ready set. Each turn serves everyone who waits there once, for a bounded number of
//! packets; who has more to give stays in the set, and the next poll does not block. What is due comes first in a turn,
//! and each handler is followed by what it made due.
//!
//! A [`Worker`] takes its turns in `event_loop`, and moves packets: `outgoing` from the tun to the wire, `incoming` back.
//! What a packet or datagram means is its [`Mode`]'s: [`PlainTunnel`] has one peer and `hello?`, [`WireGuard`] has many
//! and keys. The mode and [`Core`] are shared by the workers behind one lock ([`Shared`]), which is held neither while
//! packets of a session are sealed or opened nor across a packet's system calls. One handshake message is worked on under
//! it at a time.
//!
//! Imports between these files point one way. From the bottom: the parts of [`Core`] (`checkup`, `connection`, `poll`,
//! `pulse`, `sockets`); [`Core`]; [`Mode`]; the methods of [`Core`] that need the mode (`health`, `housekeeping`,
//! `supervisor`); [`Worker`] and [`Shared`]; `outgoing`, `incoming`, `event_loop`; [`Device`]; the two modes; `process`.
//!
//! All this is a process of its own (`process`), which has no capability and opens nothing: its
//! `supervisor` gives it the descriptors, keys and peers, and sets the host.

mod budget;
mod checkup;
mod connection;
mod core;
mod error;
mod event_loop;
mod handshake_budget;
mod health;
mod housekeeping;
mod incoming;
mod metrics;
mod mode;
mod outgoing;
mod pending;
mod plain;
mod poll;
mod process;
mod pulse;
mod ready;
mod shared;
mod sockets;
mod supervisor;
mod suspension;
mod token;
mod wireguard;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tracing::{info, warn};

use crate::io::tun::Tun;
use crate::messages::{FromTunnel, ToTunnel};
use crate::metrics::{Metrics, Process};
pub use budget::Progress;
pub use core::Core;
use core::Stop;
pub use error::DeviceError;
use error::system;
pub use incoming::Receive;
pub use mode::{Mode, Way};
pub use plain::PlainTunnel;
pub use process::main;
pub use shared::Shared;
pub use sockets::{Entrance, Sockets, Via};
pub use token::{SockId, Token, UnknownToken};
pub use wireguard::WireGuard;
pub use worker::Worker;

/// Bytes of stack of each worker but the first.
const STACK: usize = 512 * 1024;

/// A tunnel, ready to run.
#[derive(Debug)]
pub struct Device<M: Mode> {
    shared: Arc<Shared<M>>,
    workers: Vec<Worker<M>>,
    metrics: Option<Metrics>,
}

impl<M: Receive> Device<M> {
    /// # Errors
    /// The system's.
    fn assemble(mode: M, core: Core, tuns: Vec<Tun>, clamps_mss: bool) -> Result<Self, DeviceError> {
        let mut workers = Vec::with_capacity(tuns.len());
        for (number, tun) in tuns.into_iter().enumerate() {
            workers.extend(Worker::new(&core, number, tun, clamps_mss)?);
        }
        for (worker, id, socket) in mode.sockets().disconnected() {
            core.register(worker, socket.as_ref(), Token::Sock(id))?;
        }
        Ok(Self { shared: Arc::new(Shared::new(mode, core)), workers, metrics: None })
    }

    /// Serves metrics while the tunnel runs.
    pub fn serve_metrics(&mut self, metrics: Metrics) {
        self.metrics = Some(metrics);
    }

    /// Applies a message of the supervisor before [`Self::run`].
    ///
    /// # Errors
    /// [`DeviceError`].
    fn apply(&mut self, message: ToTunnel, descriptors: Vec<OwnedFd>) -> Result<(), DeviceError> {
        self.shared.alone(|mode, core| core.handle_message(mode, message, descriptors))
    }

    /// Tells the supervisor that packets are carried from now on.
    fn say_ready(&self) {
        self.shared.alone(|_, core| core.send(&FromTunnel::Ready));
    }

    /// Carries packets until the supervisor ends it. Each worker but the first is a thread of its
    /// own for that time.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run: a deleted device, or a failing system.
    pub fn run(&mut self) -> Result<(), DeviceError> {
        let shared = &self.shared;
        let metrics = self.metrics.as_ref();
        let result = thread::scope(|scope| {
            let Some((first, others)) = self.workers.split_first_mut() else { return Ok(None) };
            for worker in others {
                let name = format!("worker-{}", worker.number);
                let started =
                    thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, move || {
                        if let Err(error) = run_to_end(shared, worker) {
                            shared.fail(error);
                        }
                    });
                if let Err(error) = started {
                    shared.end();
                    return Err(system("starting a worker's thread")(error));
                }
            }
            if let Some(metrics) = metrics {
                let serve = move || tell_metrics(shared, metrics);
                let name = "metrics".to_owned();
                let started = thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, serve);
                if let Err(error) = started {
                    warn!(%error, "no thread for the metrics, which are not served");
                }
            }
            let result = run_to_end(shared, first);
            shared.end();
            metrics.inspect(|metrics| metrics.end());
            result
        });
        match result {
            Ok(Some(Stop::Signal(signal))) => info!(%signal, "stopping"),
            Ok(Some(Stop::Supervisor) | None) | Err(_) => {}
        }
        shared.alone(|mode, core| core.report_summary(mode));
        result.map(drop)
    }
}

/// Serves metrics. What goes wrong with that does not concern the tunnel.
fn tell_metrics<M: Mode>(shared: &Shared<M>, metrics: &Metrics) {
    let mut observer = metrics::Observer::default();
    let sample = |process: &Process| shared.sample(&mut observer, process);
    let error = match catch_unwind(AssertUnwindSafe(|| metrics.serve(sample))) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => io::Error::other("it panicked, which is a defect of wontun"),
    };
    warn!(%error, "metrics are not served any more");
}

/// Runs a worker. One that panics ends as by an error: the others are to end too, and the log is to say so.
fn run_to_end<M: Receive>(shared: &Shared<M>, worker: &mut Worker<M>) -> Result<Option<Stop>, DeviceError> {
    let run = AssertUnwindSafe(|| worker.run(shared));
    catch_unwind(run).unwrap_or_else(|_| {
        let source = io::Error::other("it panicked, which is a defect of wontun");
        Err(DeviceError::System { what: "a worker", source })
    })
}
