//! `wontun health`: is the loop alive, and is its device up?
//!
//! The running tunnel listens on an abstract unix socket, which needs no writable file system, named after the
//! network namespace and the device. It says one line, and how long ago a handshake was completed if there was one, and
//! hangs up; it reads nothing. Abstract names have no owner or mode, so each side checks who the other one is
//! (SO_PEERCRED): its own user or root.

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
use crate::io::interrupted::retry;

/// How long the running tunnel may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests that wait until they are taken.
pub(crate) const BACKLOG: i32 = 16;
const OK: &str = "ok: ";
/// Begins the second line: seconds since the youngest handshake.
const HANDSHAKE_AGE: &str = "handshake_age=";
const NEVER: &str = "never";
/// Begins the line of each condition on the host that is not met.
const WARNING: &str = "warning=";
/// Begins the line of the last reload's error.
const RELOAD_ERROR: &str = "reload_error=";
/// Bytes that an answer may have.
const MAX_ANSWER: usize = 16_384;
/// Begins the names of the sockets.
const PREFIX: &str = "wontun";
/// The kernel's list of unix sockets in this network namespace, and the flag there of one that listens
/// (`__SO_ACCEPTCON`).
const SOCKETS: &str = "/proc/self/net/unix";
const LISTENS: u32 = 1 << 16;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody listens.
    #[error("no tunnel runs on {0} in this network namespace: start it, or name the right one with --tun")]
    NotRunning(TunName),
    /// Someone listens, and does not answer.
    #[error("the tunnel on {0} does not answer: its loop hangs; restart it")]
    Hangs(TunName),
    /// It answered that not all is well.
    #[error("{0}")]
    Unhealthy(String),
    /// Several listen, and none was named.
    #[error("several tunnels run here ({}): name one with --tun or WONTUN_TUN", names(.0))]
    Several(Vec<TunName>),
    /// A handshake is asked for where there is none.
    #[error("{0} is in plain mode, which has no handshakes: leave out --max-handshake-age")]
    NoHandshakes(TunName),
    /// All is well, but it has not been heard from for too long by any peer.
    #[error("no peer of {tun} has completed a handshake {}; check the peers and the network between", since(*age, *max))]
    Handshake {
        /// The device asked for.
        tun: TunName,
        /// Age of the youngest handshake, if there was one.
        age: Option<Duration>,
        /// The oldest that would have done.
        max: Duration,
    },
    /// It closed without a word.
    #[error("the tunnel on {0} does not answer this user: run this as root or as the tunnel's user")]
    Refused(TunName),
    /// Whoever answers is not to be believed.
    #[error(
        "user {uid} answers for {tun}, who is neither root nor this user: run this as the tunnel's user, or see who took its name (ss -xlp)"
    )]
    Stranger {
        /// User id of the listener.
        uid: u32,
        /// The device asked for.
        tun: TunName,
    },
    /// The process is another PID namespace's.
    #[error(
        "the process of {0} is not visible from here: run this where it runs (docker exec), or send it SIGHUP (docker kill --signal HUP, systemctl reload)"
    )]
    NotVisible(TunName),
    /// The configuration was not read again.
    #[error("{tun} runs on as before, since the reload failed: {error}")]
    Reload {
        /// The device asked for.
        tun: TunName,
        /// The error, as the log has it.
        error: String,
    },
    /// Anything else.
    #[error("cannot ask for the health of {tun}: {source}")]
    Other {
        /// The device asked for.
        tun: TunName,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn names(tunnels: &[TunName]) -> String {
    tunnels.iter().map(TunName::as_str).collect::<Vec<_>>().join(", ")
}

fn since(age: Option<Duration>, max: Duration) -> String {
    match age {
        Some(age) => format!("for {} s, more than {} s", age.as_secs(), max.as_secs()),
        None => "yet".to_owned(),
    }
}

/// How a running tunnel is.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is well, or what is not.
    pub state: Result<String, String>,
    /// Of the youngest handshake with a peer.
    pub handshake: Handshake,
    /// Conditions on the host that are not met, a line each.
    pub warnings: Vec<String>,
    /// Error of the last reload.
    pub reload_error: Option<String>,
}

