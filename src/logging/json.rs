//! The format of `--log-format json`, one JSON object per event and line: `time`, `level`,
//! `message` and the fields of the event.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer as _};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use super::queue::Backend;
use super::stderr::{Chain, Utc};
use crate::json::Printable;

/// Creates a backend that writes JSON lines to `out`.
pub(super) fn backend<W>(level: LevelFilter, out: W) -> Backend
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let event_time = Arc::<AtomicU64>::default();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(JsonLines(Arc::clone(&event_time)))
        .with_writer(out)
        // as for text
        .log_internal_errors(false);
    Backend::with_event_time(Dispatch::new(Registry::default().with(level).with(layer)), event_time)
}

/// Formats events; holds the time of the event.
struct JsonLines(Arc<AtomicU64>);

impl<S, F> FormatEvent<S, F> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    F: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, F>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Vec::new();
        format(event, self.0.load(Ordering::Relaxed), &mut line).map_err(|_| fmt::Error)?;
        writer.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)?;
        writer.write_char('\n')
    }
}

fn format(event: &Event<'_>, micros: u64, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut serializer = serde_json::Serializer::with_formatter(line, Printable);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("time", &Utc(micros).to_string())?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut visitor = Fields { map, result: Ok(()) };
    event.record(&mut visitor);
    visitor.result?;
    visitor.map.end()
}

/// Adds the fields to the object; keeps the first error.
struct Fields<M: SerializeMap> {
    map: M,
    result: Result<(), M::Error>,
}

impl<M: SerializeMap> Fields<M> {
    fn put(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        if self.result.is_ok() {
            self.result = self.map.serialize_entry(field.name().trim_start_matches("r#"), value);
        }
    }
}

impl<M: SerializeMap> Visit for Fields<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, &Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tracing::{info, warn};

    use super::*;
    use crate::logging::stderr::tests::written_by;

    #[test]
    fn each_event_is_an_object_on_a_line() {
        let evil = "a\"\\\n{\"level\":\"ERROR\"}\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\x07é";
        let text = written_by(
            |out| backend(LevelFilter::INFO, out),
            || {
                info!(event = "connect", peer = evil, shown = %evil, debugged = ?evil, count = 7_u64, is = true, "{evil}");
                warn!(error = &"".parse::<u8>().unwrap_err() as &dyn Error, suppressed = None::<u64>, "odd");
                tracing::debug!("not shown");
            },
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), text.matches('\n').count()), (2, 2), "{text:?}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\x07']), "{text:?}");
        let [mut first, mut second] = [0, 1].map(|line| serde_json::from_str::<Value>(lines[line]).unwrap());
        for line in [&mut first, &mut second] {
            let time = line.as_object_mut().unwrap().remove("time").unwrap();
            assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
        }
        let debugged = format!("{evil:?}");
        assert_eq!(
            first,
            json!({
                "level": "INFO", "message": evil, "event": "connect", "peer": evil, "shown": evil,
                "debugged": debugged, "count": 7, "is": true,
            })
        );
        assert_eq!(
            second,
            json!({ "level": "WARN", "message": "odd", "error": "cannot parse integer from empty string" })
        );
    }
}
