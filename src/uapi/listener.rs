//! The listening socket that `wg(8)` connects to.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use rustix::fs::{RenameFlags, renameat_with};
use socket2::{Socket, Type};

use super::claim::{Claim, ClaimError, ExistingSocket, claim, existing_socket};
use super::connection::UapiConnection;
use super::folders::{UapiError, UapiFolders, UapiWarning, socket_name};
use crate::config::TunName;

/// Maximum number of connections held by the event loop; beyond that it drops the one that has been
/// idle the longest. Each costs 16 KiB, the parsed part of its request (at most about 40 MiB, after
/// 16 MiB of text), and an answer that the client does not read. Only root and the tunnel's own
/// user can connect.
pub const MAX_CONNECTIONS: usize = 16;

/// The listening end. Removes its file when dropped, if the file is still its own.
#[derive(Debug)]
pub struct UapiListener {
    socket: Socket,
    path: PathBuf,
    /// The folder, opened, so that it stays the same if its path changes.
    folder: File,
    name: String,
    /// Device and inode of the socket's file.
    identity: (libc::dev_t, libc::ino_t),
    watch: Option<Inotify>,
    /// True while another process uses the socket, too, and its file is left in place.
    is_shared: bool,
}

impl UapiListener {
    /// Creates the socket of the tunnel `tun`: for `wg(8)` in /var/run/wireguard, or else in the
    /// folder of the configuration, or in /run/wontun. A stale socket is replaced.
    ///
    /// Must be called by the process that answers, or be followed by [`Self::take_over`] there.
    ///
    /// # Errors
    /// [`UapiError`]: another process holds the name, or no folder can be used.
    pub fn open(
        tun: &TunName,
        config_folder: Option<&Path>,
    ) -> Result<(Self, Option<UapiWarning>), UapiError> {
        Self::open_in(tun, &UapiFolders::new(config_folder))
    }

