//! Implements `wontun health`, which checks that the event loop responds and that the device is up.
//!
//! The running tunnel listens on an abstract unix socket, which needs no writable file system,
//! named after the network namespace and the device. It sends its state, with the age of the latest
//! handshake if there was one, and closes the connection; it reads nothing. Abstract names have no
//! owner or mode, so each side checks the credentials of the other (SO_PEERCRED): its own user or
//! root.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::TunName;
use crate::exit::ExitCode;
use crate::interrupted::retry;

/// Timeout for the answer of the running tunnel.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Listen backlog of the health socket.
pub(crate) const BACKLOG: i32 = 16;
const OK: &str = "ok: ";
/// Prefix of the line with the seconds since the latest handshake.
const HANDSHAKE_AGE: &str = "handshake_age=";
const NEVER: &str = "never";
/// Prefix of the line of each host condition that is not met.
const WARNING: &str = "warning=";
/// Prefix of the line with the error of the last reload.
const RELOAD_ERROR: &str = "reload_error=";
/// Maximum length of an answer in bytes.
const MAX_ANSWER: usize = 16_384;
/// Prefix of the socket names.
const PREFIX: &str = "wontun";
/// The kernel's list of unix sockets in this network namespace, and its flag for a listening socket
/// (`__SO_ACCEPTCON`).
const SOCKETS: &str = "/proc/self/net/unix";
const LISTENS: u32 = 1 << 16;

/// Reason why a health request or a reload failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    /// No tunnel listens for this device.
    #[error(
        "no tunnel is running on {0} in this network namespace: start it, or name another one with --tun"
    )]
    NotRunning(TunName),
    /// The tunnel does not answer in time.
    #[error("the tunnel on {0} does not respond: its event loop hangs; restart it")]
    Timeout(TunName),
    /// The tunnel reported a problem.
    #[error("{0}")]
    Unhealthy(String),
    /// Several tunnels run, and none was selected.
    #[error("several tunnels are running ({}): name one with --tun or WONTUN_TUN", names(.0))]
    Several(Vec<TunName>),
    /// A maximum handshake age was given for a mode without handshakes.
    #[error("{0} is in plain mode, which has no handshakes: leave out --max-handshake-age")]
    NoHandshakes(TunName),
    /// The tunnel is well, but the latest handshake with any peer is too old.
    #[error("no peer of {tun} has completed a handshake {}; check the peers and the network between", since(*age, *max))]
    Handshake {
        /// Device of the tunnel.
        tun: TunName,
        /// Age of the latest handshake; `None` if there was none.
        age: Option<Duration>,
        /// Maximum age that was accepted.
        max: Duration,
    },
    /// The tunnel closed the connection without an answer.
    #[error("permission denied by the tunnel on {0}: run this as root or as the tunnel's user")]
    Refused(TunName),
    /// The listener runs as a user that is neither root nor this one.
    #[error(
        "the health socket of {tun} belongs to user {uid}, who is neither root nor this user: run this as the tunnel's user, or find the process that took its name (ss -xlp)"
    )]
    UntrustedListener {
        /// User id of the listener.
        uid: u32,
        /// Device of the tunnel.
        tun: TunName,
    },
    /// The process is in another PID namespace.
    #[error(
        "the process of {0} is not visible from here: run this where it runs (docker exec), or send it SIGHUP (docker kill --signal HUP, systemctl reload)"
    )]
    NotVisible(TunName),
    /// The configuration could not be reloaded.
    #[error("{tun} continues with its previous configuration, since the reload failed: {error}")]
    Reload {
        /// Device of the tunnel.
        tun: TunName,
        /// The error as logged.
        error: String,
    },
    /// Any other error.
    #[error("cannot query the health of {tun}: {source}")]
    Other {
        /// Device of the tunnel.
        tun: TunName,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for HealthError {}

fn names(tunnels: &[TunName]) -> String {
    tunnels.iter().map(TunName::as_str).collect::<Vec<_>>().join(", ")
}

fn since(age: Option<Duration>, max: Duration) -> String {
    match age {
        Some(age) => format!("for {} s, more than {} s", age.as_secs(), max.as_secs()),
        None => "yet".to_owned(),
    }
}

/// State of a running tunnel.
#[derive(Clone, Debug)]
pub(crate) struct HealthReport {
    /// Summary of the state; an error describes the problem.
    pub state: Result<String, String>,
    /// Latest handshake with any peer.
    pub handshake: LatestHandshake,
    /// Host conditions that are not met, one line each.
    pub warnings: Vec<String>,
    /// Error of the last reload, if it failed.
    pub reload_error: Option<String>,
}

/// Answer of a healthy tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Summary of the state.
    pub line: String,
    /// Host conditions that the tunnel relies on and that are not met.
    pub warnings: Vec<String>,
}

