//! Logging to journald or stderr without ever blocking the event loop.
//!
//! A stalled journald or a full container log pipe blocks its writers. So the `tracing` subscriber
//! of the whole program (`queue`) only copies an event's values (`record`) into a bounded queue; a
//! thread takes them out, formats and writes them. Lines that do not fit are counted, and the
//! number is logged once there is space again. The thread is started late, by
//! [`Logging::start_writer`], because capabilities belong to threads: a thread started before the
//! capability drop would keep them all.

mod json;
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

pub(crate) use rate_limit::{RateLimit, Suppressed};

use crate::messages::LogConfig;
use crate::sandbox::LogSandbox;
use queue::{Backend, WriterHandle};

/// Maximum lines that wait for the writer.
const QUEUE_LINES: usize = 1024;

/// The socket of journald.
const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// The destination of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogTarget {
    /// journald if systemd connected stderr to the journal, else stderr.
    #[default]
    Auto,
    /// journald, with structured fields.
    Journald,
    /// Standard error, one line per event.
    Stderr,
}

/// The format of lines on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A handle of the program's log: starts the writer, and flushes at the end.
#[derive(Debug)]
pub(crate) struct Logging {
    writer: WriterHandle,
    journald: bool,
    format: LogFormat,
    covers_stderr: bool,
    level: LevelFilter,
}

/// Installs the log as `tracing`'s global default. From here on events are queued; they are written
/// once [`Logging::start_writer`] or [`Logging::flush`] is called.
///
/// Never fails: if journald is requested but absent, lines go to stderr, with a warning.
pub(crate) fn init(target: LogTarget, format: LogFormat, level: LevelFilter) -> Logging {
    let stderr_is_journal = stderr_is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let wants_journald = match target {
        // the journal has the fields without it
        LogTarget::Auto => stderr_is_journal && format == LogFormat::Text,
        LogTarget::Journald => true,
        LogTarget::Stderr => false,
    };
    install(wants_journald, stderr_is_journal, format, level)
}

/// As [`init`], for a process whose supervisor has made the choice: journald if `to_journald`, else
/// standard error.
pub(crate) fn init_with(
    to_journald: bool,
    stderr_is_journal: bool,
    format: LogFormat,
    level: LevelFilter,
) -> Logging {
    install(to_journald, stderr_is_journal, format, level)
}

fn install(wants_journald: bool, stderr_is_journal: bool, format: LogFormat, level: LevelFilter) -> Logging {
    let absent = if wants_journald { probe_journald().err() } else { None };
    let journald = wants_journald && absent.is_none();

    let (subscriber, writer) = queue::new(level, QUEUE_LINES, move || {
        if journald { journald_back_end(format, level) } else { to_stderr(format, level) }
    });
    // Fails only if a default was set before: on a second call, whose lines then go to the first
    // one's destination.
    let second = tracing::subscriber::set_global_default(subscriber).is_err();
    debug_assert!(!second, "logging::init is called once");
    if let Some(error) = absent {
        warn_journald_absent(&error);
    }
    // a reader of JSON must not meet another line
    let is_read_there = if journald { stderr_is_journal } else { format == LogFormat::Json };
    let covers_stderr = is_read_there && level >= LevelFilter::ERROR;
    Logging { writer, journald, format, covers_stderr, level }
}

/// Returns true if journald accepts connections.
pub(crate) fn has_journald() -> bool {
    probe_journald().is_ok()
}

impl Logging {
    /// Returns true if lines go to journald rather than to stderr.
    pub(crate) const fn is_journald(&self) -> bool {
        self.journald
    }

    /// Returns true if a fatal error belongs into the log.
    pub(crate) const fn takes_errors(&self) -> bool {
        self.journald || self.covers_stderr
    }

    /// Returns true if the log appears wherever stderr does, so that an error need not be printed
    /// there again.
    pub(crate) const fn covers_stderr(&self) -> bool {
        self.covers_stderr
    }

    /// Returns the settings for another process that logs to the same place.
    pub(crate) fn settings(&self) -> LogConfig {
        let levels = [
            LevelFilter::OFF,
            LevelFilter::ERROR,
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ];
        let level = levels.iter().position(|level| *level == self.level).unwrap_or(0);
        LogConfig {
            to_journald: self.journald,
            is_json: self.format == LogFormat::Json,
            covers_stderr: self.covers_stderr,
            level: u8::try_from(level).unwrap_or(0),
        }
    }

    /// Starts the thread that writes the lines. Call it after the capability drop, with all signals
    /// blocked that must not be delivered to this thread (it inherits the caller's mask). The
    /// thread engages the `sandbox` before anything else. A second call does nothing.
    ///
    /// # Errors
    /// The thread cannot be started, or the sandbox cannot be engaged; lines then stay queued, and
    /// `flush` still writes them.
    pub(crate) fn start_writer(&mut self, sandbox: Option<LogSandbox>) -> io::Result<()> {
        self.writer.start(sandbox)
    }

    /// Waits until every queued line is written, at most `timeout`: a stalled pipe must not delay
    /// the exit.
    ///
    /// For the end of the program. If no writer was started (an early error), it starts one, which
    /// then outlives the timeout only as long as the process.
    pub(crate) fn flush(&mut self, timeout: Duration) {
        self.writer.flush(timeout);
    }
}

/// Returns true if stderr is the journal's stream that systemd announces as `dev:inode`. The
/// comparison is needed because programs whose stderr was redirected later inherit the variable,
/// too.
fn stderr_is_journal(journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Tests whether journald accepts connections. Connecting never blocks; the layer's own check sends
/// a datagram and may.
fn probe_journald() -> io::Result<()> {
    UnixDatagram::unbound()?.connect(JOURNALD_SOCKET)
}

/// Opens the backend for journald. Runs on the writer's thread, where blocking is allowed.
fn journald_back_end(format: LogFormat, level: LevelFilter) -> Backend {
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
            // Journald adds the timestamps itself, on arrival.
            Backend::new(Dispatch::new(Registry::default().with(level).with(layer)))
        }
        Err(error) => {
            // Journald stopped between the probe and here. The warning is queued, behind the
            // waiting lines.
            warn_journald_absent(&error);
            to_stderr(format, level)
        }
    }
}

fn to_stderr(format: LogFormat, level: LevelFilter) -> Backend {
    match format {
        LogFormat::Text => stderr::backend(level, stderr::colour(), || stderr::Stderr),
        LogFormat::Json => json::backend(level, || stderr::Stderr),
    }
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
