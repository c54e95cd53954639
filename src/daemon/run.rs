//! Assembles a tunnel and runs the threads of its workers.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::Cache;
use tracing::{info, warn};

use super::carry::Carry;
use super::core::{Core, StopReason};
use super::device_queues::DeviceQueues;
use super::error::{DaemonError, system};
use super::hand_over::{HandedOver, await_sessions, hand_over};
use super::handshakes::handle_handshakes;
use super::metrics::Observer;
use super::protocol::Protocol;
use super::shared::Shared;
use super::view::View;
use super::worker::Worker;
use crate::messages::{FromTunnel, ToTunnel};
use crate::metrics::{MetricsServer, ProcessReader};

/// Timeout for the last messages to the supervisor.
const LAST_MESSAGES_TIMEOUT: Duration = Duration::from_secs(1);
/// Stack size of each worker but the first, in bytes.
const STACK: usize = 512 * 1024;

/// A tunnel, ready to run.
#[derive(Debug)]
pub struct Daemon<M: Protocol> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) workers: Vec<Worker<M>>,
    metrics: Option<MetricsServer>,
}

impl<M: Carry> Daemon<M> {
    /// Assembles a tunnel from its parts.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn assemble(
        mode: M,
        core: Core,
        queues: DeviceQueues,
        clamps_mss: bool,
    ) -> Result<Self, DaemonError> {
        let queues = Arc::new(queues);
        let view = View::latest(&mode, &core);
        let mut workers = Vec::with_capacity(queues.workers());
        for number in 0..queues.workers() {
            workers.extend(Worker::new(
                &core,
                &mode,
                Cache::new(Arc::clone(&view)),
                number,
                Arc::clone(&queues),
                clamps_mss,
            )?);
        }
        for (worker, token, socket) in mode.sockets().disconnected() {
            core.register(worker, socket.as_ref(), token)?;
        }
        Ok(Self { shared: Arc::new(Shared::new(mode, core, view)), workers, metrics: None })
    }

    /// Serves metrics while the tunnel runs.
    pub fn set_metrics(&mut self, metrics: MetricsServer) {
        self.metrics = Some(metrics);
    }

    /// Applies a message of the supervisor before [`Self::run`].
    ///
    /// # Errors
    /// [`DaemonError`].
    pub(super) fn apply(&mut self, message: ToTunnel, descriptors: Vec<OwnedFd>) -> Result<(), DaemonError> {
        self.shared.with_state(|mode, core| core.handle_message(mode, message, descriptors))
    }

    /// Reports to the supervisor that packets are carried from now on.
    pub(super) fn report_ready(&self) {
        self.shared.with_state(|_, core| core.send(&FromTunnel::Ready));
    }

    /// Waits for the sessions of another process before [`Self::run`].
    ///
    /// # Errors
    /// The supervisor has ended, or ends the start.
    pub(super) fn await_sessions(&self) -> Result<(), DaemonError> {
        await_sessions(&self.shared)
    }

    /// Carries packets until the supervisor ends the tunnel, or another process carries them.
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more: a deleted device, or a failing system.
    pub fn run(&mut self) -> Result<(), DaemonError> {
        let result = loop {
            match self.carry_packets() {
                Ok(Some(StopReason::HandOver)) => match hand_over(&self.shared, &mut self.workers) {
                    Ok(HandedOver::Resumed) => self.shared.restart(),
                    Ok(HandedOver::Done) => break Ok(None),
                    Err(error) => break Err(error),
                },
                result => break result,
            }
        };
        match result {
            Ok(Some(StopReason::Signal(signal))) => info!(%signal, "stopping"),
            Ok(Some(StopReason::Supervisor | StopReason::HandOver) | None) | Err(_) => {}
        }
        self.shared.with_state(|mode, core| {
            core.report_summary(mode);
            core.supervisor.flush_within(LAST_MESSAGES_TIMEOUT);
        });
        result.map(drop)
    }

    /// Carries packets until the workers are to end. Each worker but the first runs in a thread of
    /// its own. All threads have ended afterwards.
    fn carry_packets(&mut self) -> Result<Option<StopReason>, DaemonError> {
        let shared = &self.shared;
        let metrics = self.metrics.as_ref();
        metrics.inspect(|metrics| metrics.restart());
        thread::scope(|scope| {
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
            if M::HAS_HANDSHAKES {
                let handle = move || {
                    if let Err(error) = catch(|| handle_handshakes(shared)) {
                        shared.fail(error);
                    }
                };
                let name = "handshakes".to_owned();
                let started = thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, handle);
                if let Err(error) = started {
                    shared.end();
                    return Err(system("starting the thread for handshakes")(error));
                }
            }
            if let Some(metrics) = metrics {
                let serve = move || serve_metrics(shared, metrics);
                let name = "metrics".to_owned();
                let started = thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, serve);
                if let Err(error) = started {
                    warn!(%error, "cannot start the metrics thread: metrics are not served");
                }
            }
            let result = run_to_end(shared, first);
            shared.end();
            metrics.inspect(|metrics| metrics.shut_down());
            result
        })
    }
}

/// Serves metrics. Errors and panics do not affect the tunnel.
fn serve_metrics<M: Protocol>(shared: &Shared<M>, metrics: &MetricsServer) {
    let mut observer = Observer::default();
    let sample = |process: &ProcessReader| shared.sample(&mut observer, process);
    let error = match catch_unwind(AssertUnwindSafe(|| metrics.serve(sample))) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => io::Error::other("it panicked, which is a bug in wontun"),
    };
    warn!(%error, "the metrics server ended: metrics are no longer served");
}

/// Runs a worker.
fn run_to_end<M: Carry>(
    shared: &Shared<M>,
    worker: &mut Worker<M>,
) -> Result<Option<StopReason>, DaemonError> {
    catch(|| worker.run(shared))
}

/// Turns a panic of `run` into an error, so that the other threads end and it is logged.
fn catch<R>(run: impl FnOnce() -> Result<R, DaemonError>) -> Result<R, DaemonError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let source = io::Error::other("it panicked, which is a bug in wontun");
        Err(DaemonError::System { what: "a thread", source })
    })
}
