//! The data path of WireGuard mode: tun → allowed IPs → engine → wire, and back.

use std::net::IpAddr;
use std::ops::Range;

use tracing::{debug, info, warn};

use super::device_queue::{QueueChoice, QueueTable};
use super::peer_log::{LineKind, describe_clock_error};
use super::peer_lookup::PeerLookup;
use super::tunnel::WireGuard;
use crate::daemon::budget::Progress;
use crate::daemon::core::Core;
use crate::daemon::data_path::{DataPath as _, Route, RouteDecision};
use crate::daemon::error::DaemonError;
use crate::daemon::shared::Shared;
use crate::daemon::sockets_in_use::{SocketInfo, SocketRef};
use crate::daemon::token::Token;
use crate::daemon::worker::Worker;
use crate::net::error_class::ErrorClass;
use crate::net::recv_buffer::{GroBatch, MAX_GRO_SEGMENTS};
use crate::net::send_batch::{SendBatch, SendRoute};
use crate::net::timer::unix_now;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;
use wontun_packet::{inner, ip, udp};
use wontun_proto::allowed_ips::AllowedIps;
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, DataHeader, INITIATION_LEN, Message};
use wontun_proto::wireguard::{
    Accepted, Admission, Endpoint, Event, Incoming, Opened, Opening, PeerGuard, PeerId, Receiving, Sealing,
    Transmit, outer_class,
};

/// Maximum length of a message that the engine sends by itself: a staged packet, encrypted.
pub(super) const MAX_MESSAGE: usize = 65_536 + WireGuard::TAILROOM;

/// A batch of data messages of one session.
#[derive(Debug, Default)]
pub struct DataBatch {
    messages: Vec<DataMessage>,
}

/// A message of the batch.
#[derive(Debug)]
struct DataMessage {
    range: Range<usize>,
    header: DataHeader,
    outcome: Outcome,
}

/// Progress of a message.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Pending,
    /// Authentic, but not accepted yet; its contents may be invalid nevertheless.
    Opened(Result<Opened, DropReason>),
    Dropped(DropReason),
    /// Accepted; a packet of that length may be written to the tun, to the queue with that number.
    Accepted(usize, usize),
    /// Accepted; nothing is left to do: a keepalive, or a packet that waits for the peer's rate.
    Done,
}

impl WireGuard {
    pub(super) fn route_packet(
        &mut self,
        core: &Core,
        packet: &[u8],
        lengths: PacketLengths,
    ) -> Result<RouteDecision<Self>, DropReason> {
        let (_, destination) = ip::addresses(packet).ok_or(DropReason::Malformed)?;
        let peer = self.allowed_ips.lookup(destination).ok_or(DropReason::NotRouted)?;
        let state = |peer: PeerGuard<'_>| (peer.endpoint(), peer.is_limited());
        let (endpoint, is_limited) = self.engine.peer(peer).map(state).unwrap_or_default();
        if endpoint.is_some_and(|endpoint| udp::is_addressed_to(packet, endpoint.remote)) {
            return Err(DropReason::OwnTun);
        }
        let endpoint = endpoint.ok_or(DropReason::NoEndpoint)?;
        let route =
            self.route_to(core, Some(peer), endpoint, outer_class(packet)).ok_or(DropReason::Unreachable)?;
        if is_limited && self.engine.admit_outgoing(peer, packet, lengths, core.now)? == Admission::Wait {
            return Ok(RouteDecision::Limit(peer));
        }
        Ok(match self.engine.begin_send(peer, lengths, core.now)? {
            Some((sealing, _)) => RouteDecision::Send(route, sealing),
            None => RouteDecision::Stage(peer),
        })
    }

    /// Returns the route of a packet to a peer with a session and without limits, for which the
    /// lock is not needed.
    pub(super) fn route_by_peer(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        packet: Range<usize>,
        lengths: PacketLengths,
    ) -> Option<(Route<Self>, Sealing)> {
        let packet = worker.packet.get(packet)?;
        let (_, destination) = ip::addresses(packet)?;
        let id = worker.lookup.allowed_ips.load().as_ref()?.lookup(destination)?;
        let mut peer = worker.lookup.peers.lock(id)?;
        let endpoint = peer.endpoint()?;
        if peer.is_limited() || udp::is_addressed_to(packet, endpoint.remote) {
            return None;
        }
        let Endpoint { remote, local } = endpoint;
        let sockets = &worker.view.load().sockets;
        let route = sockets.route(worker.number, Some(id), remote, local, outer_class(packet))?;
        let (sealing, _) = peer.begin_send(lengths, worker.now).ok()??;
        let has_work = peer.has_work(worker.now);
        drop(peer);
        if has_work {
            shared.with(worker, |mode, core, _| mode.engine.queue_work(id, core.now));
        }
        Some((route, sealing))
    }