/// Age of the latest handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatestHandshake {
    /// The mode has no handshakes.
    Unknown,
    /// No handshake was completed yet.
    Never,
    /// Time since the latest handshake.
    Ago(Duration),
}

/// The listening end in the running tunnel.
#[derive(Debug)]
pub(crate) struct HealthListener {
    socket: Socket,
    /// User that may connect, besides root.
    user: u32,
}

impl HealthListener {
    /// Binds the health socket of the tunnel on `tun`.
    ///
    /// # Errors
    /// An error of the kernel; `AddrInUse` if another process holds the name.
    pub(crate) fn open(tun: &TunName) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking(), None)?;
        socket.bind(&address(tun)?)?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket, user: geteuid().as_raw() })
    }

    /// Returns the socket, for another process.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }

    /// Creates a listener from a socket of [`Self::open`] opened by another process; `user` may
    /// connect, besides root.
    pub(crate) fn from_fd(socket: OwnedFd, user: u32) -> Self {
        Self { socket: socket.into(), user }
    }

    /// Accepts a connection. Returns `None` if the client was not permitted or disconnected
    /// already.
    ///
    /// # Errors
    /// `WouldBlock` if no connection is pending, or another error of the kernel.
    pub(crate) fn accept(&self) -> io::Result<Option<HealthClient>> {
        let (socket, _) = match self.socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(untrusted_uid(&socket, self.user).is_ok_and(|uid| uid.is_none()).then_some(HealthClient(socket)))
    }
}

/// A client connection that waits for its answer.
#[derive(Debug)]
pub(crate) struct HealthClient(Socket);

impl HealthClient {
    /// Sends the answer. Errors are ignored: the client notices them.
    pub(crate) fn answer(self, report: &HealthReport) {
        let mut line = match &report.state {
            Ok(well) => format!("{OK}{well}"),
            Err(trouble) => trouble.clone(),
        };
        match report.handshake {
            LatestHandshake::Unknown => {}
            LatestHandshake::Never => line += &format!("\n{HANDSHAKE_AGE}{NEVER}"),
            LatestHandshake::Ago(age) => line += &format!("\n{HANDSHAKE_AGE}{}", age.as_secs()),
        }
        for warning in &report.warnings {
            line += &format!("\n{WARNING}{}", one_line(warning));
        }
        if let Some(error) = &report.reload_error {
            line += &format!("\n{RELOAD_ERROR}{}", one_line(error));
        }
        // a new socket has buffer space for a few lines; if not, the client sees an empty answer,
        // which is an error too
        let _ = self.0.set_nonblocking(true).and_then(|()| self.0.send(line.as_bytes()));
    }
}

impl AsFd for HealthListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Requests the health of the tunnel on `tun`. With `max_age`, the latest handshake must not be
/// older.
///
/// # Errors
/// [`HealthError`]: the tunnel does not run, does not answer, or is not healthy.
pub(crate) fn ask(tun: &TunName, max_age: Option<Duration>) -> Result<Health, HealthError> {
    let answer = read_answer(&connect(tun)?, tun)?;
    let Answer { line, age, warnings, .. } = parse(&answer);
    match max_age {
        _ if line.is_empty() => Err(HealthError::Refused(tun.clone())),
        _ if !line.starts_with(OK) => Err(HealthError::Unhealthy(line.to_owned())),
        Some(_) if age.is_none() => Err(HealthError::NoHandshakes(tun.clone())),
        Some(max) if age.flatten().is_none_or(|age| age > max) => {
            Err(HealthError::Handshake { tun: tun.clone(), age: age.flatten(), max })
        }
        _ => Ok(Health { line: line.to_owned(), warnings }),
    }
}

/// Makes the tunnel on `tun` reload its configuration and restore missing state of the host, and
/// returns its health afterwards.
///
/// The process is the one that opened the health socket (SO_PEERCRED); it is sent SIGHUP.
///
/// # Errors
/// As for [`ask`]; [`HealthError::NotVisible`], [`HealthError::Reload`].
pub(crate) fn reload(tun: &TunName) -> Result<Health, HealthError> {
    let other = |source| HealthError::Other { tun: tun.clone(), source };
    let pid = supervisor(tun)?.ok_or_else(|| HealthError::NotVisible(tun.clone()))?;
    match kill(pid, Signal::SIGHUP) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Err(HealthError::Refused(tun.clone())),
        Err(Errno::ESRCH) => return Err(HealthError::NotRunning(tun.clone())),
        Err(error) => return Err(other(error.into())),
    }
    // the tunnel handles the signal before the request sent here
    let answer = read_answer(&connect(tun)?, tun)?;
    let Answer { line, warnings, reload_error, .. } = parse(&answer);
    match reload_error {
        Some(error) => Err(HealthError::Reload { tun: tun.clone(), error: error.to_owned() }),
        None if !line.starts_with(OK) => Err(HealthError::Unhealthy(line.to_owned())),
        None => Ok(Health { line: line.to_owned(), warnings }),
    }
}

