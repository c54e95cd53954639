//! The path of packets: tun → allowed IPs → engine → wire, and back.

use tracing::{debug, info, trace, warn};

use super::{HANDSHAKES, WireGuard};
use crate::counters::DropReason;
use crate::device::core::{Core, system};
use crate::device::sockets::Connected;
use crate::device::thread_data::HEADROOM;
use crate::device::{BUDGET, DeviceError, Progress, SockId, Token};
use crate::io::fault::{self, Fault};
use crate::io::timer::unix_now;
use crate::io::udp::{Arrival, UdpSocket};
use crate::packet::{carried, ip, udp};
use crate::tunnel::wireguard::{Endpoint, Event, Incoming, Outgoing, Peer, PeerId, PublicKey, Transmit};

/// Datagrams read from a socket before it is closed: more than its receive buffer can hold.
const LAST_DRAIN: usize = 16_384;

/// How a peer is called in the log: the beginning of its key.
pub(super) fn short(key: &PublicKey) -> String {
    let mut name = key.to_string();
    name.truncate(10);
    name.push('…');
    name
}

impl WireGuard {
    /// Takes the packet of `length` bytes that was read from the tun.
    pub(super) fn take_packet(&mut self, core: &mut Core, length: usize) -> Result<(), DeviceError> {
        let packet = core.thread.packet(length);
        let peer = match self.peer_for(packet) {
            Ok(peer) => peer,
            Err(DropReason::OwnTun) => {
                core.count_own_datagram();
                return Ok(());
            }
            Err(reason) => {
                core.count_drop(reason, None);
                return Ok(());
            }
        };
        match self.engine.handle_packet(peer, &mut core.thread.packet, length, core.now) {
            Ok(Outgoing::Transmit(transmit)) => {
                core.counters.tx.count(length);
                trace!(length, "packet to a peer");
                self.transmit(core, transmit)
            }
            Ok(Outgoing::Staged) => {
                core.counters.tx.count(length);
                self.serve_engine(core)
            }
            Err(reason) => {
                core.count_drop(reason, None);
                Ok(())
            }
        }
    }

    fn peer_for(&self, packet: &[u8]) -> Result<PeerId, DropReason> {
        carried::check(packet)?;
        let (_, destination) = ip::addresses(packet).ok_or(DropReason::Malformed)?;
        let peer = self.allowed_ips.lookup(destination).ok_or(DropReason::NotRouted)?;
        let endpoint = self.engine.peer(peer).and_then(Peer::endpoint);
        if endpoint.is_some_and(|endpoint| udp::is_addressed_to(packet, endpoint.remote)) {
            return Err(DropReason::OwnTun);
        }
        Ok(peer)
    }

    /// Sends the datagram that lies at the front of the packet buffer.
    fn transmit(&mut self, core: &mut Core, transmit: Transmit) -> Result<(), DeviceError> {
        match self.send(core, transmit) {
            Ok(()) => {}
            Err(Fault::WouldBlock) => {
                self.unsent = Some(transmit);
                self.watch_writable(core, transmit)?;
            }
            Err(Fault::Drop(reason)) => core.count_drop(reason, Some(transmit.endpoint.remote)),
            Err(Fault::SourceGone | Fault::Dead) => self.handle_source_gone(core, transmit)?,
        }
        Ok(())
    }

    fn send(&self, core: &Core, transmit: Transmit) -> Result<(), Fault> {
        let datagram = core.thread.packet.get(..transmit.len).unwrap_or_default();
        let Endpoint { remote, local } = transmit.endpoint;
        let fault = |error| fault::of_socket(&error);
        if let Some(connected) = self.own_socket(transmit) {
            let send = || {
                if transmit.class == 0 {
                    connected.socket.send(datagram)
                } else {
                    connected.socket.send_with(datagram, None, None, transmit.class, remote.is_ipv6())
                }
            };
            // the first error may be about an earlier datagram
            return match send().map_err(fault) {
                Err(Fault::Drop(_)) => send().map_err(fault),
                result => result,
            };
        }
        let (_, socket) =
            self.sockets.disconnected_for(remote.ip()).ok_or(Fault::Drop(DropReason::Unreachable))?;
        socket.send_with(datagram, Some(remote), local, transmit.class, remote.is_ipv6()).map_err(fault)
    }