    pub(super) fn route_to(
        &self,
        core: &Core,
        peer: Option<PeerId>,
        endpoint: Endpoint,
        class: u8,
    ) -> Option<SendRoute<SocketRef<PeerId>>> {
        self.sockets.table().route(core.current(), peer, endpoint.remote, endpoint.local, class)
    }

    pub(super) fn process_send_error(
        &mut self,
        core: &mut Core,
        class: ErrorClass,
        route: &SendRoute<SocketRef<PeerId>>,
        datagrams: usize,
    ) -> Result<Option<SendRoute<SocketRef<PeerId>>>, DaemonError> {
        let reason = match class {
            ErrorClass::Drop(reason) => reason,
            ErrorClass::WouldBlock => DropReason::QueueFull,
            ErrorClass::SourceAddressLost | ErrorClass::Fatal => {
                if let Some(other) = self.reroute(core, route)? {
                    return Ok(Some(other));
                }
                DropReason::Unreachable
            }
        };
        core.count_drops(reason, datagrams, Some(route.remote));
        if let Some(peer) = route.owner.owner {
            if reason == DropReason::Unreachable {
                self.engine.handle_unreachable(peer, route.remote, core.now);
            }
            self.handle_datagram_error(core, peer, reason, route.remote);
        }
        Ok(None)
    }

    /// Handles the loss of the local address used for answers, or of the route from it: the system
    /// chooses another, for these datagrams and all later ones.
    fn reroute(
        &mut self,
        core: &mut Core,
        route: &SendRoute<SocketRef<PeerId>>,
    ) -> Result<Option<SendRoute<SocketRef<PeerId>>>, DaemonError> {
        if route.local.is_none() && !route.is_connected {
            return Ok(None);
        }
        let endpoint = Endpoint::new(route.remote);
        if let Some(peer) = route.owner.owner {
            self.disconnect(core, peer);
            let old = Endpoint { remote: route.remote, local: route.local };
            self.engine.set_any_source(peer, |endpoint| endpoint == old);
            let is_known = self.engine.peer(peer).is_some();
            if is_known && let Some(suppressed) = self.peer_log.allow(peer, LineKind::Moved, core.now) {
                let (peer, endpoint) = (self.peer_name(peer), endpoint.remote);
                debug!(peer, %endpoint, suppressed, "source address changed");
            }
        }
        Ok(self.route_to(core, route.owner.owner, endpoint, route.class))
    }

