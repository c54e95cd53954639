//! Parses the lines of a configuration.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};

use super::amnezia;
use super::error::{ErrorKind, Notice, Warning, WgQuickError, describe_name};
use super::field::{Field, Section};
use super::{Hooks, Interface, KeySource, Parsed, Peer, Table, WgQuick, outline, value};
use crate::config::invalid_value::describe;
use crate::config::peer_settings::{PortForward, Protocol};
use crate::config::{Cidr, PeerAddress};
use wontun_packet::ip;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Maximum number of errors that are kept.
const MAX_ERRORS: usize = 100;

/// Parses a configuration. `file` is the name for messages; no file is opened.
///
/// `text` contains secrets; the caller should wipe it when it is no longer needed.
///
/// # Errors
/// `WgQuickError` for the first invalid line.
pub fn parse(file: &Path, text: &[u8], hooks: Hooks) -> Result<Parsed, WgQuickError> {
    parse_all(file, text, hooks).map_err(|invalid| invalid.first)
}

/// Parses a configuration as [`parse`] does, and continues after an error.
///
/// # Errors
/// All errors that are no consequence of another one.
pub fn parse_all(file: &Path, text: &[u8], hooks: Hooks) -> Result<Parsed, Box<Invalid>> {
    let names = || outline::peer_names(text);
    let comments = outline::peer_comments(text);
    let (server, server_errors) = outline::server_comments(text);
    let whole = text;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut parser = Parser::new(hooks);
    for line in text.split(|&byte| byte == b'\n') {
        parser.line += 1;
        if let Err(kind) = parser.handle_line(line) {
            parser.report(parser.line, kind);
        }
    }
    let mut notices = std::mem::take(&mut parser.notices);
    match std::mem::take(&mut parser.amnezia).finish() {
        Ok(ignored) => notices.extend(ignored.map(|(line, ignored)| (line, Notice::AmneziaIgnored(ignored)))),
        Err((line, refused)) => parser.report(line, refused.into()),
    }
    notices.extend(comments.notices);
    comments.errors.into_iter().chain(server_errors).for_each(|(line, error)| parser.report(line, error));
    notices.sort_by_key(|(line, _)| *line);
    let warning = |(line, notice)| Warning { file: file.to_owned(), line, notice };
    let warnings = notices.into_iter().map(warning).collect();
    let key_files = parser.key_files();
    let (configuration, errors) = parser.finish();
    let error = |(line, kind)| WgQuickError { file: file.to_owned(), line, kind };
    let mut found = errors.found.into_iter().map(error);
    match (configuration, found.next()) {
        (Some(mut configuration), None) => {
            let peers = configuration.peers.iter_mut();
            for ((peer, name), settings) in peers.zip(names()).zip(comments.settings) {
                (peer.name, peer.settings) = (name, settings);
            }
            let own = configuration.interface.listen_port;
            let is_own =
                |forward: &PortForward| forward.protocol == Protocol::Udp && own == Some(forward.port);
            match comments.forwards.into_iter().find(|(_, forward, _)| is_own(forward)) {
                None => Ok(Parsed { configuration, warnings, server }),
                Some((section, forward, peer)) => Err(Box::new(Invalid {
                    first: error((
                        outline::line_number(whole, &section),
                        ErrorKind::ForwardOfTunnel { forward, peer },
                    )),
                    others: Vec::new(),
                    omitted: 0,
                    key_files,
                    warnings,
                })),
            }
        }
        (_, first) => {
            // a configuration that lacks something has an error
            let first = first.unwrap_or_else(|| error((0, ErrorKind::NoInterface)));
            Err(Box::new(Invalid {
                first,
                others: found.collect(),
                omitted: errors.omitted,
                key_files,
                warnings,
            }))
        }
    }
}

/// The errors of an invalid configuration, and what else is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The first error that was found.
    pub first: WgQuickError,
    /// The others, in the order in which they were found.
    pub others: Vec<WgQuickError>,
    /// Number of errors that were not kept.
    pub omitted: usize,
    /// The key files that it names.
    pub key_files: Vec<PathBuf>,
    /// Warnings for the user, by line.
    pub warnings: Vec<Warning>,
}

/// The errors found so far.
#[derive(Default)]
struct Errors {
    /// The errors with their line numbers, at most [`MAX_ERRORS`].
    found: Vec<(usize, ErrorKind)>,
    omitted: usize,
    /// The keys that an error is about, each with the line number of its section: that they are
    /// missing is a consequence.
    attempted: HashSet<(usize, Field)>,
    has_amnezia: bool,
    has_unknown_section: bool,
}

