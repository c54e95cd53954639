//! Parses the lines of a configuration.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;

use super::amnezia;
use super::error::{ErrorKind, Notice, Warning, WgQuickError, describe, describe_name};
use super::field::{Field, Section};
use super::{Hooks, Interface, KeySource, Parsed, Peer, Table, WgQuick, outline, value};
use crate::config::{Cidr, PeerAddress};
use wontun_packet::ip;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a configuration. `file` is the name for messages; no file is opened.
///
/// `text` contains secrets; the caller should wipe it when it is no longer needed.
///
/// # Errors
/// `WgQuickError` for the first invalid line.
pub fn parse(file: &Path, text: &[u8], hooks: Hooks) -> Result<Parsed, WgQuickError> {
    let names = || outline::peer_names(text);
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut parser = Parser::new(hooks);
    let mut result = Ok(());
    for line in text.split(|&byte| byte == b'\n') {
        parser.line += 1;
        result = parser.handle_line(line).map_err(|kind| (parser.line, kind));
        if result.is_err() {
            break;
        }
    }
    let mut notices = std::mem::take(&mut parser.notices);
    let amnezia = std::mem::take(&mut parser.amnezia);
    let result = result.and_then(|()| {
        let ignored = amnezia.finish().map_err(|(line, refused)| (line, ErrorKind::from(refused)))?;
        notices.extend(ignored.map(|(line, ignored)| (line, Notice::AmneziaIgnored(ignored))));
        notices.sort_by_key(|(line, _)| *line);
        parser.finish()
    });
    match result {
        Ok(mut configuration) => {
            configuration.peers.iter_mut().zip(names()).for_each(|(peer, name)| peer.name = name);
            let warning = |(line, notice)| Warning { file: file.to_owned(), line, notice };
            Ok(Parsed { configuration, warnings: notices.into_iter().map(warning).collect() })
        }
        Err((line, kind)) => Err(WgQuickError { file: file.to_owned(), line, kind }),
    }
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
    section: Option<Section>,
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
            section: None,
            seen: Vec::new(),
            interface: None,
            peers: Vec::new(),
            public_keys: HashMap::new(),
            addresses: HashMap::new(),
            allowed_ips: HashMap::new(),
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
        let Some((name, text)) = line.split_once('=') else {
            return Err(ErrorKind::NoValue(named_at_start(line)));
        };
        let section = self.section.ok_or(ErrorKind::NoSection)?;
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
        if header.eq_ignore_ascii_case("[Interface]") {
            if let Some(earlier) = &self.interface {
                return Err(ErrorKind::SecondInterface(earlier.line));
            }
            self.interface = Some(InterfaceDraft { line: self.line, ..InterfaceDraft::default() });
            self.section = Some(Section::Interface);
        } else if header.eq_ignore_ascii_case("[Peer]") {
            self.peers.push(PeerDraft { line: self.line, ..PeerDraft::default() });
            self.section = Some(Section::Peer);
        } else {
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
                for item in value::items(text) {
                    let cidr = value::address(item)?;
                    let address = cidr.address();
                    if let Some(first) = self.addresses.insert(address, line) {
                        return Err(ErrorKind::SameAddress { address, first });
                    }
                    interface.addresses.push(cidr);
                }
            }
            Field::Dns => {
                let before = interface.dns.len();
                interface.dns.extend(value::items(text).map(str::to_owned));
                if before == 0 && !interface.dns.is_empty() {
                    self.notices.push((line, Notice::DnsIgnored));
                }
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
                for item in value::without_spaces(text).split(',') {
                    let (given, taken) = value::allowed_ip(item)?;
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
            }
            _ => return Err(ErrorKind::Misplaced(field)),
        }
        Ok(())
    }

    /// Returns the configuration.
    ///
    /// # Errors
    /// The line and `ErrorKind` for the first missing or contradictory key.
    fn finish(self) -> Result<WgQuick, (usize, ErrorKind)> {
        let Some(draft) = self.interface else { return Err((self.line, ErrorKind::NoInterface)) };
        let has_ipv6 = draft.addresses.iter().any(|cidr| cidr.address().is_ipv6());
        if let Some(mtu) = draft.mtu.filter(|&mtu| has_ipv6 && mtu < ip::IPV6_MIN_MTU) {
            return Err((draft.mtu_line, ErrorKind::MtuTooSmallForIpv6(mtu)));
        }
        let interface = Interface {
            private_key: draft.private_key.ok_or((draft.line, ErrorKind::Missing(Field::PrivateKey)))?,
            listen_port: draft.listen_port,
            fwmark: draft.fwmark,
            addresses: draft.addresses,
            mtu: draft.mtu,
            table: draft.table,
            dns: draft.dns,
        };
        let peer = |draft: PeerDraft| {
            Ok(Peer {
                name: None,
                public_key: draft.public_key.ok_or((draft.line, ErrorKind::Missing(Field::PublicKey)))?,
                preshared_key: draft.preshared_key,
                allowed_ips: draft.allowed_ips,
                endpoint: draft.endpoint,
                persistent_keepalive: draft.persistent_keepalive,
            })
        };
        let peers = self.peers.into_iter().map(peer).collect::<Result<_, _>>()?;
        Ok(WgQuick { interface, peers })
    }
}

/// Returns the key at the beginning of a line, if white space follows it.
fn named_at_start(line: &str) -> Option<Field> {
    let (name, _) = line.split_once(value::is_space)?;
    Field::named(name)
}
