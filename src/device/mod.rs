//! The tunnel at work: workers, each with an edge-triggered epoll of its own and handlers that drain with a budget.
//!
//! A wake-up puts tokens into the ready set. Each turn serves everyone who waits there once, for a bounded number of
//! packets; who has more to give stays in the set, and the next poll does not block. What is due comes first in a turn,
//! and each handler is followed by what it made due.
//!
//! A [`Worker`] is the loop, and moves packets: `outgoing` from the tun to the wire, `incoming` back. What a packet or
//! datagram means is its [`Mode`]'s: [`PlainTunnel`] has one peer and `hello?`, [`WireGuard`] has many and keys. The mode
//! and [`Core`] are shared by the workers behind one lock, which is held neither while packets of a session are sealed or
//! opened nor across a packet's system calls. One handshake message is worked on under it at a time.
//!
//! All this is a process of its own (`process`), which has no capability and opens nothing: its
//! `supervisor` gives it the descriptors, keys and peers, and sets the host.

mod budget;
mod checkup;
mod connection;
mod core;
mod error;
mod handshake_budget;
mod health;
mod housekeeping;
mod incoming;
mod metrics;
mod outgoing;
mod plain;
mod poll;
mod process;
mod pulse;
mod ready;
mod sockets;
mod supervisor;
mod suspension;
mod token;
mod wireguard;
mod worker;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tracing::{info, warn};

use crate::control::health::Handshake;
use crate::counters::DropReason;
use crate::io::batch::{Batch, Route};
use crate::io::fault::Fault;
use crate::io::mailbox::Arrival;
use crate::io::tun::Tun;
use crate::messages::{FromTunnel, Status, ToTunnel};
use crate::metrics::{Metrics, PeerSample, Process, Sample};
use crate::packet::split::Lengths;
use crate::time::Instant;
use crate::tunnel::wireguard::PublicKey;
pub use budget::Progress;
pub use core::Core;
use core::Stop;
pub use error::DeviceError;
use error::system;
pub use incoming::Entrance;
pub use outgoing::Way;
pub use plain::PlainTunnel;
pub use process::main;
pub use sockets::{Sockets, Via};
pub use token::{SockId, Token, UnknownToken};
pub use wireguard::WireGuard;
pub use worker::{Shared, Worker};

/// Bytes of stack of each worker but the first.
const STACK: usize = 512 * 1024;

/// What a protocol makes of the loop's events. Each call may work with everything in [`Core`], and with nothing that takes
/// long, since others wait.
pub trait Mode: Sized + Send + std::fmt::Debug {
    /// Who has a socket of its own.
    type Owner: Copy + PartialEq + Send + std::fmt::Debug;
    /// What packets to one peer are sealed with, without anybody's leave.
    type Sealing: Send + std::fmt::Debug;
    /// What a worker keeps for [`Self::take_arrival`] between two calls, so that nothing is allocated.
    type Scratch: Default + Send + std::fmt::Debug;
    /// What metrics call it.
    const NAME: &'static str;
    /// Bytes that sealing needs in front of a packet.
    const HEADROOM: usize;
    /// Bytes that sealing adds behind it.
    const TAG: usize;
    /// Bytes that sealing needs behind it: tag and padding.
    const TAILROOM: usize;

    /// [`Self::Scratch`] with room for the largest arrival.
    fn scratch() -> Self::Scratch;

    /// The first thing that the loop does: says that it is ready, and turns to the peers.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run; so for all of these.
    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// The sockets.
    fn sockets(&self) -> &Sockets<Self::Owner>;

    /// The sockets.
    fn sockets_mut(&mut self) -> &mut Sockets<Self::Owner>;

    /// Where a packet from the tun goes, which is one or many of these lengths.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    fn route(&mut self, core: &mut Core, packet: &[u8], lengths: Lengths) -> Result<Way<Self>, DropReason>;

    /// Keeps a copy of a packet until there is a way.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    fn stage(&mut self, core: &mut Core, owner: Self::Owner, packet: &[u8]) -> Result<(), DropReason>;