/// The section of the current line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Before the first section.
    Before,
    In(Section),
    /// Below an invalid header: the lines are not read.
    Skipped,
}

/// The `[Interface]` section during parsing.
#[derive(Default)]
struct InterfaceDraft {
    line: usize,
    private_key: Option<KeySource<PrivateKey>>,
    listen_port: Option<NonZeroU16>,
    fwmark: Option<NonZeroU32>,
    addresses: Vec<Cidr>,
    mtu: Option<u32>,
    mtu_line: usize,
    table: Table,
    dns: Vec<String>,
}

/// A `[Peer]` section during parsing.
#[derive(Default)]
struct PeerDraft {
    line: usize,
    public_key: Option<PublicKey>,
    preshared_key: Option<KeySource<PresharedKey>>,
    allowed_ips: Vec<Prefix>,
    endpoint: Option<PeerAddress>,
    persistent_keepalive: Option<NonZeroU16>,
}

struct Parser {
    hooks: Hooks,
    line: usize,
    amnezia: amnezia::AmneziaKeys,
    notices: Vec<(usize, Notice)>,
    errors: Errors,
    position: Position,
    /// Line number of the current section's header.
    section_line: usize,
    /// The keys found in the current section, with their line numbers.
    seen: Vec<(Field, usize)>,
    interface: Option<InterfaceDraft>,
    peers: Vec<PeerDraft>,
    /// Line numbers of the addresses, and of the sections of the public keys.
    addresses: HashMap<IpAddr, usize>,
    public_keys: HashMap<PublicKey, usize>,
    /// The allowed IPs, each with the index of its peer and its line number.
    allowed_ips: HashMap<Prefix, (usize, usize)>,
}

impl Parser {
    fn new(hooks: Hooks) -> Self {
        Self {
            hooks,
            line: 0,
            amnezia: amnezia::AmneziaKeys::default(),
            notices: Vec::new(),
            errors: Errors::default(),
            position: Position::Before,
            section_line: 0,
            seen: Vec::new(),
            interface: None,
            peers: Vec::new(),
            public_keys: HashMap::new(),
            addresses: HashMap::new(),
            allowed_ips: HashMap::new(),
        }
    }

    /// Adds an error, unless it repeats what another one says about the whole file.
    fn report(&mut self, line: usize, kind: ErrorKind) {
        let errors = &mut self.errors;
        if matches!(kind, ErrorKind::Amnezia(_)) && std::mem::replace(&mut errors.has_amnezia, true) {
            return;
        }
        errors.has_unknown_section |= matches!(kind, ErrorKind::UnknownSection(_));
        errors.attempted.extend(kind.field().map(|field| (self.section_line, field)));
        if errors.found.len() < MAX_ERRORS {
            errors.found.push((line, kind));
        } else {
            errors.omitted = errors.omitted.saturating_add(1);
        }
    }