/// Returns the process of the tunnel on `tun` that opened the health socket (SO_PEERCRED), or
/// `None` if it is in another PID namespace.
///
/// # Errors
/// [`HealthError`]: the tunnel does not run, or its socket is not trusted.
pub(crate) fn supervisor(tun: &TunName) -> Result<Option<Pid>, HealthError> {
    let credentials = getsockopt(&connect(tun)?, sockopt::PeerCredentials);
    let pid =
        credentials.map_err(|error| HealthError::Other { tun: tun.clone(), source: error.into() })?.pid();
    Ok((pid > 0).then(|| Pid::from_raw(pid)))
}

/// Fields of an answer.
#[derive(Debug, Default)]
struct Answer<'a> {
    line: &'a str,
    /// `None` in a mode without handshakes; `Some(None)` if there was no handshake.
    age: Option<Option<Duration>>,
    warnings: Vec<String>,
    reload_error: Option<&'a str>,
}

fn parse(answer: &str) -> Answer<'_> {
    let mut lines = answer.lines();
    let mut parsed = Answer { line: lines.next().unwrap_or_default(), ..Answer::default() };
    for line in lines {
        if let Some(age) = line.strip_prefix(HANDSHAKE_AGE) {
            parsed.age = Some(age.parse().ok().map(Duration::from_secs));
        } else if let Some(warning) = line.strip_prefix(WARNING) {
            parsed.warnings.push(warning.to_owned());
        } else if let Some(error) = line.strip_prefix(RELOAD_ERROR) {
            parsed.reload_error = Some(error);
        }
    }
    parsed
}

/// Replaces control characters, which would begin another line, by spaces.
fn one_line(text: &str) -> String {
    text.replace(|letter: char| letter.is_control(), " ")
}

fn connect(tun: &TunName) -> Result<Socket, HealthError> {
    let other = |source| HealthError::Other { tun: tun.clone(), source };
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).map_err(other)?;
    // the write timeout also bounds how long a full queue can block connect()
    socket.set_write_timeout(Some(TIMEOUT)).map_err(other)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(other)?;
    let address = address(tun).map_err(other)?;
    retry(|| socket.connect(&address)).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => HealthError::NotRunning(tun.clone()),
        io::ErrorKind::WouldBlock => HealthError::Timeout(tun.clone()),
        _ => other(error),
    })?;
    match untrusted_uid(&socket, geteuid().as_raw()).map_err(other)? {
        Some(uid) => Err(HealthError::UntrustedListener { uid, tun: tun.clone() }),
        None => Ok(socket),
    }
}

fn read_answer(mut socket: &Socket, tun: &TunName) -> Result<String, HealthError> {
    let mut answer = [0; MAX_ANSWER];
    let length = retry(|| socket.read(&mut answer)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => HealthError::Timeout(tun.clone()),
        io::ErrorKind::ConnectionReset => HealthError::Refused(tun.clone()),
        _ => HealthError::Other { tun: tun.clone(), source: error },
    })?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

/// Returns `None` if the peer is `user` or root, its user id otherwise.
fn untrusted_uid(socket: &Socket, user: u32) -> io::Result<Option<u32>> {
    let uid = getsockopt(socket, sockopt::PeerCredentials)?.uid();
    Ok((uid != 0 && uid != user).then_some(uid))
}

fn address(tun: &TunName) -> io::Result<SockAddr> {
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino());
    SockAddr::unix(format!("\0{PREFIX}/{namespace}/{tun}"))
}

/// Selects the tunnel if none was named: the default one if it runs, or the only one that runs.
///
/// # Errors
/// [`HealthError::Several`] if several run.
pub(crate) fn select_tunnel() -> Result<TunName, HealthError> {
    let default = TunName::default();
    // if the list cannot be read, the default tunnel is selected
    let mut running = running_tunnels();
    match running.len() {
        0 => Ok(default),
        _ if running.contains(&default) => Ok(default),
        1 => Ok(running.pop().unwrap_or_default()),
        _ => Err(HealthError::Several(running)),
    }
}

/// Returns the tunnels that run in this network namespace, sorted by name; none if the kernel's
/// list cannot be read.
pub(crate) fn running_tunnels() -> Vec<TunName> {
    running(&fs::read_to_string(SOCKETS).unwrap_or_default())
}

