//! A process that takes a tunnel over and stops halfway: it speaks the messages by hand.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use wontun::process::encode;

use crate::lab::Host;
use crate::waiting::TIMEOUT;

/// Length of the header of a message.
const HEADER: usize = 6;
/// Numbers of messages.
const REFUSED: u8 = 0;
const COMPLETE: u8 = 4;
pub(super) const SESSIONS: u8 = 5;

/// A connection to the process that runs a tunnel.
#[derive(Debug)]
pub(super) struct Impostor(Socket);

impl Impostor {
    /// Connects to the process that runs `wg0` on `host`.
    pub(super) fn connect(host: &Host) -> Self {
        host.inside(|| {
            let namespace = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
            let address = SockAddr::unix(format!("\0wontun-take-over/{namespace}/wg0")).unwrap();
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
            socket.connect(&address).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            Self(socket)
        })
    }

    fn send(&self, message: &impl Serialize) {
        self.0.send(&encode(message).unwrap()).unwrap();
    }

    /// Returns the number of the next message, and the rest; `None` if the connection was closed.
    pub(super) fn receive(&self) -> Option<(u8, Vec<u8>)> {
        let mut bytes = [0; 65_536];
        let length = (&self.0).read(&mut bytes).unwrap();
        (length > 0).then(|| (bytes[HEADER], bytes[HEADER + 1..length].to_vec()))
    }

    /// Asks for the tunnel `name` with this version of the messages. Returns the reason if it is
    /// refused.
    pub(super) fn ask(&self, protocol: u16, name: &str) -> Result<(), String> {
        self.send(&(0_u8, protocol, name));
        loop {
            match self.receive().expect("the connection is closed") {
                (REFUSED, reason) => return Err(String::from_utf8_lossy(&reason).into_owned()),
                (COMPLETE, _) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Asks for the sessions.
    pub(super) fn freeze(&self) {
        self.send(&1_u8);
    }

    /// Sends bytes that are no message.
    pub(super) fn send_nonsense(&self) {
        self.0.send(b"nonsense").unwrap();
    }
}