    fn handle_line(&mut self, line: &[u8]) -> Result<(), ErrorKind> {
        // bytes up to here: comments may have any encoding
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| ErrorKind::NotText)?.trim_matches(value::is_space);
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('[') {
            return self.handle_section(line);
        }
        if self.position == Position::Skipped {
            return Ok(());
        }
        let Some((name, text)) = line.split_once('=') else {
            return Err(ErrorKind::NoValue(named_at_start(line)));
        };
        let Position::In(section) = self.position else {
            self.position = Position::Skipped;
            return Err(ErrorKind::NoSection);
        };
        let name = value::without_spaces(name);
        let text = text.trim_matches(value::is_space);
        let Some(field) = Field::named(&name) else {
            if self.amnezia.handle_key(&name, text, self.line)? {
                return Ok(());
            }
            return Err(match named_at_start(line) {
                // the '=' belongs to the value: PrivateKey aGVs…bG8=
                Some(field) => ErrorKind::NoValue(Some(field)),
                None => ErrorKind::UnknownKey {
                    name: describe_name(&name, text),
                    nearest: Field::nearest(&name, section),
                    section,
                },
            });
        };
        if field.section() != section {
            return Err(ErrorKind::Misplaced(field));
        }
        self.handle_seen(field)?;
        match section {
            Section::Interface => self.handle_interface(field, text),
            Section::Peer => self.handle_peer(field, text),
        }
    }

    fn handle_section(&mut self, line: &str) -> Result<(), ErrorKind> {
        let header = value::without_spaces(line);
        self.seen.clear();
        self.section_line = self.line;
        if header.eq_ignore_ascii_case("[Interface]") {
            self.position = Position::In(Section::Interface);
            if let Some(earlier) = &self.interface {
                self.section_line = earlier.line;
                return Err(ErrorKind::SecondInterface(earlier.line));
            }
            self.interface = Some(InterfaceDraft { line: self.line, ..InterfaceDraft::default() });
        } else if header.eq_ignore_ascii_case("[Peer]") {
            self.peers.push(PeerDraft { line: self.line, ..PeerDraft::default() });
            self.position = Position::In(Section::Peer);
        } else {
            self.position = Position::Skipped;
            return Err(ErrorKind::UnknownSection(describe(line)));
        }
        Ok(())
    }

    /// Rejects a key if its section already has it, or another key for the same value.
    fn handle_seen(&mut self, field: Field) -> Result<(), ErrorKind> {
        let other = match field {
            Field::Address | Field::Dns | Field::AllowedIps => return Ok(()),
            Field::PreUp | Field::PostUp | Field::PreDown | Field::PostDown => return Ok(()),
            Field::PrivateKey => Some(Field::PrivateKeyFile),
            Field::PrivateKeyFile => Some(Field::PrivateKey),
            Field::PresharedKey => Some(Field::PresharedKeyFile),
            Field::PresharedKeyFile => Some(Field::PresharedKey),
            _ => None,
        };
        for &(earlier, first) in &self.seen {
            if earlier == field {
                return Err(ErrorKind::Repeated { field, first });
            }
            if Some(earlier) == other {
                return Err(ErrorKind::Both { field, other: earlier, first });
            }
        }
        self.seen.push((field, self.line));
        Ok(())
    }

    fn handle_interface(&mut self, field: Field, text: &str) -> Result<(), ErrorKind> {
        let line = self.line;
        let Some(interface) = self.interface.as_mut() else { return Err(ErrorKind::NoSection) };
        match field {
            Field::PrivateKey => interface.private_key = Some(value::secret(field, text)?),
            Field::PrivateKeyFile => interface.private_key = Some(value::secret_file(field, text)?),
            Field::ListenPort => interface.listen_port = value::listen_port(text)?,
            Field::FwMark => interface.fwmark = value::fwmark(text)?,
            Field::Mtu => (interface.mtu, interface.mtu_line) = (value::mtu(text)?, line),
            Field::Table => interface.table = value::table(text)?,
            Field::Address => {
                let mut errors = Vec::new();
                for item in value::items(text) {
                    match value::address(item) {
                        Ok(cidr) => {
                            let address = cidr.address();
                            if let Some(first) = self.addresses.insert(address, line) {
                                errors.push(ErrorKind::SameAddress { address, first });
                            }
                            interface.addresses.push(cidr);
                        }
                        Err(error) => errors.push(error),
                    }
                }
                errors.into_iter().for_each(|error| self.report(line, error));
            }
            Field::Dns => {
                interface.dns.extend(value::items(text).map(str::to_owned));
            }
            Field::PreUp | Field::PostUp | Field::PreDown | Field::PostDown => {
                self.handle_hook(field, ErrorKind::Hook(field))?;
            }
            // false is the behaviour of wontun anyway
            Field::SaveConfig if value::save_config(text)? => {
                self.handle_hook(field, ErrorKind::SaveConfig)?;
            }
            Field::SaveConfig => {}
            _ => return Err(ErrorKind::Misplaced(field)),
        }
        Ok(())
    }

    fn handle_hook(&mut self, field: Field, kind: ErrorKind) -> Result<(), ErrorKind> {
        match self.hooks {
            Hooks::Refuse => Err(kind),
            Hooks::Ignore => {
                self.notices.push((self.line, Notice::HookIgnored(field)));
                Ok(())
            }
        }
    }

    fn handle_peer(&mut self, field: Field, text: &str) -> Result<(), ErrorKind> {
        let line = self.line;
        let number = self.peers.len();
        let Some(peer) = self.peers.last_mut() else { return Err(ErrorKind::NoSection) };
        match field {
            Field::PublicKey => {
                let key = value::public_key(text)?;
                if let Some(first) = self.public_keys.insert(key, peer.line) {
                    return Err(ErrorKind::SamePeer(first));
                }
                peer.public_key = Some(key);
            }
            Field::PresharedKey => peer.preshared_key = Some(value::secret::<PresharedKey>(field, text)?),
            Field::PresharedKeyFile => peer.preshared_key = Some(value::secret_file(field, text)?),
            Field::Endpoint => peer.endpoint = Some(value::endpoint(text)?),
            Field::PersistentKeepalive => peer.persistent_keepalive = value::persistent_keepalive(text)?,
            Field::AllowedIps => {
                let mut errors = Vec::new();
                for item in value::without_spaces(text).split(',') {
                    let (given, taken) = match value::allowed_ip(item) {
                        Ok(networks) => networks,
                        Err(error) => {
                            errors.push(error);
                            continue;
                        }
                    };
                    if given.address() != taken.network() {
                        self.notices.push((line, Notice::HostBits { given, taken }));
                    }
                    match self.allowed_ips.insert(taken, (number, line)) {
                        Some((owner, _)) if owner == number => continue,
                        Some((_, first)) => {
                            self.notices.push((line, Notice::Reassigned { prefix: taken, first }));
                        }
                        None => {}
                    }
                    peer.allowed_ips.push(taken);
                }
                errors.into_iter().for_each(|error| self.report(line, error));
            }
            _ => return Err(ErrorKind::Misplaced(field)),
        }
        Ok(())
    }

    /// Returns the key files that the configuration names.
    fn key_files(&self) -> Vec<PathBuf> {
        fn file<K>(source: Option<&KeySource<K>>) -> Option<PathBuf> {
            match source? {
                KeySource::File(path) => Some(path.clone()),
                KeySource::Inline(_) => None,
            }
        }
        let private = self.interface.as_ref().and_then(|draft| file(draft.private_key.as_ref()));
        let preshared = self.peers.iter().filter_map(|draft| file(draft.preshared_key.as_ref()));
        private.into_iter().chain(preshared).collect()
    }

    /// Returns the configuration if it lacks nothing, and all errors.
    fn finish(mut self) -> (Option<WgQuick>, Errors) {
        let Some(draft) = self.interface.take() else {
            if !self.errors.has_unknown_section {
                self.report(self.line, ErrorKind::NoInterface);
            }
            return (None, self.errors);
        };
        let has_ipv6 = draft.addresses.iter().any(|cidr| cidr.address().is_ipv6());
        if let Some(mtu) = draft.mtu.filter(|&mtu| has_ipv6 && mtu < ip::IPV6_MIN_MTU) {
            self.report(draft.mtu_line, ErrorKind::MtuTooSmallForIpv6(mtu));
        }
        let mut missing = Vec::new();
        if draft.private_key.is_none() {
            missing.push((draft.line, Field::PrivateKey));
        }
        let without_key = self.peers.iter().filter(|peer| peer.public_key.is_none());
        missing.extend(without_key.map(|peer| (peer.line, Field::PublicKey)));
        for (line, field) in missing {
            let alternative = if field == Field::PrivateKey { Field::PrivateKeyFile } else { field };
            let is_consequence =
                [field, alternative].iter().any(|field| self.errors.attempted.contains(&(line, *field)));
            if !is_consequence {
                self.report(line, ErrorKind::Missing(field));
            }
        }
        let peers = self.peers.into_iter().map(PeerDraft::finish).collect::<Option<_>>();
        (draft.finish().zip(peers).map(|(interface, peers)| WgQuick { interface, peers }), self.errors)
    }
}

impl InterfaceDraft {
    /// Returns the section, or `None` without a private key.
    fn finish(self) -> Option<Interface> {
        Some(Interface {
            private_key: self.private_key?,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            addresses: self.addresses,
            mtu: self.mtu,
            table: self.table,
            dns: self.dns,
        })
    }
}

impl PeerDraft {
    /// Returns the section, without its name and settings, or `None` without a public key.
    fn finish(self) -> Option<Peer> {
        Some(Peer {
            name: None,
            public_key: self.public_key?,
            preshared_key: self.preshared_key,
            allowed_ips: self.allowed_ips,
            endpoint: self.endpoint,
            persistent_keepalive: self.persistent_keepalive,
            settings: None,
        })
    }
}

/// Returns the key at the beginning of a line, if white space follows it.
fn named_at_start(line: &str) -> Option<Field> {
    let (name, _) = line.split_once(value::is_space)?;
    Field::named(name)
}
