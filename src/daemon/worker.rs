//! A worker: one thread with an epoll, a tun queue, sockets and buffers of its own. Each does all
//! the work on the packets that the kernel delivers to it; the kernel keeps a flow on one worker.
//! The first one also handles timers, signals and the supervisor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use nix::sys::eventfd::EventFd;

use super::core::{Core, log_drop};
use super::device_queues::{DeviceQueues, QueueKind};
use super::error::{DaemonError, system};
use super::handshake_budget::HandshakeBudget;
use super::inbound_bulk::InboundBulk;
use super::pending::Pending;
use super::poll::{EVENTS, Poll};
use super::protocol::Protocol;
use super::ready::ReadySet;
use super::sockets_in_use::SocketRef;
use super::suspension::Suspension;
use super::token::{SocketId, Token};
use super::uplink::Uplinks;
use super::view::ViewReader;
use crate::counters::Counters;
use crate::logging::RateLimit;
use crate::net::recv_buffer::{RecvBuffer, SLOT, SLOTS};
use crate::net::send_batch::SendBatch;
use crate::net::timer::thread_time;
use crate::net::tun::Tun;
use crate::net::udp::UdpSocket;
use wontun_packet::DropReason;
use wontun_packet::coalesce::Coalescer;
use wontun_packet::virtio::MAX_HEADER;
use wontun_proto::time::Instant;

/// Maximum size of a packet, rounded up.
const MAX_PACKET: usize = 65_536;
/// Size of the buffer for one read of the tun, in bytes.
const READ_BUFFER: usize = MAX_HEADER + MAX_PACKET;

/// Total size of a worker's packet buffers in bytes, which do not grow.
const BUFFERS: usize = READ_BUFFER + crate::net::send_batch::SIZE + SLOT * SLOTS + size_of::<Coalescer>();
const _: () = assert!(BUFFERS <= 4 << 20, "a worker is to make do with 4 MiB");

/// The state of a worker.
#[derive(Debug)]
pub struct Worker<M: Protocol> {
    /// Number of the worker; the first is 0.
    pub(super) number: usize,
    pub(super) poll: Arc<Poll>,
    pub(super) wake: Arc<EventFd>,
    pub(super) ready: ReadySet,
    pub(super) handshakes: HandshakeBudget,
    /// Start of reading handshake messages, in this thread's CPU time.
    pub(super) handshakes_started: Option<Instant>,
    pub(super) events: [EpollEvent; EVENTS],
    /// Start of this turn.
    pub(super) now: Instant,
    pub(super) suspension: Suspension,
    pub(super) counters: Arc<[Counters]>,
    /// Number of ended sessions whose keys this worker has cleared from its stack.
    pub(super) cleared_sessions: u64,
    drop_log: RateLimit,
    /// Rate limit of answers to packets that are too big (RFC 4443 section 2.4 f).
    pub(super) icmp_errors: RateLimit,
    /// Number of times that this worker had the lock, or had reason to take it.
    pub(super) lock_uses: u64,
    /// That number when the worker last began a turn with the lock, after which nothing needs it.
    pub(super) begun: u64,
    /// That number when the worker had last handled all events of the mode.
    pub(super) served: u64,
    /// True to lower the MSS of TCP SYNs to the MTU.
    pub(super) clamps_mss: bool,

    /// The queue of the device that this worker reads, for bulk traffic if it has another.
    pub(super) tun: Tun,
    /// The queues of all workers.
    pub(super) queues: Arc<DeviceQueues>,
    /// Number of the queue to which the collected packets are written.
    pub(super) write_queue: usize,
    /// Number of super-packets read from the queue that is not for bulk traffic, since it was empty
    /// last; `None` if there was none.
    pub(super) deferred: Option<u8>,
    /// Time until which that queue is read before bulk traffic: large packets were in it.
    pub(super) large_until: Instant,
    /// Bulk traffic that waits in a socket.
    pub(super) inbound: InboundBulk,
    /// Data read from the tun last.
    pub(super) packet: Box<[u8]>,
    /// Part of that data that had no room in the batch.
    pub(super) pending: Option<Pending<M>>,
    pub(super) send_batch: SendBatch<SocketRef<M::Owner>>,
    /// The full socket that the batch waits for; meanwhile the tun is not read, and packets stay in
    /// its queue.
    pub(super) blocked: Option<(SocketId, Arc<UdpSocket>)>,
    /// The queues in front of slow links.
    pub(super) uplinks: Uplinks,

