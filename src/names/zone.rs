//! The peers' names, and answers about them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, NS, PTR, RData, SOA};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, ResourceRecord};

use super::message::Query;
use crate::config::ZoneName;
use wontun_proto::allowed_ips::Prefix;

/// Time to live of an answer about a peer, in seconds: a renamed peer is found after that.
const TTL: u32 = 30;
/// Types and classes of queries (RFC 1035, section 3.2; RFC 3596).
const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_SOA: u16 = 6;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
const V4_REVERSE: &str = ".in-addr.arpa";
const V6_REVERSE: &str = ".ip6.arpa";
/// Maximum length of a label in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// Returns the label for a peer's name: in lower case, with a dash for each run of other characters
/// than letters and digits of ASCII. `None` if nothing remains.
pub(super) fn label(name: &str) -> Option<String> {
    let mut label = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            label.push(letter.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(MAX_LABEL);
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// The names of a VPN.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: ZoneName,
    /// The server's own addresses, which the domain itself has.
    server: Vec<IpAddr>,
    /// Networks for whose addresses no other name server is asked.
    networks: Vec<Prefix>,
    /// Addresses by label.
    peers: HashMap<String, Vec<IpAddr>>,
    /// Labels by address.
    reverse: HashMap<IpAddr, String>,
}

/// The answer to a query.
#[derive(Debug, PartialEq, Eq)]
pub enum ZoneAnswer {
    /// The whole message.
    Message(Vec<u8>),
    /// Other name servers answer for the name.
    Forward,
}

impl Zone {
    /// Returns a zone without peers. `server` are the server's own addresses, `networks` those of
    /// the VPN.
    pub fn new(domain: ZoneName, server: Vec<IpAddr>, networks: Vec<Prefix>) -> Self {
        Self { domain, server, networks, peers: HashMap::new(), reverse: HashMap::new() }
    }

    /// Adds a peer. Returns false if another one has that label already, which keeps it.
    pub fn add(&mut self, label: String, addresses: Vec<IpAddr>) -> bool {
        if self.peers.contains_key(&label) {
            return false;
        }
        for address in &addresses {
            self.reverse.entry(*address).or_insert_with(|| label.clone());
        }
        self.peers.insert(label, addresses);
        true
    }

    /// Returns the server's own addresses.
    pub(super) fn server(&self) -> &[IpAddr] {
        &self.server
    }

    /// Returns true if the address may ask: it is one of the VPN's, or of this host's own.
    pub fn is_client(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.server.contains(&address)
            || self.reverse.contains_key(&address)
            || self.networks.iter().any(|network| network.contains(address))
    }

    /// Answers a query about the VPN's names and addresses.
    pub fn answer(&self, query: &Query) -> ZoneAnswer {
        let Some(name) = text(&query.name).filter(|_| matches!(query.class, CLASS_IN | CLASS_ANY)) else {
            return ZoneAnswer::Forward;
        };
        let domain = self.domain.as_str();
        if name == domain {
            return self.reply(query, &name, Some(Found::Addresses(&self.server)), domain);
        }
        if let Some(label) = name.strip_suffix(domain).and_then(|name| name.strip_suffix('.')) {
            let found = self.peers.get(label).map(|addresses| Found::Addresses(addresses));
            return self.reply(query, &name, found, domain);
        }
        match reversed(&name) {
            Some(address) if self.is_client(address) => {
                let found = match self.reverse.get(&address) {
                    Some(label) => Some(format!("{label}.{domain}")),
                    None => self.server.contains(&address).then(|| domain.to_owned()),
                };
                self.reply(query, &name, found.as_deref().map(Found::Name), &name)
            }
            _ => ZoneAnswer::Forward,
        }
    }

    /// Builds an answer with what was found for `name`; an answer without records has the
    /// beginning of the zone `apex`, which says how long that may be cached (RFC 2308).
    fn reply(&self, query: &Query, name: &str, found: Option<Found<'_>>, apex: &str) -> ZoneAnswer {
        let message = self.build(query, name, found, apex);
        message.map_or(ZoneAnswer::Forward, ZoneAnswer::Message)
    }

    fn build(&self, query: &Query, name: &str, found: Option<Found<'_>>, apex: &str) -> Option<Vec<u8>> {
        let mut packet = Packet::new_reply(query.id);
        packet.set_flags(
            PacketFlag::AUTHORITATIVE_ANSWER
                | PacketFlag::RECURSION_DESIRED
                | PacketFlag::RECURSION_AVAILABLE,
        );
        let (kind, class) = (query.kind.try_into().ok()?, query.class.try_into().ok()?);
        packet.questions.push(Question::new(Name::new(name).ok()?, kind, class, false));
        let mut answers = Vec::new();
        match &found {
            Some(Found::Addresses(addresses)) => {
                answers.extend(addresses.iter().filter_map(|address| match (address, query.kind) {
                    (IpAddr::V4(v4), TYPE_A | TYPE_ANY) => Some(RData::A(A { address: (*v4).into() })),
                    (IpAddr::V6(v6), TYPE_AAAA | TYPE_ANY) => {
                        Some(RData::AAAA(AAAA { address: (*v6).into() }))
                    }
                    _ => None,
                }));
            }
            Some(Found::Name(target)) if matches!(query.kind, TYPE_PTR | TYPE_ANY) => {
                answers.push(RData::PTR(PTR(Name::new(target).ok()?)));
            }
            Some(Found::Name(_)) => {}
            None => *packet.rcode_mut() = RCODE::NameError,
        }
        if name == apex && found.is_some() {
            match query.kind {
                TYPE_SOA => answers.push(soa(apex)?),
                TYPE_NS => answers.push(RData::NS(NS(Name::new(apex).ok()?))),
                _ => {}
            }
        }
        let record = |name, data| Some(ResourceRecord::new(Name::new(name).ok()?, CLASS::IN, TTL, data));
        if answers.is_empty() {
            packet.name_servers.push(record(apex, soa(apex)?)?);
        }
        for data in answers {
            packet.answers.push(record(name, data)?);
        }
        packet.build_bytes_vec_compressed().ok()
    }
}

/// The records of a name.
#[derive(Debug)]
enum Found<'a> {
    Addresses(&'a [IpAddr]),
    Name(&'a str),
}

fn soa(apex: &str) -> Option<RData<'_>> {
    let name = Name::new(apex).ok()?;
    Some(RData::SOA(SOA {
        mname: name.clone(),
        rname: name,
        serial: 1,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        minimum: TTL,
    }))
}

/// Returns a name in wire format as text without a dot at its end; `None` for the root, and for
/// labels that have other characters than names of hosts and services.
fn text(mut name: &[u8]) -> Option<String> {
    let mut text = String::new();
    while let Some((length, rest)) = name.split_first() {
        if *length == 0 {
            break;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = str::from_utf8(label).ok().filter(|label| label.as_bytes().iter().all(is_plain))?;
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
        name = rest;
    }
    (!text.is_empty()).then(|| text.to_ascii_lowercase())
}

/// Returns the address that a name of the reverse tree is about (RFC 1035, section 3.5; RFC 3596,
/// section 2.5).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(V4_REVERSE) {
        let parts: Vec<u8> = octets.rsplit('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        return <[u8; 4]>::try_from(parts).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let digits: Vec<u128> = name
        .strip_suffix(V6_REVERSE)?
        .rsplit('.')
        .map(|digit| u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1))
        .collect::<Option<_>>()?;
    let bits = digits.iter().fold(0, |bits: u128, digit| bits << 4 | digit);
    (digits.len() == 32).then(|| Ipv6Addr::from_bits(bits).into())
}
