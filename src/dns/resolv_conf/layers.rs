//! The format of a /etc/resolv.conf that tunnels have written.
//!
//! The previous contents are kept in the file itself, as comments. So one write changes both, they
//! are wherever the file is (a bind mount, the layer of a container, the disk after a power
//! failure), and no order of writes has to be kept:
//!
//! ```text
//! # Written by wontun for the tunnel wg0. Lines after "#|" are the previous contents, which
//! # `wontun unlock wg0` restores once the tunnel has ended.
//! # wontun-dns wg0 before=file sum=8c2f6d1e5a7b3940
//! nameserver 10.8.0.1
//! #|nameserver 192.0.2.53
//! ```
//!
//! `sum` is a checksum (FNV-1a) of all that follows the line: a file that was changed by another
//! program is recognized by it. `before=none` means that there was no file. A last line without its
//! end is quoted by `#/`.
//!
//! A second tunnel quotes the contents that the first has written: the file is a stack of layers,
//! and each tunnel removes its own, wherever that is.

use std::fmt::Write as _;

use crate::config::TunName;

/// Maximum length of the file in bytes.
pub(crate) const MAX_LENGTH: usize = 48 * 1024;
/// Maximum number of layers.
const MAX_LAYERS: usize = 8;
const INTRODUCTION: &str = "# Written by wontun for the tunnel ";
const HEADER: &str = "# wontun-dns ";
const QUOTE: &[u8] = b"#|";
/// Quote of a line without its end.
const QUOTE_OPEN: &[u8] = b"#/";

/// The lines of one tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) tunnel: String,
    /// Lines for resolvers, each with its end.
    pub(super) lines: Vec<u8>,
}

/// Contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Layers, the uppermost, which is in effect, first.
    pub(super) layers: Vec<Layer>,
    /// Contents beneath all layers; `None` if there was no file.
    pub(super) base: Option<Vec<u8>>,
    /// True if another program has changed the uppermost layer.
    pub(super) is_damaged: bool,
}

/// Header of a layer.
struct Header<'a> {
    tunnel: &'a str,
    has_base: bool,
    sum: u64,
}

impl Stack {
    /// Parses the contents of the file, `None` if there is no file.
    pub(crate) fn parse(contents: Option<&[u8]>) -> Self {
        let mut stack = Self::default();
        let mut rest = contents.map(<[u8]>::to_vec);
        while let Some(text) = &rest {
            let Some((header, body)) = split(text).filter(|_| stack.layers.len() < MAX_LAYERS) else { break };
            let (lines, beneath) = unquote(body);
            if header.sum != checksum(body) {
                stack.is_damaged = true;
            }
            stack.layers.push(Layer { tunnel: header.tunnel.to_owned(), lines });
            rest = header.has_base.then_some(beneath);
        }
        stack.base = rest;
        stack
    }

    /// Returns the contents of the file, `None` for no file.
    pub(super) fn render(&self) -> Option<Vec<u8>> {
        self.render_from(0)
    }

    /// Returns the contents without the layers before the one with this index.
    fn render_from(&self, index: usize) -> Option<Vec<u8>> {
        let layers = self.layers.get(index..).unwrap_or_default().iter().rev();
        layers.fold(self.base.clone(), |beneath, layer| {
            let mut body = layer.lines.clone();
            quote(&mut body, beneath.as_deref().unwrap_or_default());
            let tunnel = &layer.tunnel;
            let before = if beneath.is_some() { "file" } else { "none" };
            let mut text = String::new();
            let _ = writeln!(
                text,
                "{INTRODUCTION}{tunnel}. Lines after \"#|\" are the previous contents, which\n\
                 # `wontun unlock {tunnel}` restores once the tunnel has ended.\n\
                 {HEADER}{tunnel} before={before} sum={:016x}",
                checksum(&body)
            );
            let mut contents = text.into_bytes();
            contents.append(&mut body);
            Some(contents)
        })
    }

    /// Returns the tunnel whose lines are in effect; `None` if no tunnel has written the file.
    pub(crate) fn tunnel(&self) -> Option<&str> {
        self.layers.first().map(|layer| layer.tunnel.as_str())
    }

