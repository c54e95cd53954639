//! The lines of one metric, each with labels and a number.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// Value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// A count, or a number of bytes.
    Whole(u64),
    /// A time in seconds, with millisecond resolution.
    Time(Duration),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<bool> for Number {
    fn from(is: bool) -> Self {
        Self::Whole(is.into())
    }
}

impl From<Duration> for Number {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Time(time) => write!(f, "{}.{:03}", time.as_secs(), time.subsec_millis()),
        }
    }
}

/// The lines of one metric.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Lines<'a> {
    /// Creates a writer of lines of the metric `name` to `out`.
    pub(super) const fn new(out: &'a mut String, name: &'static str) -> Self {
        Self { out, name }
    }

    /// Appends a line.
    pub(super) fn push(&mut self, labels: &[(&str, &str)], number: Number) {
        self.out.push_str(self.name);
        let mut separator = '{';
        for (label, value) in labels {
            self.out.push(separator);
            self.out.push_str(label);
            self.out.push_str("=\"");
            escape(value, self.out);
            self.out.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {number}");
    }
}

/// Appends a label's value. The format requires escapes for three characters.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
