//! Implements `wontun down`: ends a running tunnel, and waits until it has ended.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, geteuid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::manager::Manager;
use crate::config::TunName;
use crate::control::health::{self, HealthError};
use crate::exit::{self, ExitCode};
use crate::netlink::KillSwitch;
use crate::uapi::client::{self, Listener};
use crate::uapi::{ClientError, UapiFolders};

/// Maximum time until the process has ended. It undoes what it has set on the host, which takes a
/// few milliseconds, and a second for many thousand routes.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum time until the device is gone, once the process has ended.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(2);
/// Flag of a TUN device that stays without a process (`IFF_PERSIST` of linux/if_tun.h).
const IFF_PERSIST: u32 = 0x0800;

/// Reason why a tunnel was not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownError {
    /// No tunnel of this name runs.
    #[error("no wontun tunnel {tun} is running here: {}", Running(running))]
    NotRunning {
        /// Name that was given.
        tun: TunName,
        /// The tunnels that run.
        running: Vec<TunName>,
    },
    /// No tunnel runs, and none was named.
    #[error("no wontun tunnel is running here: there is nothing to end")]
    NoneRunning,
    /// Several tunnels run, and none was named.
    #[error("several tunnels are running ({}): name one, for example wontun down {}", list(.0), .0.first().map_or("tun0", TunName::as_str))]
    Several(Vec<TunName>),
    /// A unit of systemd runs it, which might start it again.
    #[error("{unit} runs {tun}: end it with 'systemctl {}stop {unit}', so that systemd does not start it again", if *is_user { "--user " } else { "" })]
    Unit {
        /// Name of the tunnel.
        tun: TunName,
        /// Name of the unit.
        unit: String,
        /// True for a unit of a user's service manager.
        is_user: bool,
    },
    /// wg-quick has set it up.
    #[error(
        "wg-quick has set up {0}: end it with 'wg-quick down {0}', which also removes its routes and rules"
    )]
    WgQuick(TunName),
    /// It is a container.
    #[error(
        "{0} is the first process of its container: stop the container (docker stop, docker compose stop), so that it is not started again"
    )]
    Container(TunName),
    /// The process is in another PID namespace.
    #[error(
        "the process of {0} is not visible from here: stop its container (docker stop), or run this where the tunnel runs"
    )]
    NotVisible(TunName),
    /// This user may not end it.
    #[error("permission denied to end {0}: run this as root or as the tunnel's user")]
    NotPermitted(TunName),
    /// The control socket cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The process does not end.
    #[error("the process {pid} of {tun} did not end within {} s of SIGTERM: see its log; 'kill -9 {pid}' ends it at once, and the next start clears up", EXIT_TIMEOUT.as_secs())]
    DoesNotEnd {
        /// Name of the tunnel.
        tun: TunName,
        /// The process.
        pid: Pid,
    },
    /// An error of the kernel.
    #[error("cannot end {tun}: {source}")]
    System {
        /// Name of the tunnel.
        tun: TunName,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for DownError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NotPermitted(_) => exit::NO_PERMISSION,
            Self::Client(error) => error.exit_code(),
            _ => exit::FAILURE,
        }
    }
}

fn list(tunnels: &[TunName]) -> String {
    tunnels.iter().map(TunName::as_str).collect::<Vec<_>>().join(", ")
}

struct Running<'a>(&'a [TunName]);

impl std::fmt::Display for Running<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => f.write_str("none is"),
            [only] => write!(f, "{only} is"),
            several => write!(f, "{} are", list(several)),
        }
    }
}

