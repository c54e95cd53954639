//! The sockets at which queries of the peers arrive, which the supervisor opens.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use super::messages::MAX_ADDRESSES;

/// Port of DNS.
const PORT: u16 = 53;
/// Number of connections that may wait to be accepted.
pub(crate) const BACKLOG: i32 = 16;

/// The listening sockets, which are kept so that the process can be started again.
#[derive(Debug, Default)]
pub(crate) struct NamesListeners(Vec<Listener>);

/// The sockets of one address.
#[derive(Debug)]
struct Listener {
    address: IpAddr,
    udp: OwnedFd,
    tcp: OwnedFd,
}

impl NamesListeners {
    /// Opens sockets on port 53 of these addresses, which the device may get later, unless they are
    /// open, and closes those of others. Another process of this user may have the same: the one
    /// that this tunnel is taken over from.
    ///
    /// # Errors
    /// An error of the kernel, for the first address that fails: no socket was opened or closed.
    pub(crate) fn set(&mut self, addresses: &[IpAddr]) -> io::Result<()> {
        let addresses = addresses.iter().take(MAX_ADDRESSES);
        let is_new = |address: &&IpAddr| self.0.iter().all(|listener| listener.address != **address);
        let new = addresses.clone().filter(is_new).map(|address| Listener::open(*address));
        let new = new.collect::<io::Result<Vec<_>>>()?;
        self.0.extend(new);
        self.0.retain(|listener| addresses.clone().any(|address| *address == listener.address));
        Ok(())
    }

    /// Closes the sockets of other addresses than these.
    pub(crate) fn retain(&mut self, addresses: &[IpAddr]) {
        self.0.retain(|listener| addresses.contains(&listener.address));
    }

    /// Returns the addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().map(|listener| listener.address)
    }

    /// Returns duplicates of the sockets, those for UDP first, and the number of these.
    ///
    /// # Errors
    /// No descriptor is available.
    pub(super) fn try_clone(&self) -> io::Result<(Vec<OwnedFd>, u16)> {
        let (udp, tcp) = (self.0.iter().map(|each| &each.udp), self.0.iter().map(|each| &each.tcp));
        let sockets = udp.chain(tcp).map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok((sockets, u16::try_from(self.0.len()).unwrap_or_default()))
    }

    /// Returns true if there is no socket.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Listener {
    fn open(address: IpAddr) -> io::Result<Self> {
        let open = |kind| {
            let socket = Socket::new(Domain::for_address(SocketAddr::new(address, PORT)), kind, None)?;
            socket.set_reuse_port(true)?;
            if kind == Type::STREAM {
                socket.set_reuse_address(true)?;
            }
            if address.is_ipv4() {
                socket.set_freebind_v4(true)?;
            } else {
                socket.set_freebind_v6(true)?;
                socket.set_only_v6(true)?;
            }
            socket.bind(&SocketAddr::new(address, PORT).into())?;
            if kind == Type::STREAM {
                socket.listen(BACKLOG)?;
            }
            io::Result::Ok(OwnedFd::from(socket))
        };
        Ok(Self { address, udp: open(Type::DGRAM)?, tcp: open(Type::STREAM)? })
    }
}