    pub(super) fn receive_datagrams(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        batch: &GroBatch,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError> {
        let mut data = std::mem::take(&mut worker.scratch);
        let local = batch.local.map(|local| local.address).or(socket_info.bound);
        let from = Endpoint { remote: batch.from, local };
        // datagrams of a draining socket are older than the peer's move, and must not move it back
        let source = socket_info.draining.is_none().then_some(from);
        let mut result = Ok(());
        for range in batch.ranges() {
            let datagram = worker.recv_buffer.bytes().get(range.clone()).unwrap_or_default();
            match Message::parse(datagram) {
                Some(Message::Data(header)) => {
                    if data.messages.first().is_some_and(|first| first.header.receiver != header.receiver) {
                        result = result.and(data.process(shared, worker, batch, source));
                    }
                    data.messages.push(DataMessage { range, header, outcome: Outcome::Pending });
                }
                _ => {
                    shared.with(worker, |mode, core, worker| {
                        let datagram = worker.recv_buffer.bytes_mut().get_mut(range).unwrap_or_default();
                        mode.receive_message(core, batch, from, datagram);
                    });
                }
            }
        }
        result = result.and(data.process(shared, worker, batch, source));
        worker.scratch = data;
        result
    }

    /// Handles a message other than data.
    fn receive_message(&mut self, core: &mut Core, batch: &GroBatch, from: Endpoint, datagram: &mut [u8]) {
        if core.is_from_own_tun(batch.local) {
            core.count_drop(DropReason::OwnTun, Some(batch.from));
            return;
        }
        match self.engine.handle_datagram(from, batch.class, datagram, core.now) {
            Ok(Incoming::Queued) => core.handshakes.post(),
            Ok(Incoming::Packet { .. } | Incoming::Keepalive(_) | Incoming::Cookie(_)) => {}
            Err(reason) => {
                core.count_drop(reason, Some(batch.from));
                if reason == DropReason::NoCookie
                    && let Err(error) = self.handle_load(core)
                {
                    core.fail(error);
                }
            }
        }
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
        let Some(batch) = batch else {
            if self.engine.has_outgoing() {
                core.pass_on_transmit();
            }
            return Ok(Progress::Drained);
        };
        let room = batch.reserve(MAX_MESSAGE).filter(|_| self.send_budget.is_available(core.now));
        let Some(room) = room else {
            core.post(Token::Transmit);
            return Ok(Progress::Drained);
        };
        let Some(transmit) = self.engine.poll_transmit(core.now, unix_now(), room) else {
            return Ok(Progress::Drained);
        };
        let Transmit { peer, endpoint, len, class } = transmit;
        self.send_budget.spend(transmit);
        if let Some(peer) = peer.filter(|_| len == INITIATION_LEN) {
            if let Some(sent) = self.engine.sent_timestamp() {
                self.state_reports.handle_initiation(sent, core.now);
            }
            self.watch_errors(core, peer, endpoint)?;
        }
        match self.route_to(core, peer, endpoint, class) {
            Some(route) => batch.commit(len, &route),
            None => {
                core.count_drop(DropReason::Unreachable, Some(endpoint.remote));
                if let Some(peer) = peer {
                    self.handle_datagram_error(core, peer, DropReason::Unreachable, endpoint.remote);
                }
            }
        }
        Ok(Progress::More)
    }

    fn handle_event(&mut self, core: &mut Core, event: Event) -> Result<(), DaemonError> {
        match event {
            Event::EndpointMoved { peer, endpoint } => {
                if let Some(suppressed) = self.peer_log.allow(peer, LineKind::Moved, core.now) {
                    let (peer, local, endpoint) = (self.peer_name(peer), endpoint.local, endpoint.remote);
                    debug!(peer, %endpoint, ?local, suppressed, "endpoint moved");
                }
                if let Some([one, other]) = self.peer_log.handle_moved(peer, endpoint.remote, core.now) {
                    warn!(
                        peer = self.peer_name(peer),
                        %one,
                        %other,
                        "a peer's key is used by two devices, which displace each other: give each device its own key \
                         (wontun peer add NAME); if it is one device, check why its source address changes"
                    );
                }
                self.report_endpoint(core, peer);
                self.update_socket(core, peer)
            }
            Event::HandshakeCompleted { peer } => {
                if let Some(suppressed) = self.peer_log.allow(peer, LineKind::Handshake, core.now) {
                    info!(peer = self.peer_name(peer), suppressed, "handshake completed");
                }
                self.handle_connected(core, peer);
                self.handle_answered(core, peer);
                self.resolver.handle_response_sent(peer);
                self.report_path(core, peer);
                self.report_endpoint(core, peer);
                self.update_socket(core, peer)
            }
            Event::StateChanged { peer } => {
                self.state_reports.handle_changed(peer, core.now);
                Ok(())
            }
            Event::QuotaUsedUp { peer } => {
                self.handle_quota_used_up(peer);
                Ok(())
            }
            Event::ClockBehind { peer, unix, behind } => {
                if let Some(suppressed) = self.peer_log.allow(peer, LineKind::Clock, core.now) {
                    warn!(
                        peer = self.peer_name(peer),
                        suppressed,
                        "rejecting a peer's handshakes, since its clock was set back: {}: set the peer's clock, \
                         for example by NTP; to accept it unchanged, run 'wontun peer reset NAME', or remove the \
                         peer and add it again",
                        describe_clock_error(unix, behind, unix_now())
                    );
                }
                Ok(())
            }
            Event::UnknownPeer { from, public } => {
                self.handle_unknown_peer(core, from, &public);
                Ok(())
            }
            Event::Unanswered { peer, elapsed } => {
                self.handle_no_response(core, peer, elapsed);
                Ok(())
            }
            Event::HandshakeFailing { peer } => {
                self.resolver.handle_unanswered(peer, core.now);
                self.request_lookups(core);
                Ok(())
            }
        }
    }
}

/// Cache of the last lookup: packets of a batch mostly come from one address.
#[derive(Default)]
struct SourceFilter(Option<(IpAddr, bool)>);

impl SourceFilter {
    /// Checks the source address (cryptokey routing): a peer may only send from addresses that are
    /// routed to it.
    fn check(
        &mut self,
        allowed_ips: &AllowedIps<PeerId>,
        peer: PeerId,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let (source, _) = ip::addresses(packet).ok_or(DropReason::Malformed)?;
        let is_allowed = match self.0 {
            Some((last, is_allowed)) if last == source => is_allowed,
            _ => allowed_ips.lookup(source) == Some(peer),
        };
        self.0 = Some((source, is_allowed));
        if is_allowed { Ok(()) } else { Err(DropReason::NotAllowed) }
    }
}

/// Acceptance of the messages of a batch.
trait Acceptor {
    /// Records an authentic message of `len` bytes.
    fn accept(&mut self, header: DataHeader, len: usize) -> Result<(), DropReason>;