/// Ends the tunnel `name`, or the only one that runs, and returns when its process has ended and
/// its device is gone.
///
/// # Errors
/// [`DownError`].
pub(crate) fn down(name: Option<TunName>, folders: &UapiFolders) -> Result<(), DownError> {
    let tun = name.map_or_else(|| only_one(folders), Ok)?;
    let pid = supervisor(&tun, folders)?;
    let system = |error: Errno| match error {
        Errno::EPERM => DownError::NotPermitted(tun.clone()),
        error => DownError::System { tun: tun.clone(), source: error.into() },
    };
    // refers to this process even if it ends and another gets its number
    let process =
        pidfd_open(rustix_pid(pid).ok_or_else(|| DownError::NotVisible(tun.clone()))?, PidfdFlags::empty());
    let process = match process {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Err(not_running(&tun, folders)),
        Err(error) => return Err(system(Errno::from_raw(error.raw_os_error()))),
    };
    // only now: until here the number might have become another process's
    if supervisor(&tun, folders)? != pid {
        return Err(not_running(&tun, folders));
    }
    match Manager::of(pid, &tun) {
        Some(Manager::Systemd { unit, is_user }) => return Err(DownError::Unit { tun, unit, is_user }),
        Some(Manager::WgQuick) => return Err(DownError::WgQuick(tun)),
        Some(Manager::Container) => return Err(DownError::Container(tun)),
        None => {}
    }
    let index = if_nametoindex(tun.as_str()).ok();
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(system(Errno::from_raw(error.raw_os_error()))),
    }
    if !has_ended(&process).map_err(system)? {
        return Err(DownError::DoesNotEnd { tun, pid });
    }
    if let Some(index) = index {
        wait_for_device(&tun, index);
    }
    // without a privilege, nothing can be said about it
    let has_kill_switch = KillSwitch::is_in_place(tun.as_str()).unwrap_or(false);
    let note = if has_kill_switch {
        format!("; its kill switch stays, until 'wontun kill-switch off {tun}'")
    } else {
        String::new()
    };
    // a reader that has closed the pipe still has the exit code
    let _ = writeln!(io::stdout(), "{tun}: down{note}");
    Ok(())
}

/// Returns the only tunnel that runs.
fn only_one(folders: &UapiFolders) -> Result<TunName, DownError> {
    let mut running = running(folders);
    match running.len() {
        0 => Err(DownError::NoneRunning),
        1 => running.pop().ok_or(DownError::NoneRunning),
        _ => Err(DownError::Several(running)),
    }
}

/// Returns the tunnels that run, of both modes, sorted by name.
fn running(folders: &UapiFolders) -> Vec<TunName> {
    let mut running = health::running_tunnels();
    running.extend(client::status_of_all(folders).0.into_iter().map(|status| status.name));
    running.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    running.dedup();
    running
}

fn not_running(tun: &TunName, folders: &UapiFolders) -> DownError {
    let mut running = running(folders);
    running.retain(|other| other != tun);
    DownError::NotRunning { tun: tun.clone(), running }
}

/// Returns the process that was started for the tunnel: the one that opened its health socket, or
/// else its control socket.
fn supervisor(tun: &TunName, folders: &UapiFolders) -> Result<Pid, DownError> {
    match health::supervisor(tun) {
        Ok(Some(pid)) => return Ok(pid),
        Ok(None) => return Err(DownError::NotVisible(tun.clone())),
        // the control socket's folder vouches for tunnels of other users
        Err(HealthError::NotRunning(_) | HealthError::UntrustedListener { .. }) => {}
        Err(HealthError::Other { source, .. }) => return Err(DownError::System { tun: tun.clone(), source }),
        Err(_) => return Err(DownError::NotPermitted(tun.clone())),
    }
    match client::listener_by_name(folders, tun) {
        Ok(Listener { pid: Some(pid), uid }) if is_trusted(uid, pid) => Ok(pid),
        Ok(Listener { pid: Some(_), .. }) => Err(DownError::NotPermitted(tun.clone())),
        Ok(Listener { pid: None, .. }) => Err(DownError::NotVisible(tun.clone())),
        Err(ClientError::NotRunning(_)) => Err(not_running(tun, folders)),
        Err(error) => Err(error.into()),
    }
}

/// Returns true if the listener's user can be believed that `pid` is its process: root, this user,
/// or the user whose process it is.
fn is_trusted(uid: u32, pid: Pid) -> bool {
    let status = || fs::read_to_string(format!("/proc/{pid}/status")).ok();
    let owner = || {
        status()?.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
    };
    uid == 0 || uid == geteuid().as_raw() || owner() == Some(uid)
}

fn rustix_pid(pid: Pid) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid.as_raw())
}

/// Waits until the process has ended. Returns false after [`EXIT_TIMEOUT`].
fn has_ended(process: &OwnedFd) -> Result<bool, Errno> {
    let deadline = Instant::now() + EXIT_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the device is gone, unless it was there before the tunnel and stays: the tunnel
/// process, which has it, ends right after the supervisor.
fn wait_for_device(tun: &TunName, index: u32) {
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    let is_there = || if_nametoindex(tun.as_str()) == Ok(index);
    while is_there() && !is_persistent(tun) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_persistent(tun: &TunName) -> bool {
    let flags = fs::read_to_string(format!("/sys/class/net/{tun}/tun_flags")).unwrap_or_default();
    let flags = flags.trim().strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & IFF_PERSIST != 0)
}
