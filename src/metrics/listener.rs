//! The port on which metrics are served.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

/// Connections that the kernel holds until we take them.
const BACKLOG: i32 = 64;
/// Bytes of the kernel's buffers for each connection, so that many of them are bounded there too.
const SEND_BUFFER: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 8 * 1024;

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Someone has the port.
    #[error(
        "--metrics {0}: the TCP port is in use: stop the process that has it (ss -ltnp), or choose another"
    )]
    InUse(SocketAddr),
    /// Not an address of this host.
    #[error("--metrics {0}: this host does not have that address: choose one that `ip address` shows")]
    NotLocal(SocketAddr),
    /// A port below 1024 without CAP_NET_BIND_SERVICE.
    #[error("--metrics {0}: a port below 1024 is not allowed here: choose a higher one, or start as root")]
    Privileged(SocketAddr),
    /// Anything else.
    #[error("--metrics {address}: cannot listen there: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct MetricsListener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Listens on `address`; port 0 for any that is free.
    ///
    /// # Errors
    /// [`MetricsError`], with the remedy.
    pub fn open(address: SocketAddr) -> Result<Self, MetricsError> {
        let open = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
            // after a restart the old connections' remains do not keep the port
            socket.set_reuse_address(true)?;
            // what connects has these too
            socket.set_send_buffer_size(SEND_BUFFER)?;
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let socket = TcpListener::from(socket);
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        open().map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => MetricsError::InUse(address),
            io::ErrorKind::AddrNotAvailable => MetricsError::NotLocal(address),
            io::ErrorKind::PermissionDenied => MetricsError::Privileged(address),
            _ => MetricsError::Other { address, source },
        })
    }

    /// Returns the socket, for another process.
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }

    /// Takes a socket of [`Self::open`] that another process has opened and that listens on
    /// `address`.
    pub fn from_fd(socket: OwnedFd, address: SocketAddr) -> Self {
        Self { socket: socket.into(), address }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it may be reached from beyond this host and private networks: on an address of the Internet, or on all
    /// that this host has.
    pub fn is_public(&self) -> bool {
        !is_private(self.address.ip().to_canonical())
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        // RFC 6598's are a provider's own, and those of overlay networks
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_can_reach_is_known() {
        for private in
            ["127.0.0.1", "10.8.0.1", "192.168.1.1", "172.31.0.1", "100.127.0.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["0.0.0.0", "::", "192.0.2.1", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
        let listener = |address: &str| MetricsListener::open(address.parse().unwrap()).unwrap();
        assert!(listener("0.0.0.0:0").is_public() && !listener("127.0.0.1:0").is_public());
        assert!(!is_private(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]).to_canonical()));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let open = |address: SocketAddr| MetricsListener::open(address).map(|listener| listener.address());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(open(taken.local_addr().unwrap()), Err(MetricsError::InUse(_))));
        assert!(matches!(open("192.0.2.1:9000".parse().unwrap()), Err(MetricsError::NotLocal(_))));
        assert_ne!(open("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
    }
}