    /// Makes a datagram of the packet of `len` bytes that lies [`Self::HEADROOM`] into `place`, and gives its length.
    /// `None` if it cannot.
    fn seal(sealing: &mut Self::Sealing, place: &mut [u8], len: usize) -> Option<usize>;

    /// Datagrams could not be sent by a route: counts them, unless there is another way for them.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_send_fault(
        &mut self,
        core: &mut Core,
        fault: Fault,
        route: &Route<Via<Self::Owner>>,
        datagrams: usize,
    ) -> Result<Option<Route<Via<Self::Owner>>>, DeviceError>;

    /// Takes datagrams of one sender, which lie in the worker's mailbox, and hands what is in them to
    /// `Worker::take_inner`.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn take_arrival(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        arrival: &Arrival,
        entrance: Entrance,
    ) -> Result<(), DeviceError>;

    /// An error that a datagram sent earlier came back with.
    fn handle_bounce(&mut self, core: &mut Core, reason: DropReason) {
        core.count_drop(reason, None);
    }

    /// An error of sending that may be about an earlier datagram, or about the one that is tried again now.
    fn handle_doubtful_bounce(&mut self, _core: &mut Core, _reason: DropReason) {}

    /// Drains what only this mode has registered, but for sockets: answers to wg(8), waiting
    /// handshakes.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DeviceError>;

    /// Acts on news, and adds one datagram that is due to `batch`, which is not there while a socket has no room. Called
    /// after everything else, and again while there is [`Progress::More`].
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut Batch<Via<Self::Owner>>>,
    ) -> Result<Progress, DeviceError>;

    /// When [`Self::handle_timeouts`] wants to be called next.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// Applies a message of the supervisor that is about this mode only.
    ///
    /// # Errors
    /// [`DeviceError::Message`] if it is not; as for [`Self::start`].
    fn handle_message(
        &mut self,
        core: &mut Core,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DeviceError>;

    /// The mark of datagrams was changed, and peers' sockets are out of use.
    fn handle_mark(&mut self, _core: &mut Core) {}

    /// Spare sockets have come, which peers without one of their own may have.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_spares(&mut self, _core: &mut Core) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The device's state or MTU may be another.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_link(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// The machine was suspended: what was agreed on before is not to be used any more.
    fn handle_resume(&mut self, _core: &mut Core) {}

    /// This host does not have that address any more: a connected socket that is bound to it would go on sending from it,
    /// over IPv6 without an error.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError>;

    /// Time since a peer last completed a handshake.
    fn handshake(&self, now: Instant) -> Handshake;

    /// Says what metrics tell of this mode, but for each peer.
    fn tell(&self, now: Instant, sample: &mut Sample);

    /// Adds what metrics tell of peers: at most so many, in the order of their public keys, of those that come after
    /// `after`. There is room for them.
    fn tell_peers(&self, after: Option<&PublicKey>, most: usize, now: Instant, peers: &mut Vec<PeerSample>);

    /// Returns the state of the peers, for the service manager.
    fn status(&self, now: Instant) -> Status;

    /// Sessions that are over. Whenever there are more of them, each worker overwrites its stack,
    /// where the cipher may have left copies of their keys.
    fn ended_sessions(&self) -> u64 {
        0
    }

    /// Packets that the engine took and could not send in the end.
    fn lost_packets(&self) -> u64;
}

/// A tunnel, ready to run.
#[derive(Debug)]
pub struct Device<M: Mode> {
    shared: Arc<Shared<M>>,
    workers: Vec<Worker<M>>,
    metrics: Option<Metrics>,
}

impl<M: Mode> Device<M> {
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
fn run_to_end<M: Mode>(shared: &Shared<M>, worker: &mut Worker<M>) -> Result<Option<Stop>, DeviceError> {
    let run = AssertUnwindSafe(|| worker.run(shared));
    catch_unwind(run).unwrap_or_else(|_| {
        let source = io::Error::other("it panicked, which is a defect of wontun");
        Err(DeviceError::System { what: "a worker", source })
    })
}
