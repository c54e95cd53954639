//! The abstract unix socket at which a running tunnel waits for a process that takes it over.
//!
//! It needs no writable file system, and belongs to the network namespace. Abstract names have no
//! owner or mode, so each side checks the credentials of the other.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::TunName;
use crate::interrupted::retry;

/// Listen backlog: one process takes the tunnel over.
const BACKLOG: i32 = 1;

/// User and process at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerProcess {
    /// 0 for a process in another PID namespace.
    pub(super) pid: i32,
    pub(super) uid: u32,
}

impl PeerProcess {
    fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Self { pid: credentials.pid(), uid: credentials.uid() })
    }

    /// Returns true if it runs as root or as this process's user.
    pub(super) fn is_trusted(self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }
}

/// The listening socket.
#[derive(Debug)]
pub(super) struct Listener(Socket);

impl Listener {
    /// Binds the socket of the tunnel `tun`.
    ///
    /// # Errors
    /// An error of the kernel; `AddrInUse` if another process holds the name.
    pub(super) fn open(tun: &TunName) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking(), None)?;
        socket.bind(&address(tun)?)?;
        socket.listen(BACKLOG)?;
        Ok(Self(socket))
    }

    /// Uses a listening socket of another process.
    pub(super) fn from_fd(socket: OwnedFd) -> Self {
        Self(socket.into())
    }

    /// Returns a duplicate of the socket, for another process.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// Accepts a connection, and returns the process at its other end; `None` if there is none.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn accept(&self) -> io::Result<Option<(OwnedFd, PeerProcess)>> {
        match self.0.accept() {
            Ok((socket, _)) => {
                let process = PeerProcess::of(&socket)?;
                Ok(Some((socket.into(), process)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Connects to the process that runs the tunnel `tun`; returns `None` if there is none.
///
/// # Errors
/// An error of the kernel.
pub(super) fn connect(tun: &TunName) -> io::Result<Option<(OwnedFd, PeerProcess)>> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    let address = address(tun)?;
    match retry(|| socket.connect(&address)) {
        Ok(()) => {
            let process = PeerProcess::of(&socket)?;
            Ok(Some((socket.into(), process)))
        }
        Err(error) if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32) => Ok(None),
        Err(error) => Err(error),
    }
}

fn address(tun: &TunName) -> io::Result<SockAddr> {
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino());
    SockAddr::unix(format!("\0wontun-take-over/{namespace}/{tun}"))
}
