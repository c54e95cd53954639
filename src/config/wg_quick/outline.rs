//! Byte ranges of sections and comments in a configuration file.
//!
//! A section reaches from the comments directly above its header to its last key and the comments
//! directly below that. Text between two sections, such as a comment with an empty line on either
//! side, belongs to neither.

use std::net::IpAddr;
use std::ops::Range;

use super::Section;
use super::error::{ErrorKind, Notice};
use super::field::Field;
use crate::config::invalid_value::describe;
use crate::config::peer_settings::{PeerComment, PeerSettings, PortForward};
use crate::config::{DEFAULT_WIREGUARD_PORT, PeerAddress, PeerName, PeerPolicy, ZoneName, ZoneOption};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The kind of a line, as `wg` and `wg-quick` see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Empty,
    Comment,
    Header(Section),
    Key,
}

/// The kind of a line and its byte range, line end included.
#[derive(Clone, Debug)]
struct Line {
    kind: Kind,
    bytes: Range<usize>,
}

/// A section of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) section: Section,
    /// Byte range of the section, comments included.
    pub(crate) bytes: Range<usize>,
    /// Offset of the first byte after the header's line.
    pub(crate) after_header: usize,
    /// Byte ranges of the comment lines.
    pub(crate) comments: Vec<Range<usize>>,
}

/// Key of the comment with the name of a peer.
pub(crate) const NAME: &str = "Name";

/// Key of the comment with the address that clients connect to.
pub(crate) const ENDPOINT: &str = "ClientEndpoint";

/// Key of the comment with the domain of the peers' names.
pub(crate) const DOMAIN: &str = "ClientDomain";

/// Key of the comment with the name servers of clients.
pub(crate) const DNS: &str = "ClientDNS";

/// Key of the comment with the policy for peers without rules.
pub(crate) const POLICY: &str = "Policy";

/// Settings of a server in comments of the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerComments {
    /// Port that clients connect to.
    pub client_port: Option<u16>,
    /// Name servers of clients.
    pub dns: Vec<IpAddr>,
    /// Domain of the peers' names.
    pub zone: Option<ZoneName>,
    /// Policy for peers without rules.
    pub policy: Option<PeerPolicy>,
}

/// Returns what comments of the interface say about a server, and errors with their line numbers.
pub(super) fn server_comments(text: &[u8]) -> (ServerComments, Vec<(usize, ErrorKind)>) {
    let (mut comments, mut errors) = (ServerComments::default(), Vec::new());
    let interface = blocks(text).into_iter().find(|block| block.section == Section::Interface);
    let lines = interface.map(|block| block.comments).unwrap_or_default();
    let value = |key: &str| {
        let (line, range) = lines.iter().find_map(|line| Some((line, comment_value(text, line, key)?)))?;
        Some((line, str::from_utf8(text.get(range)?).ok()?))
    };
    comments.client_port = value(ENDPOINT).and_then(|(_, value)| {
        match PeerAddress::parse_with_port(value, DEFAULT_WIREGUARD_PORT).ok()? {
            PeerAddress::Socket(address) => Some(address.port()),
            PeerAddress::Name { port, .. } => Some(port),
        }
    });
    let dns = value(DNS).map(|(_, value)| value.split(',').filter_map(|item| item.trim().parse().ok()));
    comments.dns = dns.into_iter().flatten().collect();
    let zone = value(DOMAIN).and_then(|(_, value)| value.parse::<ZoneOption>().ok());
    comments.zone = zone.and_then(ZoneOption::into_zone);
    if let Some((line, value)) = value(POLICY) {
        match value.parse() {
            Ok(policy) => comments.policy = Some(policy),
            Err(_) => errors.push((line_number(text, line), ErrorKind::Policy(describe(value)))),
        }
    }
    (comments, errors)
}

/// Returns the names of the peers in `text` in their order, one entry for each section; `None` for
/// a peer without a valid name.
pub(super) fn peer_names(text: &[u8]) -> Vec<Option<PeerName>> {
    let peers = blocks(text).into_iter().filter(|block| block.section == Section::Peer);
    peers
        .map(|block| {
            let range = block.comments.iter().find_map(|line| comment_value(text, line, NAME))?;
            str::from_utf8(text.get(range)?).ok()?.parse().ok()
        })
        .collect()
}