    pub(super) recv_buffer: RecvBuffer,
    /// Coalesces packets for the tun; `None` for a queue that takes no super-packets.
    pub(super) coalescer: Option<Box<Coalescer>>,
    pub(super) scratch: M::Scratch,
    /// Reads the sockets and the device's state without the lock.
    pub(super) view: ViewReader<M::Owner>,
    pub(super) lookup: M::Lookup,
}

impl<M: Protocol> Worker<M> {
    /// Creates a worker.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn new(
        core: &Core,
        mode: &M,
        view: ViewReader<M::Owner>,
        number: usize,
        queues: Arc<DeviceQueues>,
        clamps_mss: bool,
    ) -> Result<Option<Self>, DaemonError> {
        let Some(handle) = core.worker_handle(number) else { return Ok(None) };
        let Some(tun) = queues.get(number, QueueKind::Bulk).cloned() else { return Ok(None) };
        if tun.is_exclusive() {
            core.register(number, &tun, Token::Tun)?;
        }
        if let Some(sparse) = queues.get(number, QueueKind::Sparse) {
            core.register(number, sparse, Token::SparseTun)?;
        }
        let has_uso = tun.has_uso();
        Ok(Some(Self {
            number,
            poll: Arc::clone(&handle.poll),
            wake: Arc::clone(&handle.wake),
            ready: ReadySet::default(),
            handshakes: HandshakeBudget::default(),
            handshakes_started: None,
            events: [EpollEvent::empty(); EVENTS],
            now: core.now,
            suspension: core.suspension,
            counters: Arc::clone(&core.counters),
            cleared_sessions: 0,
            drop_log: RateLimit::new(Duration::from_secs(1)),
            icmp_errors: RateLimit::new(Duration::from_millis(10)),
            lock_uses: 1,
            begun: 0,
            served: 0,
            clamps_mss,
            packet: vec![0; READ_BUFFER].into_boxed_slice(),
            pending: None,
            send_batch: SendBatch::default(),
            blocked: None,
            uplinks: Uplinks::default(),
            recv_buffer: RecvBuffer::default(),
            coalescer: tun.layout().map(|layout| Box::new(Coalescer::new(layout, has_uso))),
            scratch: M::scratch(),
            view,
            lookup: mode.lookup(),
            tun,
            queues,
            write_queue: number,
            deferred: None,
            large_until: core.now,
            inbound: InboundBulk::default(),
        }))
    }

    /// Returns true if there is budget for handshakes now, and starts measuring the time for
    /// `token`; otherwise `token` is queued for later.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn begin_handshakes(&mut self, token: Token) -> Result<bool, DaemonError> {
        let is_allowed = self.handshakes.allows(token, self.now);
        if is_allowed {
            // CPU time instead of the clock's: on a busy machine others use most of that
            self.handshakes_started = Some(thread_time().map_err(system("reading the clock"))?);
        }
        Ok(is_allowed)
    }

    /// Returns the device's MTU.
    pub(super) fn mtu(&mut self) -> usize {
        self.view.load().mtu()
    }

    /// Makes the worker take the lock when it handles events next, and in its next turn.
    pub(super) const fn request_lock(&mut self) {
        self.lock_uses += 1;
    }

    /// Adds `token` to this worker's ready set, for this turn or the next.
    pub(super) fn post(&mut self, token: Token) {
        self.ready.insert(token);
    }

    /// Enables or disables events for when the socket `id` becomes writable.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn watch_writable(
        &self,
        socket: impl std::os::fd::AsFd,
        id: SocketId,
        watch: bool,
    ) -> Result<(), DaemonError> {
        self.poll.watch_writable(socket, Token::Socket(id), watch).map_err(system("watching a socket"))
    }

    /// Counts drops; at debug level also logs them, at most once per second.
    pub(super) fn count_drops(&mut self, reason: DropReason, packets: usize, from: Option<SocketAddr>) {
        if let Some(counters) = self.counters.get(self.number) {
            counters.count_drops(reason, packets);
        }
        log_drop(&mut self.drop_log, self.now, reason, from);
    }
}
