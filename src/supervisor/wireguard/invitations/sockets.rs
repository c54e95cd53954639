//! The sockets at which devices are enrolled: at the tunnel's own addresses, and bound to its
//! device, so that nobody outside of the tunnel reaches them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};
use tracing::debug;

use crate::config::peer_settings::RESPONDER_PORT;
use crate::config::{Cidr, TunName};

/// Maximum number of sockets.
const MAX_SOCKETS: usize = 8;
/// Kernel buffer sizes in bytes.
const BUFFER: usize = 64 * 1024;

/// Opens a socket at each of the addresses, which the device may get later. One of IPv6 may fail if
/// there is one of IPv4, which codes prefer.
///
/// # Errors
/// An error of the kernel, for the first address that fails: another program may have the port, or
/// the kernel is older than 5.7 and lets only CAP_NET_RAW bind to a device.
pub(super) fn open(tunnel: &TunName, addresses: &[Cidr]) -> io::Result<Vec<OwnedFd>> {
    let addresses = addresses.iter().map(|cidr| cidr.address());
    let of_one_link = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let addresses: Vec<_> = addresses.filter(|address| !of_one_link(address)).take(MAX_SOCKETS).collect();
    let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
    let mut opened = Vec::new();
    for address in addresses {
        match open_one(tunnel, address) {
            Ok(socket) => opened.push(socket),
            Err(error) if has_v4 && address.is_ipv6() => {
                debug!(%address, %error, "devices are not enrolled at this address");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(opened)
}

fn open_one(tunnel: &TunName, address: IpAddr) -> io::Result<OwnedFd> {
    let address = SocketAddr::new(address, RESPONDER_PORT.get());
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
    // first: the process that takes a tunnel over opens its own before the other one ends
    socket.bind_device(Some(tunnel.as_str().as_bytes()))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
