//! The event loop of the process that enrols devices: datagrams in, requests to the supervisor out,
//! and its answers back. The tunnel has authenticated the source address of each datagram.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::datagram::{Answer, Identifier, MAX_DATAGRAM, Request};
use super::messages::FromResponder;
use crate::admin::messages::ClientText;
use crate::net::timer::now;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::time::Instant;

/// Maximum number of requests that the supervisor has not answered, one per source.
const MAX_PENDING: usize = 8;
/// Minimum interval between two requests to the supervisor, which reads the file for each.
const INTERVAL: Duration = Duration::from_millis(50);
/// Time for which a device's file is kept: it is sent in parts.
const KEPT: Duration = Duration::from_secs(5);
/// Maximum number of files that are kept.
const MAX_FILES: usize = 8;
/// Number of datagrams read per turn of each socket.
const BUDGET: usize = 16;

/// A request that the supervisor has not answered.
#[derive(Debug)]
struct Pending {
    number: u32,
    device: Device,
    identifier: Identifier,
    /// Offset of the part of the file; `None` for an enrolment.
    offset: Option<u16>,
}

/// The source of a datagram, and the number of the socket that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    socket: usize,
    from: SocketAddr,
}

/// A device's file.
#[derive(Debug)]
struct KeptFile {
    from: IpAddr,
    text: ClientText,
    until: Instant,
}

/// State of the process.
#[derive(Debug)]
pub(super) struct Responder {
    sockets: Vec<UdpSocket>,
    pending: Vec<Pending>,
    files: Vec<KeptFile>,
    next: u32,
    /// Time of the last request to the supervisor.
    requested_at: Option<Instant>,
}

impl Responder {
    pub(super) fn new(sockets: Vec<UdpSocket>) -> Self {
        Self { sockets, pending: Vec::new(), files: Vec::new(), next: 0, requested_at: None }
    }

