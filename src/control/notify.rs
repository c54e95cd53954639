//! Notifies a service manager with the messages of `sd_notify(3)` over the socket in
//! `NOTIFY_SOCKET`.
//!
//! The socket is opened once at the start and kept, because the sandbox later forbids opening one.
//! It never blocks: messages that do not fit its queue are kept here and sent again. The variables
//! are removed from the environment, so that no child sends messages for this process. The crate
//! `sd-notify` opens a socket for each message.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tracing::warn;

use wontun_sys::process;

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

const READY: &str = "READY=1";
const STOPPING: &str = "STOPPING=1";
const ALIVE: &str = "WATCHDOG=1";
const STATUS: &str = "STATUS=";

/// Timeout for the service manager to handle messages, in milliseconds.
const BARRIER_TIMEOUT_MS: u16 = 5_000;
/// Maximum number of messages kept while the socket's queue is full.
const MAX_PENDING: usize = 8;
/// Maximum length of a status line in bytes; systemd accepts messages of 4096 bytes.
const MAX_STATUS: usize = 1000;

/// Reason why the service manager cannot be notified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The address has an unknown format.
    #[error("NOTIFY_SOCKET is {}: expected the path of a socket, or its abstract name after '@'", .0.display())]
    Address(OsString),
    /// Connecting to the socket failed.
    #[error("cannot connect to NOTIFY_SOCKET ({}): {source}", address.display())]
    Connect {
        /// Address of the socket.
        address: OsString,
        /// Error of the kernel.
        source: io::Error,
    },
}

/// Connection to the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
    pending: VecDeque<String>,
    /// True once a send error other than a full queue was logged.
    is_error_logged: bool,
}

impl Notifier {
    /// Connects to the service manager that the environment names; returns `None` if it names none.
    /// Removes the variables from the environment. Must be called while this process has one
    /// thread.
    ///
    /// # Errors
    /// [`NotifyError`]; the tunnel can run without a service manager.
    pub(crate) fn from_environment() -> Result<Option<Self>, NotifyError> {
        let address = env::var_os(SOCKET).filter(|address| !address.is_empty());
        let watchdog = watchdog(
            env::var_os(WATCHDOG_USEC).as_deref(),
            env::var_os(WATCHDOG_PID).as_deref(),
            std::process::id(),
        );
        process::remove_variables(&[SOCKET, WATCHDOG_USEC, WATCHDOG_PID]);
        address.map(|address| Self::connect(address, watchdog)).transpose()
    }