/// The comments of the peers' sections.
#[derive(Debug, Default)]
pub(super) struct PeerComments {
    /// The settings of each peer, in the order of the sections; `None` for a peer without any.
    pub(super) settings: Vec<Option<Box<PeerSettings>>>,
    /// The port forwards, with the sections and names of the peers.
    pub(super) forwards: Vec<(Range<usize>, PortForward, String)>,
    /// Errors, with their line numbers.
    pub(super) errors: Vec<(usize, ErrorKind)>,
    /// Warnings, with their line numbers.
    pub(super) notices: Vec<(usize, Notice)>,
}

/// Returns the settings that the comments of the peers contain.
pub(super) fn peer_comments(text: &[u8]) -> PeerComments {
    let mut comments = PeerComments::default();
    for block in blocks(text).iter().filter(|block| block.section == Section::Peer) {
        let mut settings = PeerSettings::NONE;
        let mut seen: Vec<(PeerComment, &Range<usize>)> = Vec::new();
        for line in &block.comments {
            let Some((name, value)) = comment(text, line) else { continue };
            let Some(key) = PeerComment::named(name) else {
                if name.eq_ignore_ascii_case(POLICY) {
                    comments.errors.push((line_number(text, line), ErrorKind::PolicyOfPeer));
                }
                if let Some(nearest) = PeerComment::nearest(name) {
                    let notice = Notice::SimilarComment { name: name.to_owned(), nearest };
                    comments.notices.push((line_number(text, line), notice));
                }
                continue;
            };
            let value = text.get(value).and_then(|value| str::from_utf8(value).ok()).unwrap_or_default();
            let earlier = seen.iter().find(|(other, _)| *other == key && !key.is_list());
            if let Some((_, first)) = earlier {
                let first = line_number(text, first);
                comments.errors.push((line_number(text, line), ErrorKind::RepeatedComment { key, first }));
            } else if let Err(error) = settings.set(key, value) {
                comments.errors.push((line_number(text, line), ErrorKind::Comment(error)));
            }
            seen.push((key, line));
        }
        // a line number costs a search of the whole text
        for forward in &settings.forwards {
            let name = block.comments.iter().find_map(|line| comment_value(text, line, NAME));
            let name = name.and_then(|name| str::from_utf8(text.get(name)?).ok());
            let peer = name.map_or_else(
                || format!("the peer at line {}", line_number(text, &block.bytes)),
                |name| name.escape_debug().to_string(),
            );
            match comments.forwards.iter().find(|(_, other, _)| other.is_same_port(forward)) {
                Some((_, _, other)) => {
                    let kind = ErrorKind::SameForward { forward: *forward, peer, other: other.clone() };
                    comments.errors.push((line_number(text, &block.bytes), kind));
                }
                None => comments.forwards.push((block.bytes.clone(), *forward, peer)),
            }
        }
        comments.settings.push((settings != PeerSettings::NONE).then(|| Box::new(settings)));
    }
    comments
}

