//! The TCP socket on which metrics are served.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use crate::exit::{self, ExitCode};
use socket2::{Domain, Socket, Type};

/// Listen backlog.
const BACKLOG: i32 = 64;
/// Kernel buffer sizes per connection in bytes, so that the memory of many connections is bounded.
const SEND_BUFFER: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 8 * 1024;

/// Reason why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Another process uses the port.
    #[error(
        "--metrics {0}: the TCP port is in use: stop the process that has it (ss -ltnp), or choose another"
    )]
    InUse(SocketAddr),
    /// The address is not local to this host.
    #[error("--metrics {0}: not an address of this host: choose one that `ip address` shows")]
    NotLocal(SocketAddr),
    /// The port is below 1024, and CAP_NET_BIND_SERVICE is missing.
    #[error("--metrics {0}: a port below 1024 is not allowed here: choose a higher one, or start as root")]
    Privileged(SocketAddr),
    /// Any other error.
    #[error("--metrics {address}: cannot listen there: {source}")]
    Other {
        /// Address to listen on.
        address: SocketAddr,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for MetricsError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Privileged(_) => exit::NO_PERMISSION,
            Self::InUse(_) | Self::NotLocal(_) => exit::UNAVAILABLE,
            Self::Other { .. } => exit::FAILURE,
        }
    }
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct MetricsListener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Listens on `address`; port 0 for any free one.
    ///
    /// # Errors
    /// [`MetricsError`], with the remedy.
    pub fn open(address: SocketAddr) -> Result<Self, MetricsError> {
        let open = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
            // after a restart, connections in TIME-WAIT do not keep the port busy
            socket.set_reuse_address(true)?;
            // accepted sockets inherit these
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

    /// Creates a listener from a socket of [`Self::open`] opened by another process, which listens
    /// on `address`.
    pub fn from_fd(socket: OwnedFd, address: SocketAddr) -> Self {
        Self { socket: socket.into(), address }
    }

    /// Returns the address of the socket.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns true if the address may be reachable from outside this host and private networks: a
    /// public address, or a wildcard.
    pub fn is_public(&self) -> bool {
        !is_private(self.address.ip().to_canonical())
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        // the addresses of RFC 6598 are used within providers and by overlay networks
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
