//! The sockets on which the page is served: the tunnel's own addresses, and 127.0.0.1 for
//! `ssh -L`. Nobody outside of the tunnel and this host reaches either: the table
//! `wontun-guard-NAME` drops packets to the tunnel's addresses that arrive on other devices. Others
//! are given, and served over TLS or to a proxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, SockRef, Socket, Type};
use tracing::{info, warn};

use crate::admin::messages::Exposure;
use crate::config::{AdminName, AdminSettings, Cidr};

/// Port on the tunnel's addresses, which needs no number in the browser.
const PORT: u16 = 80;
/// Ports on 127.0.0.1, of which the first free one is taken, and on the tunnel's addresses if
/// [`PORT`] is not allowed or in use.
const OTHER_PORTS: std::ops::RangeInclusive<u16> = 51821..=51836;
const BACKLOG: i32 = 64;
/// Kernel buffer sizes per connection in bytes, so that the memory of many connections is bounded.
const SEND_BUFFER: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 16 * 1024;

/// A socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) exposure: Exposure,
    pub(super) socket: OwnedFd,
}

/// Opens the sockets, of a tunnel that is taken over at the ports of the other process, which has
/// called [`share`]. Addresses that fail are left out with a warning; those that are to be served
/// over TLS without a certificate, silently.
pub(super) fn open(
    addresses: &[Cidr],
    settings: &AdminSettings,
    has_certificate: bool,
    is_taken_over: bool,
) -> Vec<Listener> {
    let mut opened = Vec::new();
    for address in addresses.iter().map(|cidr| cidr.address()) {
        // nobody else has an address of the tunnel
        let result = listen((address, PORT).into(), true).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse => first_free(address, true),
            _ => Err(error),
        });
        opened.extend(result.map_err(|error| warn_of(address, &error)).ok());
    }
    let host = IpAddr::from(Ipv4Addr::LOCALHOST);
    let on_host = first_free(host, is_taken_over).and_then(|listener| {
        // another tunnel's page must not get a part of the connections
        SockRef::from(&listener.socket).set_reuse_port(false)?;
        Ok(listener)
    });
    opened.extend(on_host.map_err(|error| warn_of(host, &error)).ok());
    let exposure = if settings.uses_tls() { Exposure::Tls } else { Exposure::Proxy };
    let outside = settings.outside.iter().filter(|_| has_certificate || exposure == Exposure::Proxy);
    opened.extend(outside.filter_map(|address| {
        let listener = listen(*address, true).map_err(|error| warn_of(address.ip(), &error)).ok()?;
        Some(Listener { exposure, ..listener })
    }));
    for Listener { address, exposure, .. } in &opened {
        match exposure {
            Exposure::Inside => info!("serving the admin page at http://{}/", host_of(*address)),
            Exposure::Tls => info!("serving the admin page at https://{address}/"),
            Exposure::Proxy => info!(%address, "serving the admin page to the proxy"),
        }
    }
    opened
}

/// Returns the addresses of the page without their path, as browsers reach it.
pub(super) fn urls(listeners: &[Listener], settings: &AdminSettings) -> Vec<String> {
    let mut urls = Vec::new();
    for Listener { address, exposure, .. } in listeners {
        match exposure {
            Exposure::Inside => urls.push(format!("http://{}", host_of(*address))),
            Exposure::Tls if settings.names.is_empty() => urls.push(format!("https://{address}")),
            Exposure::Tls => {
                let named = settings.names.iter().map(|name| format!("{}:{}", https(name), address.port()));
                let named: Vec<_> = named.filter(|url| !urls.contains(url)).collect();
                urls.extend(named);
            }
            Exposure::Proxy => {}
        }
    }
    if settings.proxy.is_some() {
        urls.extend(settings.names.iter().map(https));
    }
    urls
}

fn https(name: &AdminName) -> String {
    match name {
        AdminName::Address(IpAddr::V6(v6)) => format!("https://[{v6}]"),
        name => format!("https://{name}"),
    }
}

/// Lets the process that takes the tunnel over open sockets at the same ports, before this one
/// ends. Those at other addresses than 127.0.0.1 allow it already.
pub(super) fn share(listeners: &[Listener]) {
    for Listener { address, socket, .. } in listeners.iter().filter(|each| each.address.ip().is_loopback()) {
        if let Err(error) = SockRef::from(socket).set_reuse_port(true) {
            warn!(%address, %error, "the process that takes over will serve the admin page at another port");
        }
    }
}

/// Returns the address as the host of a URL.
pub(super) fn host_of(address: SocketAddr) -> String {
    match (address.port(), address.ip()) {
        (PORT, IpAddr::V6(v6)) => format!("[{v6}]"),
        (PORT, v4) => v4.to_string(),
        _ => address.to_string(),
    }
}

fn warn_of(address: IpAddr, error: &io::Error) {
    warn!(%address, %error, "the admin page is not served at this address");
}

fn first_free(address: IpAddr, is_shared: bool) -> io::Result<Listener> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in OTHER_PORTS {
        match listen((address, port).into(), is_shared) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            result => return result,
        }
    }
    Err(last)
}

fn listen(address: SocketAddr, is_shared: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    // after a restart, connections in TIME-WAIT do not keep the port busy
    socket.set_reuse_address(true)?;
    // accepted sockets inherit these
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // the process that takes a tunnel over opens its own before the other one ends
    socket.set_reuse_port(is_shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Listener { address, exposure: Exposure::Inside, socket: socket.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_port_only_where_a_browser_needs_it() {
        for (address, host) in [
            ("10.8.0.1:80", "10.8.0.1"),
            ("[fd00::1]:80", "[fd00::1]"),
            ("127.0.0.1:51821", "127.0.0.1:51821"),
            ("[fd00::1]:51821", "[fd00::1]:51821"),
        ] {
            assert_eq!(host_of(address.parse().unwrap()), host);
        }
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let host = IpAddr::from([127, 0, 0, 7]);
        let [first, second] = [(); 2].map(|()| first_free(host, false).unwrap());
        assert!(first.address.port() < second.address.port(), "{first:?} {second:?}");
        // one that takes the first over gets the same
        let opened = [first, second];
        share(&opened);
        let [first, _] = &opened;
        assert_eq!(first_free(host, true).unwrap().address, first.address);
    }
}
