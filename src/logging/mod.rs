//! Log lines to journald or stderr, without the event loop ever waiting for either.
//!
//! A stalled journald or a full container log pipe blocks whoever writes to it. So the `tracing` subscriber
//! that the whole program sees (`queue`) only copies an event's values (`record`) into a bounded queue;
//! a thread takes them out, formats and writes. What does not fit is counted and told once there is room
//! again. The thread is started late, by [`Logging::start_writer`], because capabilities belong to threads:
//! one that is older than the capability drop would keep them all.

mod queue;
mod rate_limit;
mod record;
mod stderr;

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::stat::fstat;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, warn};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

pub use rate_limit::{RateLimit, Suppressed};

use crate::messages::Log;
use crate::sandbox::LogSandbox;
use queue::{BackEnd, Outlet};

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 1024;

/// Where journald listens.
const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Journald if systemd connected stderr to the journal, else stderr.
    #[default]
    Auto,
    /// Journald, with structured fields.
    Journald,
    /// One line an event on stderr.
    Stderr,
}

/// The program's hold on its log: starts the writer, and flushes at the end.
#[derive(Debug)]
pub struct Logging {
    outlet: Outlet,
    journald: bool,
    covers_stderr: bool,
    level: LevelFilter,
}

/// Makes the log the program's own (`tracing`'s global default). From here on events are queued; they are
/// written once [`Logging::start_writer`] or [`Logging::flush`] is called.
///
/// Never fails: where journald is wanted and absent, lines go to stderr and a warning says so.
pub fn init(target: Target, level: LevelFilter) -> Logging {
    let stderr_is_journal = stderr_is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let wants_journald = match target {
        Target::Auto => stderr_is_journal,
        Target::Journald => true,
        Target::Stderr => false,
    };
    begin(wants_journald, stderr_is_journal, level)
}

/// As [`init`], for a process whose supervisor has chosen: to journald if `to_journald`, else to
/// standard error.
pub fn init_chosen(to_journald: bool, stderr_is_journal: bool, level: LevelFilter) -> Logging {
    begin(to_journald, stderr_is_journal, level)
}

fn begin(wants_journald: bool, stderr_is_journal: bool, level: LevelFilter) -> Logging {
    let absent = if wants_journald { probe_journald().err() } else { None };
    let journald = wants_journald && absent.is_none();

    let (front, outlet) =
        queue::new(
            level,
            QUEUE_LINES,
            move || if journald { journald_back_end(level) } else { to_stderr(level) },
        );
    // Fails only if somebody set a default before: a second call, whose lines then go where the first one's go.
    let second = tracing::subscriber::set_global_default(front).is_err();
    debug_assert!(!second, "logging::init is called once");
    if let Some(error) = absent {
        warn_journald_absent(&error);
    }
    let covers_stderr = journald && stderr_is_journal && level >= LevelFilter::ERROR;
    Logging { outlet, journald, covers_stderr, level }
}

/// Whether journald is there to be written to.
pub fn has_journald() -> bool {
    probe_journald().is_ok()
}

impl Logging {
    /// Whether lines go to journald rather than to stderr.
    pub const fn is_journald(&self) -> bool {
        self.journald
    }

    /// Whether whoever reads stderr reads the log too, so that an error need not be told there again.
    pub const fn covers_stderr(&self) -> bool {
        self.covers_stderr
    }

    /// Returns the settings for another process that logs to the same place.
    pub fn settings(&self) -> Log {
        let levels = [
            LevelFilter::OFF,
            LevelFilter::ERROR,
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ];
        let level = levels.iter().position(|level| *level == self.level).unwrap_or(0);
        Log {
            to_journald: self.journald,
            covers_stderr: self.covers_stderr,
            level: u8::try_from(level).unwrap_or(0),
        }
    }

    /// Starts the thread that writes the lines. Call it after the capability drop, with all signals blocked
    /// that must not be delivered to this thread (it inherits the caller's mask). It engages the `sandbox` first of all.
    /// A second call does nothing.
    ///
    /// # Errors
    /// When the kernel refuses a thread, or the sandbox; lines then stay queued, and `flush` still writes them.
    pub fn start_writer(&mut self, sandbox: Option<LogSandbox>) -> io::Result<()> {
        self.outlet.start(sandbox)
    }

    /// Waits until every queued line is written, at most `timeout`: a stalled pipe must not hold up the exit.
    ///
    /// For the end of the program. Where no writer was started (an early error), it starts one, which then
    /// outlives the timeout only as long as the process.
    pub fn flush(&mut self, timeout: Duration) {
        self.outlet.flush(timeout);
    }
}

/// Whether stderr is the journal's stream that systemd announces as `dev:inode`. The comparison matters:
/// the variable is inherited by programs whose stderr was since redirected.
fn stderr_is_journal(journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Whether journald listens. Connecting never blocks; the layer's own check sends a datagram and may.
fn probe_journald() -> io::Result<()> {
    UnixDatagram::unbound()?.connect(JOURNALD_SOCKET)
}

/// Runs on the writer's thread, where blocking is allowed.
fn journald_back_end(level: LevelFilter) -> BackEnd {
    match tracing_journald::layer() {
        Ok(layer) => {
            let layer = layer
                .with_field_prefix(Some("WONTUN".to_owned()))
                .with_syslog_identifier("wontun".to_owned())
                .with_priority_mappings(PriorityMappings {
                    error: Priority::Error,
                    warn: Priority::Warning,
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    trace: Priority::Debug,
                });
            // Journald stamps the lines itself, on arrival.
            BackEnd::new(Dispatch::new(Registry::default().with(level).with(layer)))
        }
        Err(error) => {
            // It went away between the probe and here. The warning is queued, and written after what waits.
            warn_journald_absent(&error);
            to_stderr(level)
        }
    }
}

fn to_stderr(level: LevelFilter) -> BackEnd {
    stderr::back_end(level, stderr::colour(), || stderr::Stderr)
}

fn warn_journald_absent(error: &io::Error) {
    warn!(
        "journald is not reachable at {JOURNALD_SOCKET} ({error}), logging to stderr: \
         start systemd-journald, or choose --log-target stderr"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_journal_stream_of_stderr_itself_counts() {
        let stat = fstat(io::stderr()).unwrap();
        let own = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(stderr_is_journal(Some(&own)));
        assert!(!stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino.wrapping_add(1)))));
        for other in ["", ":", "8", "8:", ":9", "a:b", "8:9:10", "-1:-1", "99999999999999999999:1"] {
            assert!(!stderr_is_journal(Some(other)), "{other:?}");
        }
        assert!(!stderr_is_journal(None));
    }
}