/// Returns the number of the line that begins where `line` does, starting at 1.
pub(super) fn line_number(text: &[u8], line: &Range<usize>) -> usize {
    text.get(..line.start).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Returns the first line of a section that has the key `field`: its byte range, and that of its
/// value, without white space around it and a comment behind it.
pub(crate) fn key_line(text: &[u8], block: &Block, field: Field) -> Option<(Range<usize>, Range<usize>)> {
    key_lines(text, block, field).next()
}

/// Returns all lines of a section that have the key `field`, as [`key_line`] does.
pub(crate) fn key_lines(
    text: &[u8],
    block: &Block,
    field: Field,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut start = block.after_header;
    let body = text.get(block.after_header..block.bytes.end).unwrap_or_default();
    body.split_inclusive(|&byte| byte == b'\n').filter_map(move |line| {
        let range = start..start + line.len();
        start = range.end;
        let code = line.split(|&byte| byte == b'#').next()?;
        let equals = code.iter().position(|&byte| byte == b'=')?;
        let key = code.iter().take(equals).filter(|&&byte| !is_space(byte));
        let is_key =
            key.map(u8::to_ascii_lowercase).eq(field.name().bytes().map(|byte| byte.to_ascii_lowercase()));
        let value = code.get(equals + 1..).filter(|_| is_key)?;
        let first = value.iter().position(|&byte| !is_space(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|&byte| !is_space(byte)).map_or(first, |last| last + 1);
        let begin = range.start + equals + 1;
        Some((range, begin + first..begin + end))
    })
}

/// Returns the sections of `text` in their order. For a text that the parser accepts, these are the
/// sections that the parser finds.
pub(crate) fn blocks(text: &[u8]) -> Vec<Block> {
    let lines = lines(text);
    let headers: Vec<_> = lines
        .iter()
        .enumerate()
        .filter_map(|(index, line)| match line.kind {
            Kind::Header(section) => Some((index, section)),
            _ => None,
        })
        .collect();
    let begins: Vec<_> = headers.iter().map(|&(header, _)| first_comment_above(&lines, header)).collect();
    let ends = begins.iter().skip(1).copied().chain([lines.len()]);
    headers
        .iter()
        .zip(&begins)
        .zip(ends)
        .map(|((&(header, section), &begin), limit)| block(&lines, section, begin, header, limit))
        .collect()
}

fn block(lines: &[Line], section: Section, begin: usize, header: usize, limit: usize) -> Block {
    let own = lines.get(header..limit).unwrap_or_default();
    let is_body = |line: &Line| matches!(line.kind, Kind::Key | Kind::Header(_));
    let last = header + own.iter().rposition(is_body).unwrap_or_default();
    let below = lines.get(last + 1..limit).unwrap_or_default();
    let end = last + 1 + below.iter().take_while(|line| line.kind == Kind::Comment).count();
    let all = lines.get(begin..end).unwrap_or_default();
    let at = |line: Option<&Line>, edge: fn(&Range<usize>) -> usize| line.map_or(0, |line| edge(&line.bytes));
    Block {
        section,
        bytes: at(all.first(), |bytes| bytes.start)..at(all.last(), |bytes| bytes.end),
        after_header: at(lines.get(header), |bytes| bytes.end),
        comments: all
            .iter()
            .filter(|line| line.kind == Kind::Comment)
            .map(|line| line.bytes.clone())
            .collect(),
    }
}

fn first_comment_above(lines: &[Line], header: usize) -> usize {
    let above = lines.get(..header).unwrap_or_default();
    header - above.iter().rev().take_while(|line| line.kind == Kind::Comment).count()
}

fn lines(text: &[u8]) -> Vec<Line> {
    let mut start = 0;
    text.split_inclusive(|&byte| byte == b'\n')
        .map(|line| {
            let bytes = start..start + line.len();
            let kind =
                kind(if start == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line });
            start = bytes.end;
            Line { kind, bytes }
        })
        .collect()
}

fn kind(line: &[u8]) -> Kind {
    let (code, has_comment) = match line.iter().position(|&byte| byte == b'#') {
        Some(hash) => (line.get(..hash).unwrap_or_default(), true),
        None => (line, false),
    };
    let compact: Vec<u8> = code.iter().copied().filter(|&byte| !is_space(byte)).take(16).collect();
    if compact.is_empty() {
        if has_comment { Kind::Comment } else { Kind::Empty }
    } else if compact.eq_ignore_ascii_case(b"[interface]") {
        Kind::Header(Section::Interface)
    } else if compact.eq_ignore_ascii_case(b"[peer]") {
        Kind::Header(Section::Peer)
    } else {
        Kind::Key
    }
}

/// Returns true for white space as `wg` sees it.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Returns the byte range in `text` of the value of a comment `# KEY = VALUE`; `line` is the range
/// of the comment. Returns `None` if it has another key or is not UTF-8.
pub(crate) fn comment_value(text: &[u8], line: &Range<usize>, key: &str) -> Option<Range<usize>> {
    comment(text, line).filter(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

/// Returns the key of a comment `# KEY = VALUE`, and the byte range in `text` of its value.
pub(crate) fn comment<'a>(text: &'a [u8], line: &Range<usize>) -> Option<(&'a str, Range<usize>)> {
    let comment = str::from_utf8(text.get(line.clone())?).ok()?;
    let (before, value) = comment.split_once('=')?;
    let name =
        before.trim_start_matches('\u{feff}').trim_start().strip_prefix('#')?.trim_matches(['#', ' ', '\t']);
    let trimmed = value.trim_matches(|c: char| c.is_ascii() && u8::try_from(c).is_ok_and(is_space));
    let start = line.start + before.len() + 1 + value.find(trimmed)?;
    Some((name, start..start + trimmed.len()))
}

/// Returns the range to remove along with the section at `block` so that no double gap remains: the
/// empty line after it, or, for the last section, the empty line before it.
pub(crate) fn removal_range(text: &[u8], block: &Range<usize>) -> Range<usize> {
    let before = text.get(..block.start).unwrap_or_default();
    let behind = text.get(block.end..).unwrap_or_default();
    let next = behind.split_inclusive(|&byte| byte == b'\n').next();
    let last_line = before.split_inclusive(|&byte| byte == b'\n').next_back();
    match (last_line, next) {
        // the last section: remove the empty line before it
        (Some(gap), None) if kind(gap) == Kind::Empty => block.start - gap.len()..block.end,
        (_, Some(gap)) if kind(gap) == Kind::Empty => block.start..block.end + gap.len(),
        _ => block.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wg_quick::{Hooks, parse};
    use proptest::prelude::*;
    use std::path::Path;

    const FILE: &str = "\
# about the server
[Interface]
# ClientEndpoint = a:1
PrivateKey = x

# between

# Name = above
[Peer]
# Name = inside
PublicKey = y # [Peer]
# directly below

# TODO
";

    fn shown(text: &str) -> Vec<&str> {
        blocks(text.as_bytes()).into_iter().map(|block| &text[block.bytes]).collect()
    }

    #[test]
    fn the_port_of_clients_is_that_of_the_comment() {
        let read = |text: &str| server_comments(text.as_bytes()).0.client_port;
        let port = |comment: &str| read(&format!("[Interface]\n{comment}\nMTU = 1400\n[Peer]\n"));
        assert_eq!(port("# ClientEndpoint = vpn.example.com:443"), Some(443));
        assert_eq!(port("# ClientEndpoint = [2001:db8::1]:51821"), Some(51821));
        assert_eq!(port("# ClientEndpoint = 192.0.2.1"), Some(51820));
        assert_eq!(port("# ClientEndpoint = two words"), None);
        assert_eq!(port("ListenPort = 5"), None);
        assert_eq!(read("[Interface]\n\n[Peer]\n# ClientEndpoint = a:1\n"), None);
    }

    #[test]
    fn a_port_leads_to_one_peer() {
        let text = |port: &str, forwards: [&str; 2]| {
            let mut text =
                format!("[Interface]\nPrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n{port}\n");
            for (number, (name, forward)) in (1..).zip(["a", "b"].iter().zip(forwards)) {
                let key = wontun_proto::wireguard::PublicKey::from_bytes([number; 32]);
                text += &format!("[Peer]\n# Name = {name}\n# Forward = {forward}\nPublicKey = {key}\n");
            }
            parse(Path::new("x"), text.as_bytes(), Hooks::Refuse).map_err(|error| error.to_string())
        };
        assert!(text("ListenPort = 1", ["443/tcp, 443/udp", "80/tcp=443"]).is_ok());
        let same = text("", ["443/tcp", "80/tcp, 443/tcp=8443"]).unwrap_err();
        assert_eq!(same, "x:8: the comment Forward of b: 443/tcp=8443 leads to a already: remove one");
        let own = text("ListenPort = 51820", ["80/tcp", "51820/udp"]).unwrap_err();
        assert_eq!(own, "x:8: the comment Forward of b: 51820/udp is the ListenPort: choose another port");
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_an_error() {
        let read = |comment: &str| {
            server_comments(format!("[Interface]\n{comment}\nMTU = 1400\n[Peer]\n").as_bytes())
        };
        assert_eq!(read("# Policy = Internet-only").0.policy, Some(PeerPolicy::InternetOnly));
        assert_eq!(read("#policy=isolate").0.policy, Some(PeerPolicy::Isolate));
        assert_eq!(read("# Policies = isolate"), (ServerComments::default(), vec![]));
        let (comments, errors) = read("# Policy = closed");
        assert_eq!((comments.policy, errors[0].0), (None, 2));
        assert!(errors[0].1.to_string().contains("'closed', expected open"), "{}", errors[0].1);
        let elsewhere = peer_comments(b"[Interface]\nMTU = 1400\n# Policy = isolate\n[Peer]\n");
        assert_eq!(elsewhere.errors, [(3, ErrorKind::PolicyOfPeer)]);
        let dns = read("# ClientDNS = 9.9.9.9, 2620:fe::fe").0.dns;
        assert_eq!(dns, ["9.9.9.9".parse::<IpAddr>().unwrap(), "2620:fe::fe".parse().unwrap()]);
    }

    #[test]
    fn comments_belong_to_what_they_touch() {
        assert_eq!(
            shown(FILE),
            [
                "# about the server\n[Interface]\n# ClientEndpoint = a:1\nPrivateKey = x\n",
                "# Name = above\n[Peer]\n# Name = inside\nPublicKey = y # [Peer]\n# directly below\n"
            ]
        );
        assert_eq!(shown("[Peer]\na=b\n# c\n[Peer]\nd=e"), ["[Peer]\na=b\n", "# c\n[Peer]\nd=e"]);
        assert_eq!(shown("[Peer]\n[ pe er ] # x\n#y"), ["[Peer]\n", "[ pe er ] # x\n#y"]);
        assert_eq!(shown("\u{feff}[Interface]\r\n\r\n"), ["\u{feff}[Interface]\r\n"]);
        assert_eq!(shown(""), [""; 0]);
    }

    #[test]
    fn notes_are_read_as_people_write_them() {
        let value = |line: &str| {
            comment_value(line.as_bytes(), &(0..line.len()), "Name").map(|range| line[range].to_owned())
        };
        for line in ["# Name = a b\n", "#name=a b", "  ## NAME =\ta b \r\n", "\u{feff}# Name = a b"] {
            assert_eq!(value(line).as_deref(), Some("a b"), "{line:?}");
        }
        assert_eq!(value("# Name = a = b # c").as_deref(), Some("a = b # c"));
        assert_eq!(value("# Name =").as_deref(), Some(""));
        for line in ["# Names = a", "# The Name = a", "Name = a", "# Name: a", "# Name"] {
            assert_eq!(value(line), None, "{line:?}");
        }
        assert_eq!(comment_value(b"# Name = \xff", &(0..10), "Name"), None);
    }

    #[test]
    fn a_section_goes_with_one_empty_line() {
        let without = |text: &str, number: usize| {
            let block = blocks(text.as_bytes())[number].bytes.clone();
            let gone = removal_range(text.as_bytes(), &block);
            format!("{}{}", &text[..gone.start], &text[gone.end..])
        };
        assert_eq!(without("[Interface]\n\n[Peer]\na=b\n", 1), "[Interface]\n");
        assert_eq!(without("[Interface]\n\n[Peer]\na=b\n\n[Peer]\nc=d\n", 1), "[Interface]\n\n[Peer]\nc=d\n");
        assert_eq!(without("[Interface]\n[Peer]\na=b\n[Peer]\nc=d\n", 1), "[Interface]\n[Peer]\nc=d\n");
        assert_eq!(without("[Interface]\n\n[Peer]\na=b\n\n# TODO\n", 1), "[Interface]\n\n# TODO\n");
    }

    proptest! {
        #[test]
        fn blocks_are_in_order_and_within_the_text(text in "(\\[peer\\]|\\[Interface\\]|# Name = a|[ \tab=#\r\n])*") {
            let mut end = 0;
            for block in blocks(text.as_bytes()) {
                prop_assert!(end <= block.bytes.start && block.bytes.start < block.bytes.end);
                prop_assert!(block.bytes.contains(&(block.after_header - 1)));
                end = block.bytes.end;
                for comment in &block.comments {
                    prop_assert!(block.bytes.start <= comment.start && comment.end <= end);
                    if let Some(value) = comment_value(text.as_bytes(), comment, "Name") {
                        prop_assert!(comment.start < value.start && value.end <= comment.end);
                    }
                }
                let gone = removal_range(text.as_bytes(), &block.bytes);
                prop_assert!(gone.start <= block.bytes.start && gone.end >= end && gone.end <= text.len());
            }
            prop_assert!(end <= text.len());
        }

        /// The sections are those that the parser finds.
        #[test]
        fn the_parser_sees_the_same_sections(
            lines in proptest::collection::vec("\\[peer\\]|# x|#|| |[Pp]ersistentKeepalive = 1", 0..30)
        ) {
            let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
            let mut text = format!("[Interface]\nPrivateKey = {key}\n");
            let mut number = 0_u8;
            for line in lines {
                let in_peer = number > 0;
                if line == "[peer]" {
                    number += 1;
                    let public = wontun_proto::wireguard::PublicKey::from_bytes([number; 32]);
                    text += &format!("[peer]\nPublicKey = {public}\n");
                } else if in_peer && !text.ends_with("= 1\n") || !line.contains('=') {
                    text += &format!("{line}\n");
                }
            }
            if let Ok(parsed) = parse(Path::new("x"), text.as_bytes(), Hooks::Refuse) {
                let peers = blocks(text.as_bytes()).iter().filter(|block| block.section == Section::Peer).count();
                prop_assert_eq!(peers, parsed.configuration.peers.len());
            }
        }
    }
}
