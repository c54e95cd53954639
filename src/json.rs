//! JSON on one line, safe for a terminal.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// Formats one document on one line.
pub(crate) fn document(content: &impl Serialize) -> String {
    let mut text = Vec::new();
    // writing to memory does not fail, and all keys are strings
    let _ = content.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Printable));
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default()
}

/// Compact, with non-printable characters of strings escaped too: a string may come from another
/// process, and the document may be displayed on a terminal.
pub(crate) struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c == '\'' || c.escape_debug().count() == 1 {
                writer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let byte = match escape {
            CharEscape::Quote => return writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => return writer.write_all(b"\\\\"),
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => 0x08,
            CharEscape::FormFeed => 0x0c,
            CharEscape::LineFeed => b'\n',
            CharEscape::CarriageReturn => b'\r',
            CharEscape::Tab => b'\t',
            CharEscape::AsciiControl(byte) => byte,
        };
        write!(writer, "\\u{byte:04x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(document(&"tun0"), "\"tun0\"\n");
        assert_eq!(document(&"it's"), "\"it's\"\n");
        assert_eq!(document(&"a\"b\\c\n\u{1b}\u{2028}é🦀"), "\"a\\\"b\\\\c\\u000a\\u001b\\u2028é🦀\"\n");
        assert_eq!(document(&"\u{9b}31m\u{202e}\u{e0001}"), "\"\\u009b31m\\u202e\\udb40\\udc01\"\n");
    }
}