/// The answer of a tunnel that is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// A line that says so.
    pub line: String,
    /// Conditions on the host that the tunnel relies on, and that are not met.
    pub warnings: Vec<String>,
}

/// How long ago a handshake was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// There are none in this mode.
    Unknown,
    /// None ever was.
    Never,
    /// So long.
    Ago(Duration),
}

/// The running tunnel's end.
#[derive(Debug)]
pub struct HealthListener {
    socket: Socket,
    /// The user that may ask, besides root.
    user: u32,
}

impl HealthListener {
    /// Takes the name of the tunnel on `tun`.
    ///
    /// # Errors
    /// The kernel's; `AddrInUse` if another process sits on the name.
    pub fn open(tun: &TunName) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking(), None)?;
        socket.bind(&address(tun)?)?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket, user: geteuid().as_raw() })
    }

    /// Returns the socket, for another process.
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }

    /// Takes a socket of [`Self::open`] that another process has opened; `user` may ask, besides
    /// root.
    pub fn from_fd(socket: OwnedFd, user: u32) -> Self {
        Self { socket: socket.into(), user }
    }

    /// Takes one who asks; `None` if that was somebody who may not, or who has gone again.
    ///
    /// # Errors
    /// `WouldBlock` if nobody asks; the kernel's.
    pub fn accept(&self) -> io::Result<Option<Asker>> {
        let (socket, _) = match self.socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(is_ours(&socket, self.user).is_ok_and(|uid| uid.is_none()).then_some(Asker(socket)))
    }
}

/// One who asks, and waits for an answer.
#[derive(Debug)]
pub struct Asker(Socket);

impl Asker {
    /// Answers. What goes wrong with it is the asker's loss.
    pub fn answer(self, report: &Report) {
        let mut line = match &report.state {
            Ok(well) => format!("{OK}{well}"),
            Err(trouble) => trouble.clone(),
        };
        match report.handshake {
            Handshake::Unknown => {}
            Handshake::Never => line += &format!("\n{HANDSHAKE_AGE}{NEVER}"),
            Handshake::Ago(age) => line += &format!("\n{HANDSHAKE_AGE}{}", age.as_secs()),
        }
        for warning in &report.warnings {
            line += &format!("\n{WARNING}{}", one_line(warning));
        }
        if let Some(error) = &report.reload_error {
            line += &format!("\n{RELOAD_ERROR}{}", one_line(error));
        }
        // a new socket has room for a few lines; if not, the asker hears nothing, which says as
        // much
        let _ = self.0.set_nonblocking(true).and_then(|()| self.0.send(line.as_bytes()));
    }
}

impl AsFd for HealthListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks the tunnel on `tun`. With `max_age` the youngest handshake may not be older than that.
///
/// # Errors
/// [`HealthError`]: there is none, it does not answer, or it is not well.
pub fn ask(tun: &TunName, max_age: Option<Duration>) -> Result<Health, HealthError> {
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

/// Has the tunnel on `tun` read its configuration again and put back whatever is missing on the
/// host, and returns its health afterwards.
///
/// The process is the one that opened the health socket (SO_PEERCRED), and gets SIGHUP.
///
/// # Errors
/// As for [`ask`]; [`HealthError::NotVisible`], [`HealthError::Reload`].
pub fn reload(tun: &TunName) -> Result<Health, HealthError> {
    let other = |source| HealthError::Other { tun: tun.clone(), source };
    let pid =
        getsockopt(&connect(tun)?, sockopt::PeerCredentials).map_err(|error| other(error.into()))?.pid();
    if pid <= 0 {
        return Err(HealthError::NotVisible(tun.clone()));
    }
    match kill(Pid::from_raw(pid), Signal::SIGHUP) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Err(HealthError::Refused(tun.clone())),
        Err(Errno::ESRCH) => return Err(HealthError::NotRunning(tun.clone())),
        Err(error) => return Err(other(error.into())),
    }
    // the signal is handled before the probe that this has sent
    let answer = read_answer(&connect(tun)?, tun)?;
    let Answer { line, warnings, reload_error, .. } = parse(&answer);
    match reload_error {
        Some(error) => Err(HealthError::Reload { tun: tun.clone(), error: error.to_owned() }),
        None if !line.starts_with(OK) => Err(HealthError::Unhealthy(line.to_owned())),
        None => Ok(Health { line: line.to_owned(), warnings }),
    }
}