/// Returns the tunnels whose sockets are in `sockets`, the kernel's list, which has a line for
/// each: number, users, protocol, flags, type, state, inode, name, with `@` for the leading zero of
/// an abstract one.
fn running(sockets: &str) -> Vec<TunName> {
    let mut running: Vec<TunName> = sockets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
            let name = words.nth(3)?.strip_prefix('@')?.strip_prefix(PREFIX)?.strip_prefix('/')?;
            // the part before the slash is the network namespace: the list has no sockets of
            // another
            let (_, tun) = name.split_once('/')?;
            (flags & LISTENS != 0).then(|| tun.parse().ok()).flatten()
        })
        .collect();
    running.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(suffix: &str) -> TunName {
        format!("t{}{suffix}", std::process::id() % 1_000_000).parse().unwrap()
    }

    fn report(state: Result<String, String>, handshake: LatestHandshake) -> HealthReport {
        HealthReport { state, handshake, warnings: Vec::new(), reload_error: None }
    }

    fn answered(state: Result<String, String>, suffix: &str) -> Result<String, HealthError> {
        asked(&report(state, LatestHandshake::Unknown), None, suffix)
    }

    fn asked(report: &HealthReport, max_age: Option<Duration>, suffix: &str) -> Result<String, HealthError> {
        let tun = name(suffix);
        let listener = HealthListener::open(&tun).unwrap();
        let asker = std::thread::spawn({
            let tun = tun.clone();
            move || ask(&tun, max_age)
        });
        loop {
            match listener.accept() {
                Ok(one) => break one.unwrap().answer(report),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            std::thread::yield_now();
        }
        asker.join().unwrap().map(|health| health.line)
    }

    #[test]
    fn a_tunnel_that_is_well_says_so() {
        assert_eq!(answered(Ok("tun0 is up".to_owned()), "a").unwrap(), "ok: tun0 is up");
    }

    #[test]
    fn and_one_that_is_not_says_what_is_wrong() {
        let error = answered(Err("tun0 is down".to_owned()), "b").unwrap_err();
        assert_eq!(error.to_string(), "tun0 is down");
    }

    #[test]
    fn a_tunnel_that_is_well_may_be_dead_all_the_same() {
        let max = Duration::from_secs(180);
        for (age, suffix, well) in [(Some(180), "f", true), (Some(181), "g", false), (None, "h", false)] {
            let handshake =
                age.map_or(LatestHandshake::Never, |age| LatestHandshake::Ago(Duration::from_secs(age)));
            let report = report(Ok("tun0 is up".to_owned()), handshake);
            assert_eq!(asked(&report, None, suffix).unwrap(), "ok: tun0 is up");
            match asked(&report, Some(max), suffix) {
                Ok(line) => assert!(well && line == "ok: tun0 is up"),
                Err(error) => assert!(!well && matches!(error, HealthError::Handshake { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn plain_mode_has_no_handshakes_to_be_old() {
        let report = report(Ok("tun0 is up".to_owned()), LatestHandshake::Unknown);
        let error = asked(&report, Some(Duration::from_secs(180)), "i").unwrap_err();
        assert!(matches!(error, HealthError::NoHandshakes(_)), "{error}");
    }

    #[test]
    fn tunnels_that_run_are_found_in_the_kernels_list() {
        let list = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0005 01 17 @wontun/4026531840/wg5
0000000000000000: 00000003 00000000 00000000 0005 03 18 @wontun/4026531840/connected
0000000000000000: 00000002 00000000 00010000 0001 01 19 /run/wontun/1/file
0000000000000000: 00000002 00000000 00010000 0001 01 20 @wontun-other/1/other
0000000000000000: 00000002 00000000 00010000 0001 01 20
0000000000000000: 00000002 00000000 00010000 0005 01 21 @wontun/4026531840/tun0
0000000000000000: 00000002 00000000 00010000 0005 01 21 @wontun/4026531840/../no-device-has-such-a-name
";
        assert_eq!(names(&running(list)), "tun0, wg5");
        let tun = name("j");
        let _listener = HealthListener::open(&tun).unwrap();
        assert!(running(&fs::read_to_string(SOCKETS).unwrap()).contains(&tun));
    }

    #[test]
    fn nobody_there() {
        assert!(matches!(ask(&name("c"), None), Err(HealthError::NotRunning(_))));
    }

    #[test]
    fn a_loop_that_hangs_is_found_out() {
        let tun = name("d");
        let _listener = HealthListener::open(&tun).unwrap();
        assert!(matches!(ask(&tun, None), Err(HealthError::Timeout(_))));
    }

    #[test]
    fn the_name_is_taken_once() {
        let tun = name("e");
        let _listener = HealthListener::open(&tun).unwrap();
        assert_eq!(HealthListener::open(&tun).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