    /// Like [`Self::open`], with the given folders.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_in(tun: &TunName, folders: &UapiFolders) -> Result<(Self, Option<UapiWarning>), UapiError> {
        let mut tried: Vec<(PathBuf, io::Error)> = Vec::new();
        for folder in folders.iter() {
            let make = folders.config.iter().all(|config| config != folder);
            let made = claim(folder, tun, make).and_then(|claim| Ok(Self::new(claim)?));
            let (listener, unwatched) = match made {
                Ok(made) => made,
                Err(ClaimError::Folder(error)) => {
                    tried.push((folder.to_owned(), error));
                    continue;
                }
                Err(ClaimError::Refused(error)) => return Err(error),
            };
            let path = listener.path.clone();
            // one warning only: that wg(8) does not find the socket is more important
            let warning = match (tried.into_iter().next(), unwatched) {
                (Some((wanted, source)), _) => Some(UapiWarning::FallbackFolder { wanted, source, path }),
                (None, Some(source)) => Some(UapiWarning::NotWatched { path, source }),
                (None, None) => None,
            };
            return Ok((listener, warning));
        }
        Err(UapiError::NoFolder(tried))
    }

    fn new(claim: Claim) -> io::Result<(Self, Option<io::Error>)> {
        let Claim { socket, path, folder, name, identity } = claim;
        let (watch, unwatched) = match watch(&path) {
            Ok(watch) => (Some(watch), None),
            Err(error) => (None, Some(error)),
        };
        let listener = Self { socket, path, folder, name, identity, watch, is_shared: false };
        // removed before the watch was set
        if listener.is_in_place() { Ok((listener, unwatched)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Uses the socket at `path` of another process, which may still use it: its file is left in
    /// place until [`Self::keep`] is called.
    ///
    /// # Errors
    /// The folder cannot be opened, or the file is gone.
    pub fn adopt(socket: OwnedFd, path: PathBuf) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let folder = path.parent().ok_or_else(missing)?;
        let name = path.file_name().and_then(OsStr::to_str).ok_or_else(missing)?.to_owned();
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(folder)?;
        let file = fstatat(&folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let (identity, watch) = ((file.st_dev, file.st_ino), watch(&path).ok());
        let listener = Self { socket: socket.into(), path, folder, name, identity, watch, is_shared: true };
        listener.take_over()?;
        Ok(listener)
    }

    /// Makes this process the only one that uses the socket: the file is removed with it.
    pub const fn keep(&mut self) {
        self.is_shared = false;
    }

    /// Returns a duplicate of the socket for [`Self::adopt`] in another process.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the socket's file for the tunnel name `tun`. Established and pending connections are
    /// kept. A stale socket of that name is replaced.
    ///
    /// # Errors
    /// [`UapiError`]: another process holds the name, or the folder cannot be used.
    pub fn rename(&mut self, tun: &TunName) -> Result<(), UapiError> {
        let name = socket_name(tun);
        if name == self.name {
            return Ok(());
        }
        let path = self.path.with_file_name(&name);
        let failed = |source| UapiError::Rename { path: path.clone(), source };
        match existing_socket(&path, Type::SEQPACKET).map_err(failed)? {
            ExistingSocket::None => {}
            ExistingSocket::Stale => {
                let removed = unlinkat(&self.folder, name.as_str(), UnlinkatFlags::NoRemoveDir);
                removed.map_err(|error| failed(error.into()))?;
            }
            ExistingSocket::Live(pid) => return Err(UapiError::InUse { path, pid }),
            ExistingSocket::NotASocket => return Err(UapiError::NotASocket(path)),
        }
        // a process that takes the name meanwhile keeps it
        let flags = RenameFlags::NOREPLACE;
        renameat_with(&self.folder, self.name.as_str(), &self.folder, name.as_str(), flags)
            .map_err(|error| failed(error.into()))?;
        (self.path, self.name) = (path, name);
        Ok(())
    }

    /// Makes the calling process the one that others see as the owner (SO_PEERCRED): for a child
    /// that uses a socket opened by its parent.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn take_over(&self) -> io::Result<()> {
        self.socket.listen(super::claim::BACKLOG)
    }

    /// Accepts the next connection; returns `None` if there is none. Rejects connections of users
    /// other than root and the tunnel's own. A client that keeps connecting never lets this return
    /// `None`: callers accept only a few per turn.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files: pending connections stay in the queue,
    /// and no edge reports when to try again.
    pub fn accept(&self) -> io::Result<Option<UapiConnection>> {
        loop {
            let socket = match self.socket.accept() {
                Ok((socket, _)) => socket,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(None),
                    Some(Errno::EINTR | Errno::ECONNABORTED) => continue,
                    _ => return Err(error),
                },
            };
            let uid = getsockopt(&socket, sockopt::PeerCredentials)?.uid();
            if uid == 0 || uid == geteuid().as_raw() {
                socket.set_nonblocking(true)?;
                return Ok(Some(UapiConnection::new(UnixStream::from(OwnedFd::from(socket)))));
            }
        }
    }

    /// Returns a descriptor that becomes readable when the socket's file changes; then
    /// [`Self::handle_watch`] must be called. `None` if the kernel provided no watch.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Handles events of the watch. Returns true if the file is still in place; a removed file is a
    /// request to terminate, which is how userspace implementations are stopped.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn handle_watch(&mut self) -> io::Result<bool> {
        while let Some(watch) = &self.watch {
            match watch.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.is_in_place())
    }

    fn is_in_place(&self) -> bool {
        fstatat(&self.folder, self.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|file| (file.st_dev, file.st_ino) == self.identity)
    }
}

/// Watches the file itself and not its folder, where sockets of other tunnels come and go: an idle
/// tunnel is not woken up.
fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    // unlinking changes the link count, which is an attribute; the inode is gone only once it is
    // closed
    let events = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
    inotify.add_watch(path, events | AddWatchFlags::IN_DONT_FOLLOW)?;
    Ok(inotify)
}

impl AsFd for UapiListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for UapiListener {
    fn drop(&mut self) {
        // the inode cannot be reused while the file is open
        if !self.is_shared && self.is_in_place() {
            let _ = unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}