/// The parts of an answer.
#[derive(Debug, Default)]
struct Answer<'a> {
    line: &'a str,
    /// `None` in a mode without handshakes; its `None` is never.
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

/// Replaces what would begin another line.
fn one_line(text: &str) -> String {
    text.replace(|letter: char| letter.is_control(), " ")
}

fn connect(tun: &TunName) -> Result<Socket, HealthError> {
    let other = |source| HealthError::Other { tun: tun.clone(), source };
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).map_err(other)?;
    // the first also bounds how long a full queue may hold up the connection
    socket.set_write_timeout(Some(PATIENCE)).map_err(other)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(other)?;
    let address = address(tun).map_err(other)?;
    retry(|| socket.connect(&address)).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => HealthError::NotRunning(tun.clone()),
        io::ErrorKind::WouldBlock => HealthError::Hangs(tun.clone()),
        _ => other(error),
    })?;
    match is_ours(&socket, geteuid().as_raw()).map_err(other)? {
        Some(uid) => Err(HealthError::Stranger { uid, tun: tun.clone() }),
        None => Ok(socket),
    }
}

fn read_answer(mut socket: &Socket, tun: &TunName) -> Result<String, HealthError> {
    let mut answer = [0; MAX_ANSWER];
    let length = retry(|| socket.read(&mut answer)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => HealthError::Hangs(tun.clone()),
        io::ErrorKind::ConnectionReset => HealthError::Refused(tun.clone()),
        _ => HealthError::Other { tun: tun.clone(), source: error },
    })?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

/// `None` if the other end is `user` or root, else its user id.
fn is_ours(socket: &Socket, user: u32) -> io::Result<Option<u32>> {
    let uid = getsockopt(socket, sockopt::PeerCredentials)?.uid();
    Ok((uid != 0 && uid != user).then_some(uid))
}

fn address(tun: &TunName) -> io::Result<SockAddr> {
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino());
    SockAddr::unix(format!("\0{PREFIX}/{namespace}/{tun}"))
}

/// The tunnel to ask if nobody chose one: the default one if that runs, or the only one that does.
///
/// # Errors
/// [`HealthError::Several`].
pub fn choose() -> Result<TunName, HealthError> {
    let default = TunName::default();
    // where nobody tells, the default one is asked
    let mut running = running(&fs::read_to_string(SOCKETS).unwrap_or_default());
    match running.len() {
        0 => Ok(default),
        _ if running.contains(&default) => Ok(default),
        1 => Ok(running.pop().unwrap_or_default()),
        _ => Err(HealthError::Several(running)),
    }
}

/// The tunnels whose sockets are in the kernel's list, which has a line for each: number, users, protocol, flags, type,
/// state, inode, name, with `@` for the zero that begins an abstract one.
fn running(sockets: &str) -> Vec<TunName> {
    let mut running: Vec<TunName> = sockets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
            let name = words.nth(3)?.strip_prefix('@')?.strip_prefix(PREFIX)?.strip_prefix('/')?;
            // the network namespace: the list has none of another
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

    fn report(state: Result<String, String>, handshake: Handshake) -> Report {
        Report { state, handshake, warnings: Vec::new(), reload_error: None }
    }

    fn answered(state: Result<String, String>, suffix: &str) -> Result<String, HealthError> {
        asked(&report(state, Handshake::Unknown), None, suffix)
    }

    fn asked(report: &Report, max_age: Option<Duration>, suffix: &str) -> Result<String, HealthError> {
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
            let handshake = age.map_or(Handshake::Never, |age| Handshake::Ago(Duration::from_secs(age)));
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
        let report = report(Ok("tun0 is up".to_owned()), Handshake::Unknown);
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
        assert!(matches!(ask(&tun, None), Err(HealthError::Hangs(_))));
    }

    #[test]
    fn the_name_is_taken_once() {
        let tun = name("e");
        let _listener = HealthListener::open(&tun).unwrap();
        assert_eq!(HealthListener::open(&tun).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
