//! The data path of WireGuard mode: tun → allowed IPs → engine → wire, and back.

use std::net::IpAddr;
use std::ops::Range;

use tracing::{debug, info, warn};

use super::peer_log::{Line, clock_off};
use super::tunnel::WireGuard;
use crate::daemon::budget::Progress;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::daemon::mode::{Mode, RouteDecision};
use crate::daemon::shared::Shared;
use crate::daemon::sockets::{SocketInfo, SocketRef};
use crate::daemon::token::Token;
use crate::daemon::worker::Worker;
use crate::net::error_class::ErrorClass;
use crate::net::recv_buffer::{GroBatch, MAX_GRO_SEGMENTS};
use crate::net::send_batch::{Route, SendBatch};
use crate::net::timer::unix_now;
use wontun_packet::DropReason;
use wontun_packet::split::Lengths;
use wontun_packet::{carried, ip, udp};
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, DataHeader, Message};
use wontun_proto::wireguard::{
    Accepted, Endpoint, Event, Incoming, Opened, Opening, Peer, PeerId, Transmit, outer_class,
};

/// Maximum length of a message that the engine sends by itself: a staged packet, encrypted.
const MAX_PACKET: usize = 65_536 + WireGuard::TAILROOM;

/// A batch of data messages of one session.
#[derive(Debug, Default)]
pub struct Run {
    messages: Vec<Received>,
}

/// A message of the batch.
#[derive(Debug)]
struct Received {
    place: Range<usize>,
    header: DataHeader,
    fate: Fate,
}

/// Progress of a message.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Sealed,
    /// Authentic, but not accepted yet; its contents may be invalid nevertheless.
    Opened(Result<Opened, DropReason>),
    Dropped(DropReason),
    /// Accepted; a packet of that length may be written to the tun.
    Accepted(usize),
    /// Accepted; a keepalive, which carries no packet.
    Done,
}

impl WireGuard {
    pub(super) fn route_packet(
        &mut self,
        core: &Core,
        packet: &[u8],
        lengths: Lengths,
    ) -> Result<RouteDecision<Self>, DropReason> {
        let (_, destination) = ip::addresses(packet).ok_or(DropReason::Malformed)?;
        let peer = self.allowed_ips.lookup(destination).ok_or(DropReason::NotRouted)?;
        let endpoint = self.engine.peer(peer).and_then(Peer::endpoint);
        if endpoint.is_some_and(|endpoint| udp::is_addressed_to(packet, endpoint.remote)) {
            return Err(DropReason::OwnTun);
        }
        let endpoint = endpoint.ok_or(DropReason::NoEndpoint)?;
        let route =
            self.way(core, Some(peer), endpoint, outer_class(packet)).ok_or(DropReason::Unreachable)?;
        Ok(match self.engine.begin_send(peer, lengths, core.now)? {
            Some((sealing, _)) => RouteDecision::Send(route, sealing),
            None => RouteDecision::Stage(peer),
        })
    }

    fn way(
        &self,
        core: &Core,
        peer: Option<PeerId>,
        endpoint: Endpoint,
        class: u8,
    ) -> Option<Route<SocketRef<PeerId>>> {
        self.sockets.route(core.current(), peer, endpoint.remote, endpoint.local, class)
    }

    pub(super) fn process_send_error(
        &mut self,
        core: &mut Core,
        class: ErrorClass,
        route: &Route<SocketRef<PeerId>>,
        datagrams: usize,
    ) -> Result<Option<Route<SocketRef<PeerId>>>, DaemonError> {
        let reason = match class {
            ErrorClass::Drop(reason) => reason,
            ErrorClass::WouldBlock => DropReason::QueueFull,
            ErrorClass::SourceAddressLost | ErrorClass::Fatal => {
                if let Some(other) = self.leave_route(core, route)? {
                    return Ok(Some(other));
                }
                DropReason::Unreachable
            }
        };
        core.count_drops(reason, datagrams, Some(route.remote));
        Ok(None)
    }

    /// Handles the loss of the local address used for answers, or of the route from it: the system
    /// chooses another, for these datagrams and all later ones.
    fn leave_route(
        &mut self,
        core: &mut Core,
        route: &Route<SocketRef<PeerId>>,
    ) -> Result<Option<Route<SocketRef<PeerId>>>, DaemonError> {
        if route.local.is_none() && !route.is_connected {
            return Ok(None);
        }
        let endpoint = Endpoint::new(route.remote);
        if let Some(peer) = route.owner.owner {
            self.disconnect(core, peer);
            let old = Endpoint { remote: route.remote, local: route.local };
            if self.engine.peer(peer).and_then(Peer::endpoint) == Some(old) {
                self.engine.set_any_source(peer);
            }
            if let Some(suppressed) = self.peer_log.allow(peer, Line::Moved, core.now) {
                let (peer, endpoint) = (self.peer_name(peer), endpoint.remote);
                debug!(peer, %endpoint, suppressed, "answers leave from another address of ours");
            }
        }
        Ok(self.way(core, None, endpoint, route.class))
    }