    /// Decides about a packet from the peer, whose source address was checked.
    fn admit(&mut self, packet: &[u8]) -> Result<Admission, DropReason>;
}

/// Acceptance with the interface's lock.
impl Acceptor for Receiving<'_> {
    fn accept(&mut self, header: DataHeader, len: usize) -> Result<(), DropReason> {
        Receiving::accept(self, header, len)
    }

    fn admit(&mut self, packet: &[u8]) -> Result<Admission, DropReason> {
        Receiving::admit(self, packet)
    }
}

/// Acceptance by a peer without limits, for whose current session the lock is not needed.
struct ByPeer<'a> {
    peer: PeerGuard<'a>,
    accepted: Accepted,
}

impl Acceptor for ByPeer<'_> {
    fn accept(&mut self, header: DataHeader, len: usize) -> Result<(), DropReason> {
        self.peer.accept(&mut self.accepted, header, len)
    }

    fn admit(&mut self, _packet: &[u8]) -> Result<Admission, DropReason> {
        Ok(Admission::Pass)
    }
}

impl DataBatch {
    /// Creates a batch with capacity for the largest number of datagrams.
    pub(super) fn with_capacity() -> Self {
        Self { messages: Vec::with_capacity(MAX_GRO_SEGMENTS) }
    }

    /// Decrypts the batch in three steps: messages worth it are selected with the peer locked,
    /// decrypted without it, and accepted with it again. Accepted packets are passed on.
    fn process(
        &mut self,
        shared: &Shared<WireGuard>,
        worker: &mut Worker<WireGuard>,
        batch: &GroBatch,
        from: Option<Endpoint>,
    ) -> Result<(), DaemonError> {
        let Some(first) = self.messages.first() else { return Ok(()) };
        let index = first.header.receiver;
        match self.begin(shared, worker, batch, index) {
            Ok(opening) => {
                self.open(worker, &opening, batch.class);
                match self.accept_by_peer(worker, from, &opening, index) {
                    Some(has_work) => {
                        if has_work {
                            let peer = opening.peer();
                            shared.with(worker, |mode, core, _| mode.engine.queue_work(peer, core.now));
                        }
                    }
                    None => {
                        shared.with(worker, |mode, core, worker| {
                            self.accept_with_lock(mode, core, worker.recv_buffer.bytes(), from, &opening);
                        });
                    }
                }
            }
            Err(reason) => self.drop_all(reason),
        }
        for message in self.messages.drain(..) {
            match message.outcome {
                Outcome::Accepted(len, queue) => {
                    let start = message.range.start + DATA_HEADER_LEN;
                    let packet = worker.recv_buffer.bytes().get(start..start + len).unwrap_or_default();
                    if worker.inbound.hold(packet, message.header, queue, worker.now) {
                        continue;
                    }
                    worker.inbound.record_message(message.header);
                    worker.write_passed(shared)?;
                    worker.select_queue(shared, queue)?;
                    worker.queue_packet(shared, start..start + len)?;
                }
                Outcome::Dropped(reason) => worker.count_drops(reason, 1, Some(batch.from)),
                Outcome::Pending | Outcome::Opened(_) | Outcome::Done => {}
            }
        }
        Ok(())
    }

    /// Finds the session of the messages, and drops those whose counters cannot be accepted.
    fn begin(
        &mut self,
        shared: &Shared<WireGuard>,
        worker: &mut Worker<WireGuard>,
        batch: &GroBatch,
        index: u32,
    ) -> Result<Opening, DropReason> {
        if worker.view.load().is_from_own_tun(batch.local) {
            return Err(DropReason::OwnTun);
        }
        let mut known = worker.lookup.peer_of_index(index);
        if known.is_none() {
            drop(known);
            let peer = shared.with(worker, |mode, _, _| mode.engine.peer_of_index(index));
            worker.lookup.remember(index, peer.ok_or(DropReason::UnknownIndex)?);
            known = worker.lookup.peer_of_index(index);
        }
        let mut peer = known.ok_or(DropReason::UnknownIndex)?;
        let opening = peer.begin_receive(index, worker.now)?;
        for message in &mut self.messages {
            if let Err(reason) = peer.check(message.header) {
                message.outcome = Outcome::Dropped(reason);
            }
        }
        Ok(opening)
    }

