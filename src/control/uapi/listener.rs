//! The socket that `wg(8)` connects to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use rustix::fs::{RenameFlags, renameat_with};
use socket2::{Socket, Type};

use super::claim::{Claim, ClaimError, Occupant, claim, occupant};
use super::place::{UapiError, UapiFolders, UapiWarning, socket_name};
use super::stream::UapiStream;
use crate::config::TunName;

/// Connections that the loop should hold at a time; beyond that it drops the one that has been silent the longest. Each costs
/// 16 KiB, what its request has told so far (at most about 40 MiB, after 16 MiB of text), and an answer that it does
/// not read. Only root and our own user can connect at all.
pub const MAX_CONNECTIONS: usize = 16;

/// The listening end. It removes its file when dropped, if that is still its own.
#[derive(Debug)]
pub struct UapiListener {
    socket: Socket,
    path: PathBuf,
    /// The folder, whatever happens to the path that leads there.
    folder: File,
    name: String,
    /// Device and inode of our file.
    identity: (u64, u64),
    watch: Option<Inotify>,
}

impl UapiListener {
    /// Makes the socket of the tunnel `tun`: for `wg(8)` in /var/run/wireguard, or else in the folder of the
    /// configuration, or in /run/wontun. A socket whose owner is gone is replaced.
    ///
    /// To be called by the process that will answer, or followed by [`Self::take_over`] there.
    ///
    /// # Errors
    /// [`UapiError`]: another process has it, or no folder takes it.
    pub fn open(
        tun: &TunName,
        config_folder: Option<&Path>,
    ) -> Result<(Self, Option<UapiWarning>), UapiError> {
        Self::open_in(tun, &UapiFolders::new(config_folder))
    }

    /// As [`Self::open`], with other folders than the usual ones.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(tun: &TunName, folders: &UapiFolders) -> Result<(Self, Option<UapiWarning>), UapiError> {
        let mut tried: Vec<(PathBuf, io::Error)> = Vec::new();
        for folder in folders.iter() {
            let make = folders.config.as_deref() != Some(folder);
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
            // one warning: that wg(8) does not find it is the greater trouble
            let warning = match (tried.into_iter().next(), unwatched) {
                (Some((wanted, source)), _) => Some(UapiWarning::Elsewhere { wanted, source, path }),
                (None, Some(source)) => Some(UapiWarning::Unwatched { path, source }),
                (None, None) => None,
            };
            return Ok((listener, warning));
        }
        Err(UapiError::Nowhere(tried))
    }

    fn new(claim: Claim) -> io::Result<(Self, Option<io::Error>)> {
        let Claim { socket, path, folder, name, identity } = claim;
        let (watch, unwatched) = match watch(&path) {
            Ok(watch) => (Some(watch), None),
            Err(error) => (None, Some(error)),
        };
        let listener = Self { socket, path, folder, name, identity, watch };
        // removed before it was watched
        if listener.is_in_place() { Ok((listener, unwatched)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the socket's file the name of the tunnel `tun`: connections, and those who wait, stay.
    /// A socket of that name whose owner is gone is replaced.
    ///
    /// # Errors
    /// [`UapiError`]: another process has it, or the folder does not take it.
    pub fn rename(&mut self, tun: &TunName) -> Result<(), UapiError> {
        let name = socket_name(tun);
        if name == self.name {
            return Ok(());
        }
        let path = self.path.with_file_name(&name);
        let failed = |source| UapiError::Rename { path: path.clone(), source };
        match occupant(&path, Type::SEQPACKET).map_err(failed)? {
            Occupant::Nobody => {}
            Occupant::Stale => {
                let removed = unlinkat(&self.folder, name.as_str(), UnlinkatFlags::NoRemoveDir);
                removed.map_err(|error| failed(error.into()))?;
            }
            Occupant::Live(pid) => return Err(UapiError::InUse { path, pid }),
            Occupant::Other => return Err(UapiError::NoSocket(path)),
        }
        // whoever takes the name in between keeps it
        let flags = RenameFlags::NOREPLACE;
        renameat_with(&self.folder, self.name.as_str(), &self.folder, name.as_str(), flags)
            .map_err(|error| failed(error.into()))?;
        (self.path, self.name) = (path, name);
        Ok(())
    }

    /// Makes the calling process the one that others see as the owner (SO_PEERCRED): for a child that goes on with
    /// what its parent has opened.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take_over(&self) -> io::Result<()> {
        self.socket.listen(super::claim::BACKLOG)
    }

    /// The next that connected; `None` when there is no more. One that is neither root nor our own user is turned
    /// away. Whoever connects again and again never lets it come to an end: take a few a turn.
    ///
    /// # Errors
    /// The kernel's, such as too many open files: whoever waits goes on waiting, and no edge tells when to try again.
    pub fn accept(&self) -> io::Result<Option<UapiStream>> {
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
                return Ok(Some(UapiStream::new(UnixStream::from(OwnedFd::from(socket)))));
            }
        }
    }

    /// Becomes readable when something happened to the socket's file; then [`Self::handle_watch`] is to be called.
    /// `None` if the kernel has no watch to give.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether the file is still there and ours. If not, somebody wants the tunnel to end: that is how userspace
    /// implementations are stopped.
    ///
    /// # Errors
    /// The kernel's.
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

/// A watch of the file itself, not of its folder, where other tunnels come and go: an idle tunnel sleeps.
fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    // removing it changes the number of its links, which is an attribute; it is gone only when we close it
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
        // while it is open its inode cannot become another file's
        if self.is_in_place() {
            let _ = unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}