    pub(super) fn take_datagrams(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        batch: &GroBatch,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError> {
        let mut run = std::mem::take(&mut worker.scratch);
        let local = batch.local.map(|local| local.address).or(socket_info.bound);
        let from = Endpoint { remote: batch.from, local };
        // datagrams of a draining socket are older than the peer's move, and must not move it back
        let heard_from = socket_info.draining.is_none().then_some(from);
        let mut result = Ok(());
        for place in batch.ranges() {
            let datagram = worker.recv_buffer.bytes().get(place.clone()).unwrap_or_default();
            match Message::parse(datagram) {
                Some(Message::Data(header)) => {
                    if run.messages.first().is_some_and(|first| first.header.receiver != header.receiver) {
                        result = result.and(run.finish(shared, worker, batch, heard_from));
                    }
                    run.messages.push(Received { place, header, fate: Fate::Sealed });
                }
                _ => {
                    shared.with(worker, |mode, core, worker| {
                        let datagram = worker.recv_buffer.bytes_mut().get_mut(place).unwrap_or_default();
                        mode.take_message(core, batch, from, datagram);
                    });
                }
            }
        }
        result = result.and(run.finish(shared, worker, batch, heard_from));
        worker.scratch = run;
        result
    }

    /// Handles a message other than data.
    fn take_message(&mut self, core: &mut Core, batch: &GroBatch, from: Endpoint, datagram: &mut [u8]) {
        if core.is_from_own_tun(batch.local) {
            core.count_drop(DropReason::OwnTun, Some(batch.from));
            return;
        }
        match self.engine.handle_datagram(from, batch.class, datagram, core.now) {
            Ok(Incoming::Queued) => core.post(Token::Handshakes),
            Ok(Incoming::Packet { .. } | Incoming::Keepalive(_) | Incoming::Cookie(_)) => {}
            Err(reason) => core.count_drop(reason, Some(batch.from)),
        }
    }

    /// Processes one of the queued handshake messages.
    pub(super) fn take_handshake(&mut self, core: &mut Core) -> Progress {
        if let Some(Err(reason)) = self.engine.handle_queued(core.now) {
            core.count_drop(reason, None);
        }
        if self.engine.queued() > 0 { Progress::More } else { Progress::Drained }
    }

    /// Handles the engine's events and sends one of its messages, if the turn's send budget allows
    /// it.
    pub(super) fn serve_engine(
        &mut self,
        core: &mut Core,
        batch: Option<&mut SendBatch<SocketRef<PeerId>>>,
    ) -> Result<Progress, DaemonError> {
        // first, since an event may be that the socket has to be replaced
        while let Some(event) = self.engine.poll_event() {
            self.handle_event(core, event)?;
        }
        let Some(batch) = batch else { return Ok(Progress::Drained) };
        let room = batch.reserve(MAX_PACKET).filter(|_| self.share.has_some(core.now));
        let Some(room) = room else {
            core.post(Token::Handshakes);
            return Ok(Progress::Drained);
        };
        let Some(transmit) = self.engine.poll_transmit(core.now, unix_now(), room) else {
            return Ok(Progress::Drained);
        };
        let Transmit { peer, endpoint, len, class } = transmit;
        self.share.take(transmit);
        match self.way(core, peer, endpoint, class) {
            Some(route) => batch.commit(len, &route),
            None => core.count_drop(DropReason::Unreachable, Some(endpoint.remote)),
        }
        Ok(Progress::More)
    }

    fn handle_event(&mut self, core: &mut Core, event: Event) -> Result<(), DaemonError> {
        match event {
            Event::EndpointMoved { peer, endpoint } => {
                if let Some(suppressed) = self.peer_log.allow(peer, Line::Moved, core.now) {
                    let (peer, local, endpoint) = (self.peer_name(peer), endpoint.local, endpoint.remote);
                    debug!(peer, %endpoint, ?local, suppressed, "endpoint moved");
                }
                if let Some([one, other]) = self.peer_log.handle_moved(peer, endpoint.remote, core.now) {
                    warn!(
                        peer = self.peer_name(peer),
                        %one,
                        %other,
                        "a peer's key is used from two places, which push each other out: give each device a key of its own \
                         (wontun peer add NAME), or, if it is one device, see why its way out changes"
                    );
                }
                self.report_endpoint(core, peer);
                self.follow(core, peer)
            }
            Event::HandshakeCompleted { peer } => {
                if let Some(suppressed) = self.peer_log.allow(peer, Line::Handshake, core.now) {
                    info!(peer = self.peer_name(peer), suppressed, "handshake completed");
                }
                self.names.handle_answered(peer);
                self.report_reached(core, peer);
                self.report_endpoint(core, peer);
                self.follow(core, peer)
            }
            Event::ClockBehind { peer, unix, behind } => {
                if let Some(suppressed) = self.peer_log.allow(peer, Line::Clock, core.now) {
                    warn!(
                        peer = self.peer_name(peer),
                        suppressed,
                        "a peer's handshakes are refused, since its clock was set back: {}: set the clock of the peer, \
                         such as by NTP; to accept it as it is, restart this end",
                        clock_off(unix, behind, unix_now())
                    );
                }
                Ok(())
            }
            Event::HandshakeFailing { peer } => {
                if let Some(suppressed) = self.quiet.silent.allow(core.now) {
                    warn!(
                        peer = self.peer_name(peer),
                        suppressed,
                        "a peer does not answer handshakes: check its endpoint and that it has our public key"
                    );
                }
                self.names.handle_silent(peer, core.now);
                self.ask_names(core);
                Ok(())
            }
        }
    }
}

/// Cache of the last look-up: packets of a batch mostly come from one address.
#[derive(Default)]
struct Sources(Option<(IpAddr, bool)>);

impl Sources {
    /// Checks the source address (cryptokey routing): a peer may only send from addresses that are
    /// routed to it.
    fn check(&mut self, mode: &WireGuard, peer: PeerId, packet: &[u8]) -> Result<(), DropReason> {
        let (source, _) = ip::addresses(packet).ok_or(DropReason::Malformed)?;
        let is_allowed = match self.0 {
            Some((last, is_allowed)) if last == source => is_allowed,
            _ => mode.allowed_ips.lookup(source) == Some(peer),
        };
        self.0 = Some((source, is_allowed));
        if is_allowed { Ok(()) } else { Err(DropReason::NotAllowed) }
    }
}

impl Run {
    /// Creates a batch with capacity for the largest number of datagrams.
    pub(super) fn with_room() -> Self {
        Self { messages: Vec::with_capacity(MAX_GRO_SEGMENTS) }
    }