    /// Returns the index of the layer of `tunnel`.
    fn index(&self, tunnel: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.tunnel == tunnel)
    }

    /// Returns the layer of `tunnel`.
    pub(super) fn layer(&self, tunnel: &TunName) -> Option<&Layer> {
        self.index(tunnel.as_str()).and_then(|index| self.layers.get(index))
    }

    /// Returns the contents beneath the layer of `tunnel`, all if it has none; empty for no file.
    pub(crate) fn beneath(&self, tunnel: &str) -> Vec<u8> {
        self.render_from(self.index(tunnel).map_or(0, |index| index + 1)).unwrap_or_default()
    }

    /// Returns the previous contents of the text of a file that `tunnel` has written; `None` if it
    /// has not.
    pub(crate) fn previous(text: &str, tunnel: &str) -> Option<String> {
        let stack = Self::parse(Some(text.as_bytes()));
        stack.index(tunnel).map(|_| String::from_utf8_lossy(&stack.beneath(tunnel)).into_owned())
    }

    /// Sets the layer of `tunnel`: where it is, or else on top.
    ///
    /// # Errors
    /// There are too many layers.
    pub(super) fn set(&mut self, tunnel: &TunName, lines: Vec<u8>) -> Result<(), TooManyLayers> {
        let index = self.index(tunnel.as_str());
        if let Some(layer) = index.and_then(|index| self.layers.get_mut(index)) {
            layer.lines = lines;
        } else if self.layers.len() < MAX_LAYERS {
            self.layers.insert(0, Layer { tunnel: tunnel.as_str().to_owned(), lines });
        } else {
            return Err(TooManyLayers);
        }
        self.is_damaged = false;
        Ok(())
    }

    /// Removes the layer of `tunnel`. Returns false if there is none.
    pub(super) fn remove(&mut self, tunnel: &TunName) -> bool {
        self.index(tunnel.as_str()).map(|index| self.layers.remove(index)).is_some()
    }
}

/// Error: the file has the layers of too many tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyLayers;

/// Splits the contents of a file that begins with a layer into its header and the rest.
fn split(contents: &[u8]) -> Option<(Header<'_>, &[u8])> {
    if !contents.starts_with(INTRODUCTION.as_bytes()) {
        return None;
    }
    let mut rest = contents;
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let (line, after) = rest.split_at_checked(end + 1)?;
        let line = str::from_utf8(line).ok()?;
        if let Some(header) = line.strip_prefix(HEADER) {
            return Some((parse_header(header.trim_end())?, after));
        }
        if !line.starts_with('#') {
            return None;
        }
        rest = after;
    }
}

fn parse_header(text: &str) -> Option<Header<'_>> {
    let mut words = text.split(' ');
    let tunnel = words.next().filter(|name| name.parse::<TunName>().is_ok())?;
    let has_base = match words.next()? {
        "before=file" => true,
        "before=none" => false,
        _ => return None,
    };
    let sum = u64::from_str_radix(words.next()?.strip_prefix("sum=")?, 16).ok()?;
    Some(Header { tunnel, has_base, sum })
}

/// Appends `contents`, quoted.
fn quote(to: &mut Vec<u8>, contents: &[u8]) {
    for line in contents.split_inclusive(|&byte| byte == b'\n') {
        let is_whole = line.ends_with(b"\n");
        to.extend(if is_whole { QUOTE } else { QUOTE_OPEN });
        to.extend(line);
        if !is_whole {
            to.push(b'\n');
        }
    }
}

/// Returns the lines of a layer, and the contents that it quotes.
fn unquote(body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut lines, mut beneath) = (Vec::new(), Vec::new());
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        if let Some(quoted) = line.strip_prefix(QUOTE) {
            beneath.extend(quoted);
        } else if let Some(quoted) = line.strip_prefix(QUOTE_OPEN) {
            beneath.extend(quoted.strip_suffix(b"\n").unwrap_or(quoted));
        } else {
            lines.extend(line);
        }
    }
    (lines, beneath)
}

