//! A file of peers for `wontun peer add --from`: CSV with a header, or a JSON array of objects.
//!
//! Both have the same columns: those of [`Column`]. All errors are found, each with its line.

mod column;
mod csv_rows;
mod error;
mod json_rows;
mod row;

use std::time::SystemTime;

pub(crate) use self::error::ListError;
use self::error::line_of;
pub(crate) use self::row::ListDefaults;
use self::row::{Row, options};
use super::peers::NewPeerOptions;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The peers of a file, and the errors in it.
#[derive(Debug, Default)]
pub(crate) struct PeerList {
    /// The peers without an error.
    pub peers: Vec<ListedOptions>,
    /// The errors, in the order of their lines.
    pub errors: Vec<ListError>,
}

/// A peer of the file.
#[derive(Debug)]
pub(crate) struct ListedOptions {
    /// Line at which it begins, starting at 1.
    pub line: usize,
    /// The options of the peer.
    pub options: NewPeerOptions,
}

/// Parses a file of peers. `now` is the beginning of durations.
pub(crate) fn parse(text: &[u8], defaults: &ListDefaults, now: SystemTime) -> PeerList {
    let text = match str::from_utf8(text) {
        Ok(text) => text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text),
        Err(error) => {
            let before = text.get(..error.valid_up_to()).unwrap_or_default();
            let error = ListError::new(line_of(before), "not UTF-8: save the file in that encoding");
            return PeerList { errors: vec![error], ..PeerList::default() };
        }
    };
    let (rows, errors) = match text.trim_start().chars().next() {
        Some('[') => json_rows::rows(text),
        Some('{') => (Vec::new(), vec![ListError::new(1, "expected a list of peers: [{...}, {...}]")]),
        _ => csv_rows::rows(text),
    };
    let mut list = PeerList { peers: Vec::with_capacity(rows.len()), errors };
    let is_empty = rows.is_empty() && list.errors.is_empty();
    for Row { line, values } in rows {
        match options(&values, defaults, now) {
            Ok(options) => list.peers.push(ListedOptions { line, options }),
            Err(errors) => {
                list.errors.extend(errors.into_iter().map(|message| ListError::new(line, message)));
            }
        }
    }
    if is_empty {
        list.errors.push(ListError::new(
            1,
            "no peer in the file: expected a header such as name,address and a line for each peer",
        ));
    }
    list.errors.sort_by_key(|error| error.line);
    list
}

#[cfg(test)]
mod tests;