    fn open(&mut self, worker: &mut Worker<WireGuard>, opening: &Opening, class: u8) {
        for message in &mut self.messages {
            if !matches!(message.outcome, Outcome::Pending) {
                continue;
            }
            let datagram = worker.recv_buffer.bytes_mut().get_mut(message.range.clone()).unwrap_or_default();
            message.outcome = match opening.open(message.header, class, datagram) {
                Err(reason) => Outcome::Dropped(reason),
                Ok(Ok(Opened::Packet(len))) => {
                    let packet = datagram.get(DATA_HEADER_LEN..).and_then(|rest| rest.get(..len));
                    let checked = inner::validate(packet.unwrap_or_default());
                    Outcome::Opened(checked.map(|()| Opened::Packet(len)))
                }
                Ok(opened) => Outcome::Opened(opened),
            };
        }
    }

    fn drop_all(&mut self, reason: DropReason) {
        self.messages.iter_mut().for_each(|message| message.outcome = Outcome::Dropped(reason));
    }

    /// Accepts the messages without the lock; returns true if the engine must queue work of the
    /// peer, and `None` if accepting them takes the lock.
    fn accept_by_peer(
        &mut self,
        worker: &mut Worker<WireGuard>,
        from: Option<Endpoint>,
        opening: &Opening,
        index: u32,
    ) -> Option<bool> {
        let PeerLookup { peers, allowed_ips, workers, .. } = &worker.lookup;
        let mut peer = peers.lock(opening.peer())?;
        if peer.is_limited() || peer.is_next(index) {
            return None;
        }
        let allowed_ips = allowed_ips.load();
        let table =
            QueueTable { allowed_ips: allowed_ips.as_ref()?, workers: *workers, current: worker.number };
        let mut acceptor = ByPeer { peer, accepted: Accepted::default() };
        self.accept(&mut acceptor, table, worker.recv_buffer.bytes(), opening.peer());
        let ByPeer { mut peer, accepted } = acceptor;
        peer.finish_receive(accepted, from, worker.now);
        Some(peer.has_work(worker.now))
    }

    fn accept_with_lock(
        &mut self,
        mode: &mut WireGuard,
        core: &Core,
        recv_buffer: &[u8],
        from: Option<Endpoint>,
        opening: &Opening,
    ) {
        let WireGuard { engine, allowed_ips, workers, .. } = mode;
        let Some(mut receiving) = engine.receive(opening.peer(), core.now) else {
            return self.drop_all(DropReason::UnknownIndex);
        };
        let table = QueueTable { allowed_ips, workers: *workers, current: core.current() };
        self.accept(&mut receiving, table, recv_buffer, opening.peer());
        receiving.finish(from);
    }

    /// Accepts authentic messages, and decides where their packets go.
    fn accept(
        &mut self,
        acceptor: &mut impl Acceptor,
        table: QueueTable<'_>,
        recv_buffer: &[u8],
        peer: PeerId,
    ) {
        let mut source_filter = SourceFilter::default();
        let mut queue_choice = QueueChoice::default();
        for message in &mut self.messages {
            let Outcome::Opened(opened) = message.outcome else { continue };
            let datagram = recv_buffer.get(message.range.clone()).unwrap_or_default();
            let outcome = acceptor.accept(message.header, datagram.len()).and_then(|()| match opened? {
                Opened::Keepalive => Ok(Outcome::Done),
                Opened::Packet(len) => {
                    let packet = datagram.get(DATA_HEADER_LEN..).unwrap_or_default();
                    source_filter.check(table.allowed_ips, peer, packet)?;
                    let queue = queue_choice.queue(table, peer, packet);
                    Ok(match acceptor.admit(packet.get(..len).unwrap_or_default())? {
                        Admission::Pass => Outcome::Accepted(len, queue),
                        Admission::Wait => Outcome::Done,
                    })
                }
            });
            message.outcome = outcome.unwrap_or_else(Outcome::Dropped);
        }
    }
}