/// Returns the checksum FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> TunName {
        text.parse().unwrap()
    }

    fn applied(contents: Option<&[u8]>, tunnel: &str) -> Vec<u8> {
        let mut stack = Stack::parse(contents);
        stack.set(&name(tunnel), format!("nameserver 10.0.0.1 # {tunnel}\n").into_bytes()).unwrap();
        stack.render().unwrap()
    }

    fn removed(contents: &[u8], tunnel: &str) -> Option<Vec<u8>> {
        let mut stack = Stack::parse(Some(contents));
        assert!(!stack.is_damaged && stack.remove(&name(tunnel)));
        stack.render()
    }

    #[test]
    fn the_previous_contents_come_back_whole() {
        for base in [&b""[..], b"nameserver 192.0.2.53\n", b"no end", b"#|quoted\n#/\n\r\n\0\xff", b"\n\n"] {
            let first = applied(Some(base), "wg0");
            assert!(first.starts_with(b"# Written by wontun for the tunnel wg0."));
            assert_eq!(removed(&first, "wg0").as_deref(), Some(base));
            assert_eq!(Stack::parse(Some(&first)).beneath("wg0"), base);
            assert_eq!(Stack::parse(Some(&first)).beneath("wg1"), first);
        }
        assert_eq!(removed(&applied(None, "wg0"), "wg0"), None);
    }

    #[test]
    fn tunnels_end_in_any_order() {
        let base = &b"nameserver 192.0.2.53\n"[..];
        let first = applied(Some(base), "wg0");
        let both = applied(Some(&first), "wg1");
        assert_eq!(removed(&both, "wg1").as_deref(), Some(&first[..]));
        let second = removed(&both, "wg0").unwrap();
        assert_eq!(second, applied(Some(base), "wg1"));
        assert_eq!(removed(&second, "wg1").as_deref(), Some(base));
        // a layer keeps its place when it changes
        assert_eq!(applied(Some(&both), "wg0"), both);
    }

    #[test]
    fn the_uppermost_layer_is_in_effect() {
        let first = applied(Some(b"# Generated by NetworkManager\n"), "wg0");
        assert_eq!(Stack::parse(Some(&first)).tunnel(), Some("wg0"));
        assert_eq!(Stack::parse(Some(&applied(Some(&first), "wg1"))).tunnel(), Some("wg1"));
        assert_eq!(Stack::parse(Some(b"# Generated by NetworkManager\n")).tunnel(), None);
    }

    #[test]
    fn a_change_by_another_program_is_seen() {
        let contents = applied(Some(b"nameserver 192.0.2.53\n"), "wg0");
        assert!(!Stack::parse(Some(&contents)).is_damaged);
        let added = [&contents[..], b"nameserver 198.51.100.53\n"].concat();
        let stack = Stack::parse(Some(&added));
        assert!(stack.is_damaged);
        assert_eq!(stack.beneath("wg0"), b"nameserver 192.0.2.53\n");
        let other = Stack::parse(Some(b"nameserver 198.51.100.53\n"));
        assert!(!other.is_damaged && other.layers.is_empty());
        // not a layer: a header that is not one
        let wrong = String::from_utf8(contents).unwrap().replace("before=file", "before=some");
        assert!(Stack::parse(Some(wrong.as_bytes())).layers.is_empty());
    }

    #[test]
    fn layers_are_limited() {
        let mut stack = Stack::default();
        for number in 0..MAX_LAYERS {
            stack.set(&name(&format!("wg{number}")), Vec::new()).unwrap();
        }
        assert_eq!(stack.set(&name("wg99"), Vec::new()), Err(TooManyLayers));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(base: Vec<u8>, second: bool) {
            let mut contents = applied(Some(&base), "wg0");
            if second {
                contents = removed(&applied(Some(&contents), "wg1"), "wg0").unwrap();
            }
            prop_assert_eq!(removed(&contents, if second { "wg1" } else { "wg0" }), Some(base));
        }

        #[test]
        fn any_bytes_can_be_parsed(contents: Vec<u8>, cut in 0_usize..400) {
            Stack::parse(Some(&contents));
            let mut layered = applied(Some(&contents), "wg0");
            layered.truncate(cut);
            Stack::parse(Some(&layered));
        }
    }
}