    /// The address of ours that we answered from is gone, or the way from there: the system chooses another, for
    /// this datagram and all that follow.
    fn handle_source_gone(&mut self, core: &mut Core, transmit: Transmit) -> Result<(), DeviceError> {
        let endpoint = Endpoint::new(transmit.endpoint.remote);
        if let Some(peer) = transmit.peer {
            self.disconnect(core, peer)?;
            if self.engine.peer(peer).and_then(Peer::endpoint) == Some(transmit.endpoint) {
                self.engine.set_endpoint(peer, Some(endpoint), core.now);
            }
        }
        match self.send(core, Transmit { endpoint, ..transmit }) {
            Ok(()) => debug!(endpoint = %endpoint.remote, "answers leave from another address of ours"),
            Err(Fault::Drop(reason)) => core.count_drop(reason, Some(endpoint.remote)),
            Err(Fault::WouldBlock) => core.count_drop(DropReason::QueueFull, Some(endpoint.remote)),
            Err(Fault::SourceGone | Fault::Dead) => {
                core.count_drop(DropReason::Unreachable, Some(endpoint.remote));
            }
        }
        Ok(())
    }

    fn own_socket(&self, transmit: Transmit) -> Option<&Connected<PeerId>> {
        let connected = transmit.peer.and_then(|peer| self.sockets.connected(peer));
        connected.filter(|connected| connected.is_for(transmit.endpoint))
    }

    fn socket_for(&self, transmit: Transmit) -> Option<(SockId, &UdpSocket)> {
        match self.own_socket(transmit) {
            Some(connected) => Some((connected.id, &connected.socket)),
            None => self.sockets.disconnected_for(transmit.endpoint.remote.ip()),
        }
    }

    fn watch_writable(&mut self, core: &Core, transmit: Transmit) -> Result<(), DeviceError> {
        let Some((id, socket)) = self.socket_for(transmit) else { return Ok(()) };
        core.poll.watch_writable(socket, Token::Sock(id), true).map_err(system("watching a socket"))?;
        if self.watched != Some(id) {
            self.unwatch_writable(core)?;
            self.watched = Some(id);
        }
        Ok(())
    }

    /// That may be another socket than the one by which the datagram went in the end: left on watch it would wake the
    /// loop for each datagram that it has sent.
    fn unwatch_writable(&mut self, core: &Core) -> Result<(), DeviceError> {
        let Some(id) = self.watched.take() else { return Ok(()) };
        let Some((socket, _)) = self.sockets.get(id) else { return Ok(()) };
        core.poll.watch_writable(socket, Token::Sock(id), false).map_err(system("watching a socket"))
    }

    /// Sends the datagram that found no room, and goes on with those that waited behind it.
    pub(super) fn flush_unsent(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let Some(transmit) = self.unsent.take() else { return Ok(()) };
        self.transmit(core, transmit)?;
        if self.unsent.is_none() {
            self.unwatch_writable(core)?;
            core.ready.insert(Token::Tun);
            self.serve_engine(core)?;
        }
        Ok(())
    }

    pub(super) fn drain_socket(&mut self, core: &mut Core, id: SockId) -> Result<Progress, DeviceError> {
        if self.unsent.is_some() {
            self.flush_unsent(core)?;
        }
        let mut progress = Progress::More;
        for _ in 0..BUDGET {
            // closed by now, perhaps by what it received
            let Some((socket, bound)) = self.sockets.get(id) else { return Ok(Progress::Drained) };
            match socket.receive(&mut core.thread.datagram, &mut core.thread.control) {
                Ok(arrival) => self.take_datagram(core, &arrival, bound)?,
                Err(error) => match fault::of_socket(&error) {
                    Fault::WouldBlock => {
                        progress = Progress::Drained;
                        break;
                    }
                    Fault::Drop(reason) => core.count_drop(reason, None),
                    Fault::SourceGone => core.count_drop(DropReason::Unreachable, None),
                    Fault::Dead => return Err(system("receiving from a socket")(error)),
                },
            }
        }
        self.serve_engine(core)?;
        Ok(progress)
    }

