//! A worker: one thread with an epoll, a queue of the tun, sockets and buffers of its own. Each does the whole work on the
//! packets that the kernel gives it; the kernel keeps a flow on one of them. The first also does the chores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use nix::sys::eventfd::EventFd;

use super::budget::Progress;
use super::core::{Core, Stop, tell_drop};
use super::error::{DeviceError, system};
use super::handshake_budget::HandshakeBudget;
use super::outgoing::Pending;
use super::poll::{EVENTS, Poll};
use super::ready::ReadySet;
use super::suspension::Suspension;
use super::{Mode, SockId, Token, Via};
use crate::counters::{Counters, DropReason};
use crate::io::batch::Batch;
use crate::io::mailbox::{Mailbox, SLOT, SLOTS};
use crate::io::timer::{now_and_suspended, thread_time};
use crate::io::tun::Tun;
use crate::io::udp::UdpSocket;
use crate::logging::RateLimit;
use crate::packet::coalesce::Coalescer;
use crate::packet::virtio::MAX_HEADER;
use crate::stack;
use crate::time::Instant;

/// The largest packet, rounded up.
const LARGEST: usize = 65_536;
/// Bytes for what one read of the tun gives.
const PACKET: usize = MAX_HEADER + LARGEST;

/// All the memory for packets that a worker has, in bytes: it does not grow.
const BUFFERS: usize = PACKET + crate::io::batch::SIZE + SLOT * SLOTS + size_of::<Coalescer>();
const _: () = assert!(BUFFERS <= 4 << 20, "a worker is to make do with 4 MiB");

/// Handshake messages that are worked on in one turn; each takes longer than a budget of packets.
const HANDSHAKES: usize = 4;
/// No worker's number.
const NOBODY: usize = usize::MAX;

/// What the workers of a tunnel share, behind one lock.
#[derive(Debug)]
pub struct Shared<M> {
    state: Mutex<(M, Core)>,
    /// All are to end.
    is_ending: AtomicBool,
}

/// A worker's own.
#[derive(Debug)]
pub struct Worker<M: Mode> {
    /// The first is 0.
    pub(super) number: usize,
    poll: Arc<Poll>,
    bell: Arc<EventFd>,
    ready: ReadySet,
    handshakes: HandshakeBudget,
    /// When the handshake work began that is being done, in this thread's CPU time.
    shaking_since: Option<Instant>,
    events: [EpollEvent; EVENTS],
    /// When this turn began.
    pub(super) now: Instant,
    suspension: Suspension,
    pub(super) counters: Arc<[Counters]>,
    /// Ended sessions of whose keys this worker's stack has no copies.
    cleared_sessions: u64,
    drops: RateLimit,
    /// Brake on answers to packets that are too big (RFC 4443 section 2.4 f).
    pub(super) answers: RateLimit,
    /// The device's MTU, as of the last lock.
    pub(super) mtu: usize,
    /// Whether the MSS of TCP's SYNs is lowered to what fits.
    pub(super) clamps_mss: bool,

    pub(super) tun: Tun,
    /// What was read from the tun last.
    pub(super) packet: Box<[u8]>,
    /// What of it found no room in the batch.
    pub(super) pending: Option<Pending<M>>,
    pub(super) batch: Batch<Via<M::Owner>>,
    /// The socket without room for the batch; the tun is not read meanwhile, whose queue holds what comes.
    pub(super) blocked: Option<(SockId, Arc<UdpSocket>)>,

    pub(super) mailbox: Mailbox,
    /// Joins what goes to the tun; `None` for a queue that takes no super-packets.
    pub(super) coalescer: Option<Box<Coalescer>>,
    pub(super) scratch: M::Scratch,
}

/// What a turn begins with.
enum Begin {
    Turn,
    /// Something is due.
    Due,
    /// The stack is to be overwritten first.
    ClearStack,
    End(Stop),
}

/// Result of a turn.
enum Turn {
    Done,
    /// Before it began: the stack may have copies of keys that are no longer in use.
    ClearStack,
    End(Stop),
}

impl<M: Mode> Shared<M> {
    pub(super) const fn new(mode: M, core: Core) -> Self {
        Self { state: Mutex::new((mode, core)), is_ending: AtomicBool::new(false) }
    }

    /// Lets `worker` work with what is shared. Nothing that takes long belongs in here.
    pub(super) fn with<R>(
        &self,
        worker: &mut Worker<M>,
        act: impl FnOnce(&mut M, &mut Core, &mut Worker<M>) -> R,
    ) -> R {
        // one who panicked ends the tunnel, by another way
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.enter(worker.number, worker.now);
        let result = act(mode, core, worker);
        worker.ready.extend(core.take_tokens());
        worker.mtu = usize::try_from(core.link.mtu).unwrap_or(usize::MAX);
        result
    }

