//! The path of packets: tun → engine → wire, and back.

use std::net::SocketAddr;

use tracing::{debug, enabled, info, trace, warn};

use super::{BUDGET, Device, DeviceError, Progress, SockId, Token};
use crate::counters::DropReason;
use crate::io::fault::{self, Fault};
use crate::io::udp::{Arrival, UdpSocket};
use crate::tunnel::plain::{Datagram, Event};

/// Datagrams read from a socket before it is closed: more than its receive buffer can hold.
const LAST_DRAIN: usize = 16_384;

/// What became of a datagram.
struct Sent {
    result: Result<(), Fault>,
    /// The peer's host had refused an earlier one.
    refused: bool,
}

fn send(socket: &UdpSocket, datagram: &[u8]) -> Sent {
    let mut refused = false;
    let mut result = socket.send(datagram).map_err(|error| fault::of_socket(&error));
    if let Err(Fault::Drop(reason)) = result {
        // that may be about an earlier datagram, and this one has not been sent yet
        refused = reason == DropReason::Refused;
        result = socket.send(datagram).map_err(|error| fault::of_socket(&error));
    }
    Sent { result, refused }
}

impl Device {
    pub(super) fn drain_tun(&mut self) -> Result<Progress, DeviceError> {
        for _ in 0..BUDGET {
            if self.thread.unsent.is_some() {
                // the tun's queue holds what comes until the socket has room; flush_unsent() comes back here
                return Ok(Progress::Drained);
            }
            match self.tun.receive(&mut self.thread.packet) {
                Ok(length) => self.handle_packet(length)?,
                Err(error) => match fault::of_tun(&error) {
                    Fault::WouldBlock => return Ok(Progress::Drained),
                    Fault::Dead => return Err(DeviceError::TunGone(self.config.tun.clone())),
                    Fault::Drop(reason) => {
                        // a device that is going away: its end is told by another event
                        self.count_drop(reason, None);
                        return Ok(Progress::Drained);
                    }
                    Fault::SourceGone => {}
                },
            }
        }
        Ok(Progress::More)
    }

    /// Takes the packet of `length` bytes that was read from the tun.
    fn handle_packet(&mut self, length: usize) -> Result<(), DeviceError> {
        let packet = self.thread.packet.get(..length).unwrap_or_default();
        match self.peer.engine.handle_packet(packet, self.now) {
            Ok(()) => self.send_packet(length),
            Err(reason) => {
                self.count_drop(reason, None);
                if reason == DropReason::OwnTun
                    && let Some(suppressed) = self.quiet.own_tun.allow(self.now)
                {
                    let tun = &self.config.tun;
                    warn!(
                        suppressed,
                        "the route to the peer leads into {tun} itself: add a route to the peer's address past the tunnel (ip route add ADDRESS via GATEWAY)"
                    );
                }
                Ok(())
            }
        }
    }

    fn send_packet(&mut self, length: usize) -> Result<(), DeviceError> {
        let Some(connected) = self.sockets.connected() else {
            self.count_drop(DropReason::Unreachable, None);
            return Ok(());
        };
        let packet = self.thread.packet.get(..length).unwrap_or_default();
        let sent = send(&connected.socket, packet);
        match sent.result {
            Ok(()) => {
                self.peer.counters.tx.count(length);
                trace!(length, "packet to the peer");
            }
            Err(Fault::WouldBlock) => {
                self.thread.unsent = Some(length);
                self.watch_writable(true)?;
            }
            Err(fault) => self.handle_send_fault(fault),
        }
        if sent.refused {
            self.handle_refused();
        }
        Ok(())
    }

    /// Sends the packet that found no room, and reads the tun again once it is gone.
    fn flush_unsent(&mut self) -> Result<(), DeviceError> {
        let Some(length) = self.thread.unsent.take() else { return Ok(()) };
        self.send_packet(length)?;
        if self.thread.unsent.is_none() {
            self.watch_writable(false)?;
            self.ready.insert(Token::Tun);
        }
        Ok(())
    }

    fn watch_writable(&self, watch: bool) -> Result<(), DeviceError> {
        let Some(connected) = self.sockets.connected() else { return Ok(()) };
        self.poll
            .watch_writable(&connected.socket, Token::Sock(connected.id), watch)
            .map_err(|source| DeviceError::System { what: "watching a socket", source })
    }

    pub(super) fn drain_socket(&mut self, id: SockId) -> Result<Progress, DeviceError> {
        if self.sockets.connected().is_some_and(|connected| connected.id == id) {
            self.flush_unsent()?;
        }
        for _ in 0..BUDGET {
            // closed by now, perhaps by what it received
            let Some(socket) = self.sockets.get(id) else { return Ok(Progress::Drained) };
            match socket.receive(&mut self.thread.datagram, &mut self.thread.control) {
                Ok(arrival) => match self.handle_datagram(&arrival)? {
                    Some(Datagram::NewPeer) => self.adopt(&arrival)?,
                    Some(Datagram::Packet | Datagram::Hello) => self.follow_local(&arrival)?,
                    None => {}
                },
                Err(error) => match fault::of_socket(&error) {
                    Fault::WouldBlock => return Ok(Progress::Drained),
                    Fault::Drop(reason) => self.handle_bounce(reason),
                    Fault::SourceGone => self.handle_bounce(DropReason::Unreachable),
                    Fault::Dead => {
                        return Err(DeviceError::System { what: "receiving from a socket", source: error });
                    }
                },
            }
        }
        Ok(Progress::More)
    }