    /// Waits until a socket or `channel` is readable, and answers datagrams. Returns requests to
    /// the supervisor.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn turn(&mut self, channel: BorrowedFd<'_>) -> io::Result<Vec<FromResponder>> {
        let sockets = self.sockets.iter().map(UdpSocket::as_fd);
        let mut descriptors: Vec<_> =
            sockets.chain([channel]).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<_> = descriptors.iter().map(|polled| polled.any() == Some(true)).collect();
        let now = now()?;
        self.files.retain(|file| now < file.until);
        let mut requests = Vec::new();
        for socket in (0..self.sockets.len()).filter(|socket| ready.get(*socket) == Some(&true)) {
            self.receive(socket, now, &mut requests);
        }
        Ok(requests)
    }

    fn receive(&mut self, number: usize, now: Instant, requests: &mut Vec<FromResponder>) {
        // one byte more than is valid: a longer datagram is cut
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BUDGET {
            let Some(socket) = self.sockets.get(number) else { return };
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    requests.extend(self.handle(Device { socket: number, from }, datagram, now));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // also errors of earlier answers, which the kernel reports here
                Err(_) => break,
            }
        }
        zeroize::Zeroize::zeroize(&mut buffer);
    }

    /// Handles a datagram. Returns the request to the supervisor that it needs. A datagram that is
    /// no request, or one too many, is ignored: a device repeats its own.
    fn handle(&mut self, device: Device, datagram: &[u8], now: Instant) -> Option<FromResponder> {
        let (identifier, request) = Request::parse(datagram)?;
        let from = device.from.ip().to_canonical();
        let offset = match request {
            Request::Settings { offset } => Some(offset),
            Request::Enrol { .. } => None,
        };
        if let Some(offset) = offset
            && let Some(file) = self.files.iter().find(|file| file.from == from)
        {
            self.send_part(device, &identifier, &file.text, offset);
            return None;
        }
        let is_source = |pending: &Pending| pending.device.from.ip() == device.from.ip();
        let is_early = self.requested_at.is_some_and(|at| now.since(at) < INTERVAL);
        if is_early || self.pending.len() >= MAX_PENDING || self.pending.iter().any(is_source) {
            return None;
        }
        self.requested_at = Some(now);
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.pending.push(Pending { number, device, identifier, offset });
        Some(match request {
            Request::Settings { .. } => FromResponder::Settings { number, from },
            Request::Enrol { key, preshared_key } => {
                FromResponder::Enrol { number, from, key, preshared_key }
            }
        })
    }

    /// Answers a device with its file.
    pub(super) fn handle_settings(&mut self, number: u32, result: Result<ClientText, ErrorMessage>) {
        let Some(Pending { device, identifier, offset, .. }) = self.take(number) else { return };
        match result {
            Ok(text) => {
                self.send_part(device, &identifier, &text, offset.unwrap_or_default());
                if let Ok(now) = now()
                    && self.files.len() < MAX_FILES
                {
                    let from = device.from.ip().to_canonical();
                    self.files.push(KeptFile { from, text, until: now + KEPT });
                }
            }
            Err(error) => self.send(device, &identifier, &Answer::Error(&error.into_string())),
        }
    }

    /// Answers a device that was enrolled, or was not.
    pub(super) fn handle_enrolled(&mut self, number: u32, result: Result<(), ErrorMessage>) {
        let Some(Pending { device, identifier, .. }) = self.take(number) else { return };
        match result {
            Ok(()) => {
                self.files.retain(|file| file.from != device.from.ip().to_canonical());
                self.send(device, &identifier, &Answer::Enrolled);
            }
            Err(error) => self.send(device, &identifier, &Answer::Error(&error.into_string())),
        }
    }

    fn take(&mut self, number: u32) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.number == number)?;
        Some(self.pending.swap_remove(at))
    }

    fn send_part(&self, device: Device, identifier: &Identifier, text: &ClientText, offset: u16) {
        if let Some(answer) = Answer::part_of(text.as_str().as_bytes(), offset) {
            self.send(device, identifier, &answer);
        }
    }

    fn send(&self, device: Device, identifier: &Identifier, answer: &Answer<'_>) {
        if let Some(socket) = self.sockets.get(device.socket) {
            // a device that cannot be reached repeats its request
            let _ = socket.send_to(&answer.to_bytes(identifier), device.from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use wontun_proto::wireguard::{PresharedKey, PublicKey};

    const IDENTIFIER: Identifier = *b"12345678";

    /// A responder with a socket, and a device.
    fn stage() -> (Responder, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let device = UdpSocket::bind("127.0.0.1:0").unwrap();
        device.connect(socket.local_addr().unwrap()).unwrap();
        device.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.set_nonblocking(true).unwrap();
        (Responder::new(vec![socket]), device)
    }

    fn turn(responder: &mut Responder) -> Vec<FromResponder> {
        let (channel, _other) = process::pair().unwrap();
        responder.turn(channel.as_fd()).unwrap()
    }

    fn received(device: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let length = device.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn a_file_is_requested_once_and_sent_in_parts() {
        let (mut responder, device) = stage();
        let request = |offset| Request::Settings { offset }.to_bytes(&IDENTIFIER);
        device.send(&request(0)).unwrap();
        device.send(&request(0)).unwrap();
        let from = [127, 0, 0, 1].into();
        assert_eq!(turn(&mut responder), [FromResponder::Settings { number: 0, from }]);
        let text: ClientText = "x".repeat(1500).try_into().unwrap();
        responder.handle_settings(7, Ok("y".to_owned().try_into().unwrap()));
        responder.handle_settings(0, Ok(text));
        device.send(&request(1024)).unwrap();
        assert_eq!(turn(&mut responder), []);
        for (wanted, end) in [(0, 1024), (1024, 1500)] {
            let bytes = received(&device);
            let Some((IDENTIFIER, Answer::Settings { length: 1500, offset, part })) = Answer::parse(&bytes)
            else {
                panic!()
            };
            assert_eq!((offset, usize::from(offset) + part.len()), (wanted, end));
        }
    }

    #[test]
    fn garbage_is_ignored_and_errors_are_passed_on() {
        let (mut responder, device) = stage();
        let enrol = Request::Enrol {
            key: PublicKey::from_bytes([1; 32]),
            preshared_key: PresharedKey::from_bytes([2; 32]),
        };
        for garbage in [&b""[..], b"WTEQ", &[0; 1400], &enrol.to_bytes(&IDENTIFIER)[1..]] {
            device.send(garbage).unwrap();
        }
        device.send(&enrol.to_bytes(&IDENTIFIER)).unwrap();
        let [FromResponder::Enrol { number, .. }] = turn(&mut responder)[..] else { panic!() };
        responder.handle_enrolled(number, Err(ErrorMessage::cut("no".to_owned())));
        assert_eq!(Answer::parse(&received(&device)), Some((IDENTIFIER, Answer::Error("no"))));
    }
}