    fn connect(address: OsString, watchdog: Option<Duration>) -> Result<Self, NotifyError> {
        let parsed = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(&address),
            _ => return Err(NotifyError::Address(address)),
        };
        let connect = |address: SocketAddr| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = parsed.and_then(connect).map_err(|source| NotifyError::Connect { address, source })?;
        Ok(Self { socket, watchdog, pending: VecDeque::new(), is_error_logged: false })
    }

    /// Returns the watchdog timeout of the service manager, if it has one for this process.
    pub(crate) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Reports that the start, or the reload announced by [`Self::reloading`], is complete.
    pub(crate) fn ready(&mut self, status: &str) {
        self.send(format!("{READY}\n{}", line(status)));
    }

    /// Reports that a reload of the configuration begins.
    pub(crate) fn reloading(&mut self) {
        // systemd matches this message to its own reload request by the time
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.send(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// Reports that the process is about to exit.
    pub(crate) fn stopping(&mut self, status: &str) {
        self.send(format!("{STOPPING}\n{}", line(status)));
    }

    /// Sends a status line.
    pub(crate) fn status(&mut self, status: &str) {
        self.send(line(status));
    }

    /// Sends a watchdog keep-alive.
    pub(crate) fn alive(&mut self) {
        self.send(ALIVE.to_owned());
    }

    /// Makes the service manager keep a duplicate of `descriptor` under `name` after the end of
    /// this process, for the next start of the service. It is not polled: a connected socket with
    /// an error would be dropped.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(crate) fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.send_with(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), &[descriptor])
    }

    /// Makes the service manager close the descriptors that it keeps under `name`.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(crate) fn remove_stored(&self, name: &str) -> io::Result<()> {
        self.send_with(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until the service manager has handled all messages sent so far.
    ///
    /// # Errors
    /// An error of the kernel; `TimedOut`.
    pub(crate) fn wait_until_handled(&self) -> io::Result<()> {
        let (near, far) = UnixStream::pair()?;
        self.send_with("BARRIER=1", &[far.as_fd()])?;
        drop(far);
        // it closes the descriptor
        let mut fds = [PollFd::new(near.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(BARRIER_TIMEOUT_MS))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Sends a message with descriptors, and waits while the queue is full.
    fn send_with(&self, message: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let pieces = [IoSlice::new(message.as_bytes())];
            match sendmsg(&self.socket, &pieces, &mut control, SendFlags::NOSIGNAL).map_err(io::Error::from) {
                Ok(_) => return Ok(()),
                Err(error) if is_full(&error) => {
                    let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut fds, PollTimeout::from(BARRIER_TIMEOUT_MS))? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns true if messages wait for space in the queue; [`Self::flush`] sends them.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends the pending messages until the queue is full.
    pub(crate) fn flush(&mut self) {
        while let Some(message) = self.pending.front() {
            match self.socket.send(message.as_bytes()) {
                Err(error) if is_full(&error) => return,
                Err(error) if !self.is_error_logged => {
                    self.is_error_logged = true;
                    warn!(%error, "the service manager no longer receives notifications");
                }
                Ok(_) => self.is_error_logged = false,
                Err(_) => {}
            }
            self.pending.pop_front();
        }
    }

    fn send(&mut self, message: String) {
        // drop repeated messages, and all statuses but the newest
        self.pending.retain(|older| *older != message && !(is_status(older) && is_status(&message)));
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(message);
        self.flush();
    }
}

fn is_status(message: &str) -> bool {
    message.starts_with(STATUS)
}

/// Returns true if the receiver's queue or the local send buffer is full.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(nix::libc::ENOBUFS)
}

/// Formats a status as a line of a message; control characters become spaces.
fn line(status: &str) -> String {
    let mut line = STATUS.to_owned();
    for character in status.chars() {
        if line.len() + character.len_utf8() > MAX_STATUS {
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}

/// Returns the watchdog timeout of the process `own`, as `sd_watchdog_enabled(3)` does: `None` if
/// there is no watchdog or if it is for another process.
fn watchdog(usec: Option<&OsStr>, pid: Option<&OsStr>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.to_str() != Some(&own.to_string())) {
        return None;
    }
    let usec = usec?.to_str()?.parse().ok().filter(|&usec| usec > 0)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A service manager and a notifier connected to it.
    struct Manager(UnixDatagram);

    impl Manager {
        fn new() -> (Self, Notifier) {
            static COUNTER: AtomicU32 = AtomicU32::new(0);
            let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("wontun-notify-{}-{serial}", std::process::id());
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let notifier = Notifier::connect(format!("@{name}").into(), None).unwrap();
            (Self(socket), notifier)
        }

        fn receive(&self) -> Option<String> {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).ok()?;
            Some(String::from_utf8(message[..length].to_vec()).unwrap())
        }
    }

    #[test]
    fn each_message_is_what_systemd_reads() {
        let (manager, mut notifier) = Manager::new();
        notifier.ready("1 of 2 peers");
        assert_eq!(manager.receive().unwrap(), "READY=1\nSTATUS=1 of 2 peers");
        notifier.status("a line\nREADY=1\0");
        assert_eq!(manager.receive().unwrap(), "STATUS=a line READY=1 ");
        notifier.status(&"ü".repeat(4000));
        assert_eq!(manager.receive().unwrap(), format!("STATUS={}", "ü".repeat(496)));
        notifier.alive();
        assert_eq!(manager.receive().unwrap(), "WATCHDOG=1");
        notifier.stopping("SIGTERM");
        assert_eq!(manager.receive().unwrap(), "STOPPING=1\nSTATUS=SIGTERM");
        assert!(manager.receive().is_none() && !notifier.has_pending());
    }

    #[test]
    fn a_reload_is_told_with_the_time() {
        let micros = || Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros();
        let (manager, mut notifier) = Manager::new();
        let before = micros();
        notifier.reloading();
        let message = manager.receive().unwrap();
        let sent_at = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u128>().unwrap();
        assert!((before..=micros()).contains(&sent_at));
    }

    #[test]
    fn what_finds_no_room_waits_and_of_what_is_said_again_only_the_newest() {
        let (manager, mut notifier) = Manager::new();
        while !notifier.has_pending() {
            notifier.stopping("noise");
        }
        for status in ["one", "two", "three"] {
            notifier.status(status);
            notifier.alive();
        }
        notifier.reloading();
        notifier.ready("four");
        for _ in 0..100 {
            notifier.alive();
        }
        assert!(notifier.pending.len() <= MAX_PENDING);
        let mut heard = Vec::new();
        loop {
            notifier.flush();
            let Some(message) = manager.receive() else { break };
            heard.push(message);
        }
        assert!(!notifier.has_pending());
        heard.retain(|message| !message.ends_with("noise"));
        let begins = heard.iter().map(|message| message.split('\n').next().unwrap()).collect::<Vec<_>>();
        assert_eq!(begins, ["STATUS=three", "RELOADING=1", "READY=1", "WATCHDOG=1"]);
    }

    #[test]
    fn a_descriptor_is_stored_by_name_and_a_barrier_waits_for_the_manager() {
        let (manager, notifier) = Manager::new();
        notifier.store("wontun-queue-0", manager.0.as_fd()).unwrap();
        assert_eq!(manager.receive().unwrap(), "FDSTORE=1\nFDPOLL=0\nFDNAME=wontun-queue-0");
        notifier.remove_stored("wontun-queue-0").unwrap();
        assert_eq!(manager.receive().unwrap(), "FDSTOREREMOVE=1\nFDNAME=wontun-queue-0");
        // a message that is read without its descriptor closes that
        let reads = std::thread::spawn(move || {
            loop {
                if let Some(message) = manager.receive() {
                    return message;
                }
                std::thread::yield_now();
            }
        });
        notifier.wait_until_handled().unwrap();
        assert_eq!(reads.join().unwrap(), "BARRIER=1");
    }

    #[test]
    fn nobody_there_is_no_reason_to_stop() {
        let (manager, mut notifier) = Manager::new();
        drop(manager);
        notifier.ready("");
        notifier.status("x");
        assert!(!notifier.has_pending());
        let nobody = Notifier::connect("@wontun-nobody".into(), None).unwrap_err().to_string();
        assert!(nobody.contains("@wontun-nobody"), "{nobody}");
        for address in ["vsock:2:1", "relative", "@"] {
            assert!(Notifier::connect(address.into(), None).is_err(), "{address}");
        }
    }

    #[test]
    fn a_path_is_as_good_as_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("wontun-notify-{}", std::process::id()));
        let manager = Manager(UnixDatagram::bind(&path).unwrap());
        let mut notifier = Notifier::connect(path.clone().into(), None).unwrap();
        std::fs::remove_file(&path).unwrap();
        notifier.alive();
        assert_eq!(manager.receive().unwrap(), "WATCHDOG=1");
    }

    #[test]
    fn the_watchdog_is_for_whom_it_names() {
        let asked = |usec: &str, pid: Option<&str>| watchdog(Some(usec.as_ref()), pid.map(OsStr::new), 7);
        let second = Some(Duration::from_secs(1));
        assert_eq!([asked("1000000", Some("7")), asked("1000000", None)], [second; 2]);
        assert_eq!([asked("1000000", Some("8")), asked("1000000", Some("")), asked("0", None)], [None; 3]);
        assert_eq!([asked("-1", None), asked("soon", None), watchdog(None, None, 7)], [None; 3]);
    }
}
