//! The path of packets: tun → engine → wire, and back.

use tracing::{info, trace};

use super::PlainTunnel;
use crate::counters::DropReason;
use crate::device::core::{Core, system};
use crate::device::{BUDGET, DeviceError, Progress, SockId, Token};
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

impl PlainTunnel {
    /// Takes the packet of `length` bytes that was read from the tun.
    pub(super) fn take_packet(&mut self, core: &mut Core, length: usize) -> Result<(), DeviceError> {
        let packet = core.thread.packet(length);
        match self.engine.handle_packet(packet, core.now) {
            Ok(()) => self.send_packet(core, length),
            Err(DropReason::OwnTun) => {
                core.count_own_datagram();
                Ok(())
            }
            Err(reason) => {
                core.count_drop(reason, None);
                Ok(())
            }
        }
    }

    fn send_packet(&mut self, core: &mut Core, length: usize) -> Result<(), DeviceError> {
        let Some(connected) = self.sockets.connected(()) else {
            core.count_drop(DropReason::Unreachable, None);
            return Ok(());
        };
        let packet = core.thread.packet(length);
        let sent = send(&connected.socket, packet);
        match sent.result {
            Ok(()) => {
                core.counters.tx.count(length);
                trace!(length, "packet to the peer");
            }
            Err(Fault::WouldBlock) => {
                self.unsent = Some(length);
                self.watch_writable(core, true)?;
            }
            Err(fault) => self.handle_send_fault(core, fault),
        }
        if sent.refused {
            self.handle_refused(core);
        }
        Ok(())
    }

    /// Sends the packet that found no room, and reads the tun again once it is gone.
    fn flush_unsent(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let Some(length) = self.unsent.take() else { return Ok(()) };
        self.send_packet(core, length)?;
        if self.unsent.is_none() {
            self.watch_writable(core, false)?;
            core.ready.insert(Token::Tun);
        }
        Ok(())
    }

    fn watch_writable(&self, core: &Core, watch: bool) -> Result<(), DeviceError> {
        let Some(connected) = self.sockets.connected(()) else { return Ok(()) };
        core.poll
            .watch_writable(&connected.socket, Token::Sock(connected.id), watch)
            .map_err(system("watching a socket"))
    }

    pub(super) fn drain_socket(&mut self, core: &mut Core, id: SockId) -> Result<Progress, DeviceError> {
        if self.sockets.connected(()).is_some_and(|connected| connected.id == id) {
            self.flush_unsent(core)?;
        }
        for _ in 0..BUDGET {
            // closed by now, perhaps by what it received
            let Some((socket, _)) = self.sockets.get(id) else { return Ok(Progress::Drained) };
            match socket.receive(&mut core.thread.datagram, &mut core.thread.control) {
                Ok(arrival) => match self.handle_datagram(core, &arrival)? {
                    Some(Datagram::NewPeer) => self.adopt(core, &arrival)?,
                    Some(Datagram::Packet | Datagram::Hello) => self.follow_local(core, &arrival)?,
                    None => {}
                },
                Err(error) => match fault::of_socket(&error) {
                    Fault::WouldBlock => return Ok(Progress::Drained),
                    Fault::Drop(reason) => self.handle_bounce(core, reason),
                    Fault::SourceGone => self.handle_bounce(core, DropReason::Unreachable),
                    Fault::Dead => {
                        return Err(DeviceError::System { what: "receiving from a socket", source: error });
                    }
                },
            }
        }
        Ok(Progress::More)
    }

    /// Takes an error that a datagram sent earlier came back with.
    fn handle_bounce(&mut self, core: &mut Core, reason: DropReason) {
        core.count_drop(reason, None);
        match reason {
            DropReason::Refused => self.handle_refused(core),
            DropReason::Unreachable => self.doubt_endpoint(),
            _ => {}
        }
        self.serve_engine(core);
    }

    fn handle_refused(&mut self, core: &mut Core) {
        self.engine.handle_refused(core.now);
        self.doubt_endpoint();
    }

    fn handle_send_fault(&mut self, core: &mut Core, fault: Fault) {
        match fault {
            // the caller keeps what must not be lost
            Fault::WouldBlock => {}
            Fault::Drop(reason) => {
                core.count_drop(reason, None);
                if reason == DropReason::Unreachable {
                    self.doubt_endpoint();
                }
            }
            Fault::SourceGone | Fault::Dead => {
                core.count_drop(DropReason::Unreachable, None);
                self.doubt_endpoint();
                self.schedule_reconnect(core);
            }
        }
    }

    /// Takes the datagram that was received last, and tells what it was, unless it was dropped.
    fn handle_datagram(
        &mut self,
        core: &mut Core,
        arrival: &Arrival,
    ) -> Result<Option<Datagram>, DeviceError> {
        if arrival.local.is_some_and(|local| local.interface == core.link.index) && !core.link.away {
            core.count_drop(DropReason::OwnTun, Some(arrival.from));
            return Ok(None);
        }
        let datagram = core.thread.datagram.get(..arrival.length).unwrap_or_default();
        let taken = self.engine.handle_datagram(arrival.from, datagram, core.now);
        match taken {
            Ok(Datagram::Packet) => core.deliver(0, arrival.length, arrival.from)?,
            Ok(Datagram::Hello | Datagram::NewPeer) => {}
            Err(reason) => core.count_drop(reason, Some(arrival.from)),
        }
        self.serve_engine(core);
        Ok(taken.ok())
    }

    /// Reads what waits in a socket whose place another one took, before it is closed. Nobody becomes the peer
    /// here: what a stranger sent to it between bind and connect is dropped.
    pub(super) fn drain_last(&mut self, core: &mut Core, old: &UdpSocket) -> Result<(), DeviceError> {
        for _ in 0..LAST_DRAIN {
            match old.receive(&mut core.thread.datagram, &mut core.thread.control) {
                Ok(arrival) => {
                    if self.handle_datagram(core, &arrival)? == Some(Datagram::NewPeer) {
                        core.count_drop(DropReason::Stranger, Some(arrival.from));
                    }
                }
                Err(error) => match fault::of_socket(&error) {
                    Fault::Drop(reason) => core.count_drop(reason, None),
                    Fault::WouldBlock | Fault::SourceGone | Fault::Dead => break,
                },
            }
        }
        Ok(())
    }

    /// Sends what the engine has to say and tells its news.
    pub(super) fn serve_engine(&mut self, core: &mut Core) {
        while let Some(datagram) = self.engine.poll_transmit() {
            let Some(connected) = self.sockets.connected(()) else { continue };
            let sent = send(&connected.socket, datagram);
            // without room now, the next one will do
            if let Err(fault) = sent.result {
                self.handle_send_fault(core, fault);
            }
            if sent.refused {
                self.handle_refused(core);
            }
        }
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Answered => {
                    if let Some(lookup) = &mut self.lookup {
                        lookup.doubtful = false;
                    }
                    if let Some(suppressed) = self.quiet.answered.allow(core.now) {
                        info!(suppressed, "the server answers");
                    }
                }
                Event::LookAgain => self.look_again(core),
            }
        }
    }
}