    /// Lets one who is no worker work with what is shared, as briefly.
    pub(super) fn alone<R>(&self, act: impl FnOnce(&mut M, &mut Core) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, core) = &mut *state;
        core.enter(NOBODY, core.now);
        act(mode, core)
    }

    /// A worker has ended; the first ends the others.
    pub(super) fn fail(&self, error: DeviceError) {
        self.alone(|_, core| {
            core.failure.get_or_insert(error);
            core.post_to(0, Token::Bell);
        });
    }

    /// Tells all workers to end.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.alone(|_, core| (0..core.workers()).for_each(|worker| core.post_to(worker, Token::Bell)));
    }
}

impl<M: Mode> Worker<M> {
    /// # Errors
    /// The system's.
    pub(super) fn new(
        core: &Core,
        number: usize,
        tun: Tun,
        clamps_mss: bool,
    ) -> Result<Option<Self>, DeviceError> {
        let Some(seat) = core.seat(number) else { return Ok(None) };
        if tun.is_own() {
            core.register(number, &tun, Token::Tun)?;
        }
        let takes_udp = tun.takes_udp();
        Ok(Some(Self {
            number,
            poll: Arc::clone(&seat.poll),
            bell: Arc::clone(&seat.bell),
            ready: ReadySet::default(),
            handshakes: HandshakeBudget::default(),
            shaking_since: None,
            events: [EpollEvent::empty(); EVENTS],
            now: core.now,
            suspension: core.suspension,
            counters: Arc::clone(&core.counters),
            cleared_sessions: 0,
            drops: RateLimit::new(Duration::from_secs(1)),
            answers: RateLimit::new(Duration::from_millis(10)),
            mtu: 0,
            clamps_mss,
            packet: vec![0; PACKET].into_boxed_slice(),
            pending: None,
            batch: Batch::default(),
            blocked: None,
            mailbox: Mailbox::default(),
            coalescer: tun.layout().map(|layout| Box::new(Coalescer::new(layout, takes_udp))),
            scratch: M::scratch(),
            tun,
        }))
    }

    /// Works until somebody ends it.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run: a deleted device, or a failing system.
    pub(super) fn run(&mut self, shared: &Shared<M>) -> Result<Option<Stop>, DeviceError> {
        if self.number == 0 {
            shared.with(self, |mode, core, _| mode.start(core))?;
            self.serve(shared)?;
        }
        loop {
            match self.turn(shared)? {
                Turn::Done => {}
                Turn::ClearStack => stack::clear(),
                Turn::End(stop) => return Ok(Some(stop)),
            }
            if shared.is_ending.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
    }

    /// Does what is due; one wake-up: collects what is ready, serves everyone once. Not inlined, so
    /// that all that works with keys is below the frame of [`Self::run`], which overwrites it.
    #[inline(never)]
    fn turn(&mut self, shared: &Shared<M>) -> Result<Turn, DeviceError> {
        match shared.with(self, |mode, core, worker| worker.begin(mode, core))? {
            Begin::End(stop) => return Ok(Turn::End(stop)),
            Begin::ClearStack => return Ok(Turn::ClearStack),
            Begin::Turn => {}
            Begin::Due => {
                self.serve(shared)?;
                shared.with(self, |mode, core, _| arm(mode, core))?;
            }
        }
        let limit = if self.ready.is_empty() { self.handshakes.pause() } else { Some(Duration::ZERO) };
        let woken = self.poll.wait(&mut self.events, limit);
        for token in woken.map_err(system("waiting for events"))? {
            self.ready.insert(token?);
        }
        let (now, suspended) = now_and_suspended().map_err(system("reading the clock"))?;
        self.now = now;
        if self.suspension.observe(suspended) {
            self.handle_resume(shared, suspended);
        }
        while let Some(token) = self.handshakes.take_waiting(self.now) {
            self.ready.insert(token);
        }
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop() else { break };
            if self.handle(shared, token)? == Progress::More {
                self.ready.insert(token);
            }
        }
        Ok(Turn::Done)
    }

    /// Drops what was to be sealed with the keys of before; the first worker to notice has all
    /// sessions dropped.
    fn handle_resume(&mut self, shared: &Shared<M>, suspended: Duration) {
        shared.with(self, |mode, core, worker| {
            if core.suspension.observe(suspended) {
                mode.handle_resume(core);
            }
            if let Some(pending) = worker.pending.take() {
                core.count_drops(DropReason::Unsent, pending.packets(), None);
            }
        });
    }