    /// Decrypts the batch in three steps: messages worth it are selected with the lock, decrypted
    /// without it, and accepted with the lock again. Accepted packets are passed on.
    fn finish(
        &mut self,
        shared: &Shared<WireGuard>,
        worker: &mut Worker<WireGuard>,
        batch: &GroBatch,
        from: Option<Endpoint>,
    ) -> Result<(), DaemonError> {
        let Some(first) = self.messages.first() else { return Ok(()) };
        let receiver = first.header.receiver;
        let opening = shared.with(worker, |mode, core, _| self.begin(mode, core, batch, receiver));
        if let Some(opening) = opening {
            self.open(worker, &opening, batch.class);
            shared.with(worker, |mode, core, worker| {
                self.accept(mode, core, worker.recv_buffer.bytes(), from, &opening);
            });
        }
        for message in self.messages.drain(..) {
            match message.fate {
                Fate::Accepted(len) => {
                    let start = message.place.start + DATA_HEADER_LEN;
                    worker.queue_packet(shared, start..start + len)?;
                }
                Fate::Dropped(reason) => worker.count_drops(reason, 1, Some(batch.from)),
                Fate::Sealed | Fate::Opened(_) | Fate::Done => {}
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        mode: &mut WireGuard,
        core: &Core,
        batch: &GroBatch,
        receiver: u32,
    ) -> Option<Opening> {
        let opening = if core.is_from_own_tun(batch.local) {
            Err(DropReason::OwnTun)
        } else {
            mode.engine.opening(receiver, core.now)
        };
        for message in &mut self.messages {
            let checked = match &opening {
                Ok(opening) => mode.engine.check(opening, message.header),
                Err(reason) => Err(*reason),
            };
            if let Err(reason) = checked {
                message.fate = Fate::Dropped(reason);
            }
        }
        opening.ok()
    }

    fn open(&mut self, worker: &mut Worker<WireGuard>, opening: &Opening, class: u8) {
        for message in &mut self.messages {
            if !matches!(message.fate, Fate::Sealed) {
                continue;
            }
            let datagram = worker.recv_buffer.bytes_mut().get_mut(message.place.clone()).unwrap_or_default();
            message.fate = match opening.open(message.header, class, datagram) {
                Err(reason) => Fate::Dropped(reason),
                Ok(Ok(Opened::Packet(len))) => {
                    let packet = datagram.get(DATA_HEADER_LEN..).and_then(|rest| rest.get(..len));
                    let checked = carried::check(packet.unwrap_or_default());
                    Fate::Opened(checked.map(|()| Opened::Packet(len)))
                }
                Ok(opened) => Fate::Opened(opened),
            };
        }
    }

    fn accept(
        &mut self,
        mode: &mut WireGuard,
        core: &Core,
        recv_buffer: &[u8],
        from: Option<Endpoint>,
        opening: &Opening,
    ) {
        let mut sources = Sources::default();
        let mut accepted = Accepted::default();
        for message in &mut self.messages {
            let Fate::Opened(opened) = message.fate else { continue };
            let datagram = recv_buffer.get(message.place.clone()).unwrap_or_default();
            let peer = mode.engine.accept(opening, &mut accepted, message.header, datagram.len(), core.now);
            let fate = peer.and_then(|peer| match opened? {
                Opened::Keepalive => Ok(Fate::Done),
                Opened::Packet(len) => {
                    let packet = datagram.get(DATA_HEADER_LEN..).unwrap_or_default();
                    sources.check(mode, peer, packet).map(|()| Fate::Accepted(len))
                }
            });
            message.fate = fate.unwrap_or_else(Fate::Dropped);
        }
        mode.engine.settle(opening, accepted, from, core.now);
    }
}