    /// Takes the datagram that was received last, by a socket that is bound to `bound` if it is a connected one.
    fn take_datagram(
        &mut self,
        core: &mut Core,
        arrival: &Arrival,
        bound: Option<std::net::IpAddr>,
    ) -> Result<(), DeviceError> {
        if arrival.local.is_some_and(|local| local.interface == core.link.index) && !core.link.away {
            core.count_drop(DropReason::OwnTun, Some(arrival.from));
            return Ok(());
        }
        let local = arrival.local.map(|local| local.address).or(bound);
        let from = Endpoint { remote: arrival.from, local };
        let datagram = core.thread.datagram.get_mut(..arrival.length).unwrap_or_default();
        match self.engine.handle_datagram(from, arrival.class, datagram, core.now) {
            Ok(Incoming::Packet { peer, len }) => {
                let packet = datagram.get(HEADROOM..).and_then(|rest| rest.get(..len)).unwrap_or_default();
                match self.check_source(peer, packet) {
                    Ok(()) => core.deliver(HEADROOM, len, arrival.from)?,
                    Err(reason) => core.count_drop(reason, Some(arrival.from)),
                }
            }
            Ok(Incoming::Queued) => core.ready.insert(Token::Handshakes),
            Ok(Incoming::Keepalive(_) | Incoming::Cookie(_)) => {}
            Err(reason) => core.count_drop(reason, Some(arrival.from)),
        }
        Ok(())
    }

    /// Cryptokey routing: a peer may only send from addresses that would be routed to it.
    fn check_source(&self, peer: PeerId, packet: &[u8]) -> Result<(), DropReason> {
        carried::check(packet)?;
        let (source, _) = ip::addresses(packet).ok_or(DropReason::Malformed)?;
        if self.allowed_ips.lookup(source) == Some(peer) { Ok(()) } else { Err(DropReason::NotAllowed) }
    }

    /// Reads what waits in a socket that is about to be closed.
    pub(super) fn drain_last(&mut self, core: &mut Core, old: &UdpSocket) -> Result<(), DeviceError> {
        let bound = old.local_addr().ok().map(|address| address.ip());
        for _ in 0..LAST_DRAIN {
            match old.receive(&mut core.thread.datagram, &mut core.thread.control) {
                Ok(arrival) => self.take_datagram(core, &arrival, bound)?,
                Err(error) => match fault::of_socket(&error) {
                    Fault::Drop(reason) => core.count_drop(reason, None),
                    Fault::WouldBlock | Fault::SourceGone | Fault::Dead => break,
                },
            }
        }
        Ok(())
    }

    /// Works on a few of the handshake messages that wait; the rest stays for the next turn, after the data.
    pub(super) fn drain_handshakes(&mut self, core: &mut Core) -> Result<Progress, DeviceError> {
        for _ in 0..HANDSHAKES {
            match self.engine.handle_queued(core.now) {
                None => break,
                Some(Ok(_)) => {}
                Some(Err(reason)) => core.count_drop(reason, None),
            }
        }
        self.serve_engine(core)?;
        Ok(if self.engine.queued() > 0 { Progress::More } else { Progress::Drained })
    }

    /// Tells the engine's news and sends what it has to say, as much as one turn has time for.
    pub(super) fn serve_engine(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        loop {
            // first, since news may be that a socket is not the right one any more; and each time, since one that was
            // closed upon sending had datagrams left, which are news again
            while let Some(event) = self.engine.poll_event() {
                self.handle_event(core, event)?;
            }
            if self.unsent.is_some() {
                break;
            }
            if !self.share.has_some(core.now) {
                core.ready.insert(Token::Handshakes);
                break;
            }
            let transmit = self.engine.poll_transmit(core.now, unix_now(), &mut core.thread.packet);
            let Some(transmit) = transmit else { break };
            self.share.take(transmit);
            self.transmit(core, transmit)?;
        }
        Ok(())
    }

    fn handle_event(&mut self, core: &mut Core, event: Event) -> Result<(), DeviceError> {
        match event {
            Event::EndpointMoved { peer, endpoint } => {
                debug!(endpoint = %endpoint.remote, local = ?endpoint.local, "endpoint moved");
                self.update_routes_for(core, endpoint);
                self.follow(core, peer)
            }
            Event::HandshakeCompleted { peer } => {
                if let Some(suppressed) = self.quiet.handshake.allow(core.now)
                    && let Some(peer) = self.engine.peer(peer)
                {
                    info!(peer = short(peer.public_key()), suppressed, "handshake completed");
                }
                self.names.handle_answered(peer);
                self.follow(core, peer)
            }
            Event::HandshakeFailing { peer } => {
                if let Some(state) = self.engine.peer(peer)
                    && let Some(suppressed) = self.quiet.silent.allow(core.now)
                {
                    let peer = short(state.public_key());
                    warn!(
                        peer,
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