    /// Timers are the first worker's; whoever made one earlier sets it.
    fn begin(&mut self, mode: &mut M, core: &mut Core) -> Result<Begin, DeviceError> {
        core.hear();
        let ended = mode.ended_sessions();
        if std::mem::replace(&mut self.cleared_sessions, ended) != ended {
            core.note_ended_sessions(ended);
            return Ok(Begin::ClearStack);
        }
        if self.number == 0 {
            if let Some(failure) = core.failure.take() {
                return Err(failure);
            }
            if let Some(stop) = core.stop {
                return Ok(Begin::End(stop));
            }
            if core.deadline().is_some_and(|deadline| core.now >= deadline) {
                core.handle_timeouts(mode);
                if let Some(stop) = core.stop {
                    return Ok(Begin::End(stop));
                }
            }
            if mode.deadline().is_some_and(|deadline| core.now >= deadline) {
                mode.handle_timeouts(core)?;
                return Ok(Begin::Due);
            }
        }
        arm(mode, core)?;
        Ok(Begin::Turn)
    }

    fn handle(&mut self, shared: &Shared<M>, token: Token) -> Result<Progress, DeviceError> {
        let progress = match token {
            Token::Tun => self.drain_tun(shared)?,
            Token::Sock(id) => self.drain_socket(shared, id)?,
            Token::Handshakes => self.drain_handshakes(shared)?,
            Token::Bell => {
                // what was left for us has been taken with the lock
                let _ = self.bell.read();
                Progress::Drained
            }
            _ => shared.with(self, |mode, core, _| match token {
                Token::Timer => {
                    // the next turn looks at all deadlines anyway
                    core.timer.handle_ring().map_err(system("reading the timer"))?;
                    Ok(Progress::Drained)
                }
                Token::Signals => core.drain_signals(mode),
                Token::Supervisor => core.drain_supervisor(mode),
                Token::Health => {
                    core.answer_probe(mode);
                    Ok(core.drain_health(mode))
                }
                _ => mode.drain(core, token),
            })?,
        };
        self.serve(shared)?;
        if let Some(start) = self.shaking_since.take() {
            let end = thread_time().map_err(system("reading the clock"))?;
            self.handshakes.spend(end.since(start));
        }
        Ok(progress)
    }

    /// Returns true if there is time for handshakes now, which is counted from now until `token` is
    /// done with; otherwise `token` comes again.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin_handshakes(&mut self, token: Token) -> Result<bool, DeviceError> {
        let is_allowed = self.handshakes.allows(token, self.now);
        if is_allowed {
            // not the clock's: on a busy machine others have most of that
            self.shaking_since = Some(thread_time().map_err(system("reading the clock"))?);
        }
        Ok(is_allowed)
    }

    /// Works on a few of the handshake messages that wait; the rest stays for the next turn, after the data.
    fn drain_handshakes(&mut self, shared: &Shared<M>) -> Result<Progress, DeviceError> {
        if !self.begin_handshakes(Token::Handshakes)? {
            return Ok(Progress::Drained);
        }
        for _ in 0..HANDSHAKES {
            let drain = |mode: &mut M, core: &mut Core, _: &mut Self| mode.drain(core, Token::Handshakes);
            if shared.with(self, drain)? == Progress::Drained {
                return Ok(Progress::Drained);
            }
        }
        Ok(Progress::More)
    }

    /// Lets the mode act on news, and sends what it has to say, unless there is no room.
    pub(super) fn serve(&mut self, shared: &Shared<M>) -> Result<(), DeviceError> {
        // the lock is given up between two datagrams: an initiation takes as long as a hundred packets
        loop {
            let progress = shared.with(self, |mode, core, worker| {
                let has_room = worker.blocked.is_none();
                mode.serve(core, has_room.then_some(&mut worker.batch))
            })?;
            if progress == Progress::Drained {
                break;
            }
        }
        if self.blocked.is_none() { self.flush(shared) } else { Ok(()) }
    }

    /// Has this worker look at `token` in this turn or the next.
    pub(super) fn post(&mut self, token: Token) {
        self.ready.insert(token);
    }

    /// Whether to be told when the socket `id` becomes writable.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn watch_writable(
        &self,
        socket: impl std::os::fd::AsFd,
        id: SockId,
        watch: bool,
    ) -> Result<(), DeviceError> {
        self.poll.watch_writable(socket, Token::Sock(id), watch).map_err(system("watching a socket"))
    }

    /// Counts drops; at debug level also says so, at most once a second.
    pub(super) fn count_drops(&mut self, reason: DropReason, packets: usize, from: Option<SocketAddr>) {
        if let Some(counters) = self.counters.get(self.number) {
            counters.dropped(reason, packets);
        }
        tell_drop(&mut self.drops, self.now, reason, from);
    }
}

fn arm<M: Mode>(mode: &M, core: &mut Core) -> Result<(), DeviceError> {
    let deadline = [mode.deadline(), core.deadline()].into_iter().flatten().min();
    core.timer.arm(deadline).map_err(system("setting the timer"))
}