    /// Takes an error that a datagram sent earlier came back with.
    fn handle_bounce(&mut self, reason: DropReason) {
        self.count_drop(reason, None);
        match reason {
            DropReason::Refused => self.handle_refused(),
            DropReason::Unreachable => self.doubt_endpoint(),
            _ => {}
        }
        self.serve_engine();
    }

    fn handle_refused(&mut self) {
        self.peer.engine.handle_refused(self.now);
        self.doubt_endpoint();
    }

    fn handle_send_fault(&mut self, fault: Fault) {
        match fault {
            // the caller keeps what must not be lost
            Fault::WouldBlock => {}
            Fault::Drop(reason) => {
                self.count_drop(reason, None);
                if reason == DropReason::Unreachable {
                    self.doubt_endpoint();
                }
            }
            Fault::SourceGone | Fault::Dead => {
                self.count_drop(DropReason::Unreachable, None);
                self.doubt_endpoint();
                self.schedule_reconnect();
            }
        }
    }

    /// Takes the datagram that was received last, and tells what it was, unless it was dropped.
    fn handle_datagram(&mut self, arrival: &Arrival) -> Result<Option<Datagram>, DeviceError> {
        if arrival.local.is_some_and(|local| local.interface == self.link.index) && !self.link.away {
            self.count_drop(DropReason::OwnTun, Some(arrival.from));
            return Ok(None);
        }
        let datagram = self.thread.datagram.get(..arrival.length).unwrap_or_default();
        let taken = self.peer.engine.handle_datagram(arrival.from, datagram, self.now);
        match taken {
            Ok(Datagram::Packet) => match self.tun.send(datagram) {
                Ok(()) => {
                    self.peer.counters.rx.count(datagram.len());
                    trace!(length = datagram.len(), "packet from the peer");
                }
                Err(error) => match fault::of_tun(&error) {
                    Fault::Dead => return Err(DeviceError::TunGone(self.config.tun.clone())),
                    Fault::Drop(reason) => self.count_drop(reason, Some(arrival.from)),
                    Fault::WouldBlock | Fault::SourceGone => {
                        self.count_drop(DropReason::QueueFull, Some(arrival.from));
                    }
                },
            },
            Ok(Datagram::Hello | Datagram::NewPeer) => {}
            Err(reason) => self.count_drop(reason, Some(arrival.from)),
        }
        self.serve_engine();
        Ok(taken.ok())
    }

    /// Reads what waits in a socket whose place another one took, before it is closed. Nobody becomes the peer
    /// here: what a stranger sent to it between bind and connect is dropped.
    pub(super) fn drain_last(&mut self, old: &UdpSocket) -> Result<(), DeviceError> {
        for _ in 0..LAST_DRAIN {
            match old.receive(&mut self.thread.datagram, &mut self.thread.control) {
                Ok(arrival) => {
                    if self.handle_datagram(&arrival)? == Some(Datagram::NewPeer) {
                        self.count_drop(DropReason::Stranger, Some(arrival.from));
                    }
                }
                Err(error) => match fault::of_socket(&error) {
                    Fault::Drop(reason) => self.count_drop(reason, None),
                    Fault::WouldBlock | Fault::SourceGone | Fault::Dead => break,
                },
            }
        }
        Ok(())
    }

    /// Sends what the engine has to say and tells its news.
    pub(super) fn serve_engine(&mut self) {
        while let Some(datagram) = self.peer.engine.poll_transmit() {
            let Some(connected) = self.sockets.connected() else { continue };
            let sent = send(&connected.socket, datagram);
            // without room now, the next one will do
            if let Err(fault) = sent.result {
                self.handle_send_fault(fault);
            }
            if sent.refused {
                self.handle_refused();
            }
        }
        while let Some(event) = self.peer.engine.poll_event() {
            match event {
                Event::Answered => {
                    if let Some(lookup) = &mut self.lookup {
                        lookup.doubtful = false;
                    }
                    if let Some(suppressed) = self.quiet.answered.allow(self.now) {
                        info!(suppressed, "the server answers");
                    }
                }
                Event::LookAgain => self.look_again(),
            }
        }
    }

    /// Counts a drop; at debug level also says so, at most once a second.
    pub(super) fn count_drop(&mut self, reason: DropReason, from: Option<SocketAddr>) {
        self.peer.counters.dropped(reason);
        if enabled!(tracing::Level::DEBUG)
            && let Some(suppressed) = self.quiet.drops.allow(self.now)
        {
            let from = from.map(tracing::field::display);
            debug!(reason = reason.name(), from, suppressed, "dropped");
        }
    }
}
