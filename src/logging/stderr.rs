//! The format on stderr, one line per event: `2026-07-30T12:00:00.123456Z  INFO ready role=server
//! tun=tun0`.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;

use super::queue::Backend;

/// Returns true if stderr is a terminal and `NO_COLOR` is not set.
pub(super) fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Creates a backend that writes text lines to `out`.
pub(super) fn backend<W>(level: LevelFilter, colour: bool, out: W) -> Backend
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let event_time = Arc::<AtomicU64>::default();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(colour)
        .with_target(false)
        .with_timer(EventTime(Arc::clone(&event_time)))
        .fmt_fields(Fields)
        .with_writer(out)
        // It would report errors on stderr, which is what just failed, and panic there.
        .log_internal_errors(false);
    Backend::with_event_time(Dispatch::new(Registry::default().with(level).with(layer)), event_time)
}

/// Stderr without the standard library's lock: a writer that is blocked on a full pipe holds the
/// lock, and the line of a fatal error would wait for it.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        loop {
            match nix::unistd::write(&stderr, line) {
                Err(Errno::EINTR) => {}
                // Another process that shares the pipe made it non-blocking; this thread can wait.
                Err(Errno::EAGAIN) => {
                    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut ready, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats the time of the event rather than that of the write: a line may wait.
struct EventTime(Arc<AtomicU64>);

impl FormatTime for EventTime {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write!(line, "{}", Utc(self.0.load(Ordering::Relaxed)))
    }
}

/// Microseconds since 1970, displayed as an RFC 3339 timestamp without an allocation; a time after
/// the year 9999 is its end.
pub(super) struct Utc(pub(super) u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
        write!(f, "{:.6}", time.unwrap_or(Timestamp::MAX))
    }
}

/// Formats the message, then `name=value`. The crate's own formatter does not escape a line break
/// in a message or a `%value`, which allows a second line that looks like one of ours.
struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = FieldVisitor { writer, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldVisitor<'writer> {
    writer: Writer<'writer>,
    first: bool,
    result: fmt::Result,
}

impl FieldVisitor<'_> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            self.result = self.try_put(field.name(), value);
        }
    }

    fn try_put(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let name = name.trim_start_matches("r#");
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        write!(Escaping(&mut self.writer), "{value}")
    }
}

impl Visit for FieldVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.put(field, format_args!("{value}"));
        } else {
            self.put(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

/// Formats an error and its causes, separated by `: `.
pub(super) struct Chain<'a>(pub(super) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Escapes control characters, and those that change a terminal's writing direction.
struct Escaping<W>(W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, tail) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = tail.chars();
            if let Some(character) = characters.next() {
                write!(self.0, "{}", character.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use tracing::{info, warn};

    use super::*;
    use crate::logging::queue;

    #[derive(Clone, Default)]
    pub(in crate::logging) struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the text that `log` writes through queue and writer.
    fn written(level: LevelFilter, colour: bool, log: impl FnOnce()) -> String {
        written_by(move |out| backend(level, colour, out), log)
    }

    /// Destination of a backend's lines.
    type Out = Box<dyn Fn() -> Buffer + Send + Sync>;

    /// Returns what `log` writes through queue and writer to the backend that `open` makes.
    pub(in crate::logging) fn written_by(
        open: impl FnOnce(Out) -> Backend + Send + 'static,
        log: impl FnOnce(),
    ) -> String {
        let buffer = Buffer::default();
        let out = buffer.clone();
        let (subscriber, mut writer) =
            queue::new(LevelFilter::INFO, 16, move || open(Box::new(move || out.clone())));
        tracing::subscriber::with_default(subscriber, log);
        writer.flush(std::time::Duration::from_secs(10));
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn one_plain_line_an_event() {
        let before = std::time::SystemTime::now();
        let text = written(LevelFilter::INFO, false, || {
            info!(role = %"server", tun = %"tun0", mtu = 1472, "ready");
            info!(tx_packets = 12_u64, drops = "stranger=3 malformed=1", "summary");
            tracing::debug!("not shown");
            warn!(error = &"".parse::<u8>().unwrap_err() as &dyn Error, "odd");
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let micros = before.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let year = Utc(u64::try_from(micros).unwrap()).to_string();
        assert!(lines[0] >= year.as_str() && lines[0].is_char_boundary(27), "{text}");
        assert_eq!(&lines[0][26..], "Z  INFO ready role=server tun=tun0 mtu=1472");
        assert_eq!(&lines[1][26..], "Z  INFO summary tx_packets=12 drops=\"stranger=3 malformed=1\"");
        assert_eq!(&lines[2][26..], "Z  WARN odd error=cannot parse integer from empty string");
        assert!(!text.contains('\x1b'), "no colour codes");
    }

    #[test]
    fn colour_where_asked_for() {
        let text = written(LevelFilter::INFO, true, || info!(mtu = 1472, "ready"));
        assert!(text.contains("\x1b["), "{text:?}");
    }

    #[test]
    fn nothing_in_a_value_forges_a_line() {
        let evil = "a\n2026-01-01T00:00:00Z ERROR forged\r\x1b[2J\u{9b}31m\u{202e}\u{2028}\x07é";
        #[derive(Debug, thiserror::Error)]
        #[error("bad\nthing")]
        struct Evil;
        for colour in [false, true] {
            let text = written(LevelFilter::INFO, colour, || {
                info!(text = evil, shown = %evil, debugged = ?evil, "{evil}");
                info!(message = evil, error = &Evil as &(dyn Error + 'static));
            });
            assert_eq!(text.lines().count(), 2, "{text:?}");
            assert_eq!(text.matches('\n').count(), 2, "{text:?}");
            assert!(!text.contains(['\r', '\u{9b}', '\u{202e}', '\u{2028}', '\x07']), "{text:?}");
            assert!(!text.contains("\x1b[2J") && text.contains("\\u{1b}[2J"), "{text:?}");
            assert!(text.contains('é'), "other letters stay");
            assert!(text.contains(r"bad\nthing"), "{text:?}");
        }
    }

    #[test]
    fn dates() {
        let utc = |seconds: u64| Utc(seconds * 1_000_000 + 42).to_string();
        assert_eq!(utc(0), "1970-01-01T00:00:00.000042Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00.000042Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59.000042Z");
        assert_eq!(utc(1_709_251_200), "2024-03-01T00:00:00.000042Z");
        assert_eq!(utc(1_735_689_599), "2024-12-31T23:59:59.000042Z");
        assert_eq!(utc(1_785_412_800), "2026-07-30T12:00:00.000042Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00.000042Z");
        assert!(Utc(u64::MAX).to_string().starts_with("9999-12-30T"));
    }
}
