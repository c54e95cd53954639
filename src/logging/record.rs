//! An owned copy of an event, which can wait for the writer and be replayed there.

use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Value, Visit};
use tracing::{Dispatch, Event, Metadata};

/// A captured event. Every value keeps its type, so that journald and stderr show the same as for
/// the event itself.
#[derive(Debug)]
pub(super) struct Record {
    metadata: &'static Metadata<'static>,
    /// The time of the event: it may wait long before it is written.
    pub(super) time: SystemTime,
    /// One slot per field, in the order of the metadata's fields; empty where the event has no
    /// value.
    values: Vec<Option<OwnedValue>>,
}

#[derive(Debug)]
enum OwnedValue {
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Bool(bool),
    Str(Box<str>),
    Bytes(Box<[u8]>),
    /// The form in which `?value`, `%value` and the message arrive: text that is shown without
    /// quotes.
    Formatted(Box<str>),
    Error(Box<ErrorText>),
}

impl Record {
    /// Copies `event`.
    pub(super) fn capture(event: &Event<'_>, time: SystemTime) -> Self {
        let metadata = event.metadata();
        let mut capture = Capture { values: Vec::new() };
        capture.values.resize_with(metadata.fields().len(), || None);
        event.record(&mut capture);
        Self { metadata, time, values: capture.values }
    }

    /// Replays the event on `backend`.
    pub(super) fn replay(&self, backend: &Dispatch) {
        let owned: Vec<_> = self.values.iter().map(|value| value.as_ref().map(OwnedValue::value)).collect();
        let values: Vec<_> = owned.iter().map(Option::as_deref).collect();
        backend.event(&Event::new(self.metadata, &self.metadata.fields().value_set_all(&values)));
    }
}

impl OwnedValue {
    fn value(&self) -> Box<dyn Value + '_> {
        match self {
            Self::I64(value) => Box::new(*value),
            Self::U64(value) => Box::new(*value),
            Self::I128(value) => Box::new(*value),
            Self::U128(value) => Box::new(*value),
            Self::F64(value) => Box::new(*value),
            Self::Bool(value) => Box::new(*value),
            Self::Str(text) => Box::new(&**text),
            Self::Bytes(bytes) => Box::new(&**bytes),
            Self::Formatted(text) => Box::new(tracing::field::display(&**text)),
            Self::Error(error) => {
                let error: &(dyn Error + 'static) = &**error;
                Box::new(error)
            }
        }
    }
}

struct Capture {
    values: Vec<Option<OwnedValue>>,
}

impl Capture {
    fn put(&mut self, field: &Field, value: OwnedValue) {
        if let Some(slot) = self.values.get_mut(field.index()) {
            *slot = Some(value);
        }
    }
}

impl Visit for Capture {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, OwnedValue::F64(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, OwnedValue::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, OwnedValue::U64(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, OwnedValue::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, OwnedValue::U128(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, OwnedValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, OwnedValue::Str(value.into()));
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.put(field, OwnedValue::Bytes(value.into()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, OwnedValue::Error(Box::new(ErrorText::copy(value, MAX_SOURCES))));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, OwnedValue::Formatted(format!("{value:?}").into()));
    }
}

/// Maximum causes of an error that are kept.
const MAX_SOURCES: usize = 16;

/// The text of an error and of its causes.
struct ErrorText {
    display: Box<str>,
    debug: Box<str>,
    source: Option<Box<ErrorText>>,
}

impl ErrorText {
    fn copy(error: &(dyn Error + 'static), sources: usize) -> Self {
        let source = error.source().filter(|_| sources > 0);
        Self {
            display: error.to_string().into(),
            debug: format!("{error:?}").into(),
            source: source.map(|source| Box::new(Self::copy(source, sources - 1))),
        }
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl fmt::Debug for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

impl Error for ErrorText {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
