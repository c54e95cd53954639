//! Packets on a host's links, captured with a packet socket.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;

/// ETH_P_ALL of linux/if_ether.h, in network byte order as packet(7) wants it.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;

const UDP: u8 = 17;

/// An IP packet with UDP, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) from: (IpAddr, u16),
    pub(crate) to: (IpAddr, u16),
    /// Bytes of the whole IP packet.
    pub(crate) len: usize,
    /// True for one of several fragments; the ports are meaningless then.
    pub(crate) is_fragment: bool,
    /// DSCP and ECN.
    pub(crate) class: u8,
    /// The datagram's payload.
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the message type, if the frame carries a WireGuard message.
    pub(crate) fn kind(&self) -> Option<u8> {
        self.payload.first().copied()
    }
}

/// A running capture of all packets that a host's devices send and receive.
#[derive(Debug)]
pub(crate) struct Capture<T = Frame> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<T>>>,
}

impl Capture {
    /// Starts a capture of UDP.
    pub(crate) fn start(host: &Host) -> Self {
        Self::of(host, parse)
    }
}

impl<T: Send + 'static> Capture<T> {
    /// Starts a capture of IP packets, each parsed by `parse`.
    pub(crate) fn of(host: &Host, parse: fn(&[u8]) -> Option<T>) -> Self {
        let mut socket = host
            .inside(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(EVERY_PROTOCOL))))
            .unwrap();
        setsockopt(&socket, RcvBufForce, &(64 << 20)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut frames = Vec::new();
            let mut buffer = vec![0; 65_536];
            // After the order to stop, packets that have arrived are still read.
            loop {
                match socket.read(&mut buffer) {
                    Ok(length) => frames.extend(parse(&buffer[..length])),
                    Err(_) if stopped.load(Ordering::Relaxed) => return frames,
                    Err(_) => {}
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops the capture, and returns the packets of the tunnel's and other devices.
    pub(crate) fn stop(mut self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl<T> Drop for Capture<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn parse(packet: &[u8]) -> Option<Frame> {
    let be16 = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (from, to, header, is_fragment, is_first, class): (IpAddr, IpAddr, _, _, _, _) =
        match packet.first()? >> 4 {
            4 if *packet.get(9)? == UDP => {
                let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
                let fragment = be16(6)? & 0x3fff;
                let header = usize::from(packet[0] & 15) * 4;
                (
                    address(12)?.into(),
                    address(16)?.into(),
                    header,
                    fragment != 0,
                    fragment & 0x1fff == 0,
                    packet[1],
                )
            }
            6 => {
                let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
                // 44 is the fragment header of RFC 8200
                let is_fragment = packet[6] == 44;
                if !is_fragment && packet[6] != UDP {
                    return None;
                }
                let class = packet[0] << 4 | packet[1] >> 4;
                (address(8)?.into(), address(24)?.into(), 40, is_fragment, !is_fragment, class)
            }
            _ => return None,
        };
    let ports = if is_first { (be16(header)?, be16(header + 2)?) } else { (0, 0) };
    let payload = packet.get(header + 8..).unwrap_or_default().to_vec();
    Some(Frame { from: (from, ports.0), to: (to, ports.1), len: packet.len(), is_fragment, class, payload })
}
