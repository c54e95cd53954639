//! The file of a server: parsing, and editing in range.

mod rules;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::endpoint::ClientEndpoint;
use super::error::ServerError;
use crate::config::invalid_value::{describe, may_be_secret};
use crate::config::peer_settings::{PeerComment, PeerSettings};
use crate::config::wg_quick;
use crate::config::wg_quick::outline::{self, Block, DNS, DOMAIN, ENDPOINT, NAME, POLICY};
use crate::config::wg_quick::{
    Field, Hooks, Interface, KeySource, LoadError, Peer, PresharedKey, PublicKey, Section, WgQuick,
    read_secret, read_text,
};
use crate::config::{ClientDns, PeerName, PeerPolicy, ZoneName, ZoneOption};
use crate::uapi::SecretText;
use wontun_proto::allowed_ips::Prefix;

/// The file of a server. Each edit returns a new value, whose text differs only in the changed
/// bytes. The edited text is parsed again and compared with the expected configuration.
#[derive(Clone, Debug)]
pub struct ServerFile {
    path: PathBuf,
    text: SecretBytes,
    configuration: WgQuick,
    blocks: Vec<Block>,
    public_key: PublicKey,
}

/// A peer in the file.
#[derive(Clone, Debug)]
pub struct ServerPeer<'a> {
    /// Name of the peer, if it has one.
    pub name: Option<PeerName>,
    /// The section of the peer.
    pub peer: &'a Peer,
}

/// A part of the text.
struct SecretLine(Zeroizing<String>);

impl AsRef<[u8]> for SecretLine {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The text of the file.
#[derive(Clone)]
struct SecretBytes(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({})", self.0.len())
    }
}

impl ServerFile {
    /// Reads the file at `path`. Ignores hooks in it, which belong to other programs.
    ///
    /// # Errors
    /// `ServerError` if the file does not exist, may not be read, or contains an error.
    pub fn read(path: &Path) -> Result<Self, ServerError> {
        let text = read_text(path).map_err(|error| match error {
            LoadError::Read { file, source } if source.kind() == io::ErrorKind::NotFound => {
                ServerError::NoFile(file)
            }
            LoadError::Read { file, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                ServerError::NotPermitted { what: "read", path: file }
            }
            other => other.into(),
        })?;
        Self::parse(path, text)
    }

    /// Parses `text`, the present or future content of the file at `path`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn parse(path: &Path, text: Zeroizing<Vec<u8>>) -> Result<Self, ServerError> {
        let configuration =
            wg_quick::parse(path, &text, Hooks::Ignore).map_err(LoadError::from)?.configuration;
        let public_key = read_secret(path, &configuration.interface.private_key)?.public_key();
        let blocks = outline::blocks(&text);
        let peers = blocks.iter().filter(|block| block.section == Section::Peer).count();
        if peers != configuration.peers.len() {
            return Err(ServerError::Edit(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), text: SecretBytes(text), configuration, blocks, public_key })
    }

    /// Creates the file of a new server in memory.
    ///
    /// # Errors
    /// `ServerError::Edit`, which would be a bug.
    pub fn new(path: &Path, interface: Interface) -> Result<Self, ServerError> {
        let mut text = SecretText::default();
        text.push(
            b"# Made by 'wontun init'; wg-quick reads this file too. 'wontun peer add NAME' adds a client.\n",
        );
        text.push(b"# Edit it as you like: wontun keeps what it does not know.\n");
        text.push(WgQuick { interface, peers: Vec::new() }.to_text().as_bytes());
        Self::parse(path, text.into_inner())
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text of the file. It contains secrets.
    pub fn text(&self) -> &[u8] {
        &self.text.0
    }

    /// Returns the configuration. Keys in files of their own are not read into it.
    pub const fn configuration(&self) -> &WgQuick {
        &self.configuration
    }

    /// Returns the server's public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the peers in the order of the file.
    pub fn peers(&self) -> impl Iterator<Item = ServerPeer<'_>> {
        self.configuration.peers.iter().map(|peer| ServerPeer { name: peer.name.clone(), peer })
    }

    /// Returns the peer with this index, in the order of the file.
    pub fn peer(&self, number: usize) -> Option<ServerPeer<'_>> {
        let peer = self.configuration.peers.get(number)?;
        Some(ServerPeer { name: peer.name.clone(), peer })
    }

    /// Returns the index, in the order of the file, of the peer with this name or public key.
    ///
    /// # Errors
    /// `ServerError::UnknownPeer` if there is none, `ServerError::Ambiguous` if several peers have
    /// that name.
    pub fn find(&self, wanted: &str) -> Result<usize, ServerError> {
        let is_match = |peer: &ServerPeer<'_>| {
            peer.name.as_ref().is_some_and(|name| name.as_str() == wanted)
                || peer.peer.public_key.to_string() == wanted
        };
        let found: Vec<_> = self.peers().enumerate().filter(|(_, peer)| is_match(peer)).collect();
        match found[..] {
            [(number, _)] => Ok(number),
            [] => Err(ServerError::UnknownPeer {
                wanted: wanted.to_owned(),
                known: self.peers().map(|peer| peer.name_or_key()).collect(),
            }),
            _ => Err(ServerError::Ambiguous {
                wanted: wanted.to_owned(),
                keys: found.iter().map(|(_, peer)| peer.peer.public_key).collect(),
            }),
        }
    }

    /// Returns the address that clients connect to, if the file contains it.
    ///
    /// # Errors
    /// `ServerError::InvalidComment` if the value is not an endpoint.
    pub fn endpoint(&self) -> Result<Option<ClientEndpoint>, ServerError> {
        self.interface_comment(ENDPOINT)
    }

    /// Returns the name servers of the clients, if the file contains them, or else the server's own
    /// addresses if it answers for the peers' names.
    ///
    /// # Errors
    /// `ServerError::InvalidComment` if a value is not a list of addresses, or not a domain.
    pub fn client_dns(&self) -> Result<Option<ClientDns>, ServerError> {
        if let Some(dns) = self.dns()? {
            return Ok(Some(dns));
        }
        let addresses = self.configuration.interface.addresses.iter().map(|cidr| cidr.address());
        Ok(self.zone()?.map(|_| addresses.collect()))
    }

    /// Returns the name servers of the clients, if the file contains them.
    ///
    /// # Errors
    /// `ServerError::InvalidComment` if the value is not a list of addresses.
    pub fn dns(&self) -> Result<Option<ClientDns>, ServerError> {
        self.interface_comment(DNS)
    }

    /// Returns the domain of the peers' names, if the file contains one.
    ///
    /// # Errors
    /// `ServerError::InvalidComment` if the value is not a domain.
    pub fn zone(&self) -> Result<Option<ZoneName>, ServerError> {
        let found: Option<ZoneOption> = self.interface_comment(DOMAIN)?;
        Ok(found.and_then(ZoneOption::into_zone))
    }

    /// Replaces the domain of the peers' names.
    ///
    /// # Errors
    /// `ServerError::Edit`.
    pub fn with_zone(&self, zone: &ZoneOption) -> Result<Self, ServerError> {
        self.with_interface_comment(DOMAIN, &zone.to_string())
    }

    /// Returns the policy for peers without rules, if the file contains it.
    ///
    /// # Errors
    /// `ServerError::InvalidComment`.
    pub(crate) fn policy(&self) -> Result<Option<PeerPolicy>, ServerError> {
        self.interface_comment(POLICY)
    }

    /// Replaces the policy for peers without rules.
    ///
    /// # Errors
    /// `ServerError::Edit`.
    pub(crate) fn with_policy(&self, policy: PeerPolicy) -> Result<Self, ServerError> {
        self.with_interface_comment(POLICY, &policy.to_string())
    }

    /// Replaces the endpoint for clients.
    ///
    /// # Errors
    /// `ServerError::Edit`.
    pub fn with_endpoint(&self, endpoint: &ClientEndpoint) -> Result<Self, ServerError> {
        self.with_interface_comment(ENDPOINT, &endpoint.to_string())
    }

    /// Replaces the name servers of the clients.
    ///
    /// # Errors
    /// `ServerError::Edit`.
    pub fn with_dns(&self, dns: &ClientDns) -> Result<Self, ServerError> {
        self.with_interface_comment(DNS, &dns.to_string())
    }

    /// Appends peers.
    ///
    /// # Errors
    /// `ServerError::Edit`.
    pub fn with_peers<'a>(&self, peers: impl Iterator<Item = &'a Peer>) -> Result<Self, ServerError> {
        let mut sections = SecretText::default();
        let end = self.line_end();
        if !self.text().ends_with(b"\n") {
            sections.push(end.as_bytes());
        }
        let mut expected = self.configuration.clone();
        for peer in peers {
            for line in peer.to_text().lines() {
                sections.push(line.as_bytes());
                sections.push(end.as_bytes());
            }
            expected.peers.push(peer.clone());
        }
        self.edited(self.text().len()..self.text().len(), sections.as_bytes(), &expected)
    }

    /// Removes the peer with this index.
    ///
    /// # Errors
    /// `ServerError::Edit`, also if there is no such peer.
    pub fn without_peer(&self, number: usize) -> Result<Self, ServerError> {
        let mut expected = self.configuration.clone();
        let block = self.peer_blocks().nth(number).filter(|_| number < expected.peers.len());
        let block = block.ok_or_else(|| self.edit_error())?;
        expected.peers.remove(number);
        self.edited(outline::removal_range(self.text(), &block.bytes), b"", &expected)
    }

    /// Renames the peer with this index.
    ///
    /// # Errors
    /// `ServerError::Edit`, also if there is no such peer.
    pub fn with_name(&self, number: usize, name: &PeerName) -> Result<Self, ServerError> {
        let block = self.peer_blocks().nth(number).ok_or_else(|| self.edit_error())?;
        let mut expected = self.configuration.clone();
        expected.peers.get_mut(number).ok_or_else(|| self.edit_error())?.name = Some(name.clone());
        self.with_comment(block, NAME, name.as_str(), &expected)
    }

    /// Replaces the keys of the peer with this index. Everything else of its section is kept, in
    /// its place.
    ///
    /// # Errors
    /// `ServerError::Edit`, also if there is no such peer.
    pub fn with_keys(
        &self,
        number: usize,
        public_key: PublicKey,
        preshared_key: &PresharedKey,
    ) -> Result<Self, ServerError> {
        let mut expected = self.configuration.clone();
        let peer = expected.peers.get_mut(number).ok_or_else(|| self.edit_error())?;
        peer.public_key = public_key;
        peer.preshared_key = Some(KeySource::Inline(preshared_key.clone()));
        let block = self.peer_blocks().nth(number).ok_or_else(|| self.edit_error())?;
        let line_of = |field| outline::key_line(self.text(), block, field);
        let (public_line, public_range) = line_of(Field::PublicKey).ok_or_else(|| self.edit_error())?;
        let preshared = preshared_key.to_base64();
        let line = Zeroizing::new(format!("{} = {}", Field::PresharedKey, *preshared));
        let edit = match (line_of(Field::PresharedKey), line_of(Field::PresharedKeyFile)) {
            (Some((_, value)), _) => (value, Zeroizing::new(preshared.to_string())),
            // a key in a file of its own is another
            (None, Some((whole, value))) => (whole.start..value.end, line),
            (None, None) => (public_line.end..public_line.end, self.line_at(public_line.end, &line)),
        };
        let public = (public_range, Zeroizing::new(public_key.to_string()));
        let edits = [public, edit].map(|(range, text)| (range, SecretLine(text)));
        self.edited_all(edits.into(), &expected)
    }

    /// Replaces the allowed IPs of the peer with this index, in their first line.
    ///
    /// # Errors
    /// `ServerError::Edit`, also if there is no such peer.
    pub fn with_allowed_ips(&self, number: usize, allowed_ips: &[Prefix]) -> Result<Self, ServerError> {
        let mut expected = self.configuration.clone();
        let peer = expected.peers.get_mut(number).ok_or_else(|| self.edit_error())?;
        peer.allowed_ips = allowed_ips.to_vec();
        let block = self.peer_blocks().nth(number).ok_or_else(|| self.edit_error())?;
        let value = allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut lines = outline::key_lines(self.text(), block, Field::AllowedIps);
        let mut edits = Vec::new();
        match lines.next() {
            Some((_, range)) => {
                edits.push((range, SecretLine(Zeroizing::new(value))));
                edits.extend(lines.map(|(line, _)| (line, SecretLine(Zeroizing::default()))));
            }
            None => {
                let (line, _) = outline::key_line(self.text(), block, Field::PublicKey)
                    .ok_or_else(|| self.edit_error())?;
                let new = self.line_at(line.end, &format!("{} = {value}", Field::AllowedIps));
                edits.push((line.end..line.end, SecretLine(new)));
            }
        }
        self.edited_all(edits, &expected)
    }

    /// Replaces the settings of the peer with this index. Each comment that changes is replaced in
    /// its first line; a new one is inserted below the peer's name.
    ///
    /// # Errors
    /// `ServerError::Edit`, also if there is no such peer.
    pub fn with_settings(&self, number: usize, settings: &PeerSettings) -> Result<Self, ServerError> {
        let mut expected = self.configuration.clone();
        let peer = expected.peers.get_mut(number).ok_or_else(|| self.edit_error())?;
        let before = peer.settings.take().unwrap_or_default();
        peer.settings = (*settings != PeerSettings::NONE).then(|| Box::new(settings.clone()));
        let block = self.peer_blocks().nth(number).ok_or_else(|| self.edit_error())?;
        let end = self.line_end();
        let name =
            block.comments.iter().find(|line| outline::comment_value(self.text(), line, NAME).is_some());
        // below the header, if the name is above it
        let new = name.map_or(block.after_header, |line| line.end.max(block.after_header));
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for key in PeerComment::ALL {
            let value = settings.get(key);
            if value == before.get(key) {
                continue;
            }
            let is_key =
                |line: &&Range<usize>| outline::comment_value(self.text(), line, key.name()).is_some();
            let mut lines = block.comments.iter().filter(is_key).cloned();
            let range = lines.next().unwrap_or(new..new);
            let is_below_text = self.text().get(..range.start).is_some_and(|text| text.ends_with(b"\n"));
            let begin = if is_below_text { "" } else { end };
            let line = value.map(|value| format!("{begin}# {key} = {value}{end}")).unwrap_or_default();
            edits.push((range, line));
            edits.extend(lines.map(|line| (line, String::new())));
        }
        self.edited_all(edits, &expected)
    }

    /// Returns `line` as it is inserted at `place`, the end of another line.
    fn line_at(&self, place: usize, line: &str) -> Zeroizing<String> {
        let end = self.line_end();
        let is_ended = self.text().get(..place).is_some_and(|text| text.ends_with(b"\n"));
        Zeroizing::new(if is_ended { format!("{line}{end}") } else { format!("{end}{line}") })
    }

    fn peer_blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| block.section == Section::Peer)
    }

    fn interface_block(&self) -> Option<&Block> {
        self.blocks.iter().find(|block| block.section == Section::Interface)
    }

    /// Returns the range of the value of a comment in a section.
    fn comment_value(&self, block: &Block, key: &str) -> Option<Range<usize>> {
        block.comments.iter().find_map(|line| outline::comment_value(self.text(), line, key))
    }

    fn interface_comment<T>(&self, key: &'static str) -> Result<Option<T>, ServerError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let Some(range) = self.interface_block().and_then(|block| self.comment_value(block, key)) else {
            return Ok(None);
        };
        let value = self.slice(&range);
        let wrong = |error: T::Err| ServerError::InvalidComment {
            path: self.path.clone(),
            key,
            error: if may_be_secret(value) {
                format!("found {}", describe(value))
            } else {
                error.to_string()
            },
        };
        value.parse().map(Some).map_err(wrong)
    }

    fn with_interface_comment(&self, key: &str, value: &str) -> Result<Self, ServerError> {
        let block = self.interface_block().ok_or_else(|| self.edit_error())?;
        self.with_comment(block, key, value, &self.configuration)
    }

    /// Replaces the value of a comment. A missing comment is inserted below the header.
    fn with_comment(
        &self,
        block: &Block,
        key: &str,
        value: &str,
        expected: &WgQuick,
    ) -> Result<Self, ServerError> {
        if let Some(range) = self.comment_value(block, key) {
            // an empty value may have no space before it
            let space =
                if range.is_empty() && !self.text().get(..range.start).unwrap_or_default().ends_with(b" ") {
                    " "
                } else {
                    ""
                };
            return self.edited(range, format!("{space}{value}").as_bytes(), expected);
        }
        let range = block.after_header..block.after_header;
        let end = self.line_end();
        let begin =
            if self.text().get(..range.start).unwrap_or_default().ends_with(b"\n") { "" } else { end };
        self.edited(range, format!("{begin}# {key} = {value}{end}").as_bytes(), expected)
    }

    /// Replaces the bytes in the range `range` by `new`.
    ///
    /// # Errors
    /// `ServerError::Edit` if the result does not parse to the expected configuration.
    fn edited(&self, range: Range<usize>, new: &[u8], expected: &WgQuick) -> Result<Self, ServerError> {
        self.edited_all(vec![(range, new)], expected)
    }

    /// Replaces bytes in several ranges, which do not overlap; what is inserted at one place stays
    /// in its order.
    ///
    /// # Errors
    /// As [`Self::edited`].
    fn edited_all(
        &self,
        mut edits: Vec<(Range<usize>, impl AsRef<[u8]>)>,
        expected: &WgQuick,
    ) -> Result<Self, ServerError> {
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        let new: usize = edits.iter().map(|(_, new)| new.as_ref().len()).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(self.text().len() + new));
        let mut done = 0;
        for (range, new) in &edits {
            text.extend_from_slice(self.text().get(done..range.start).unwrap_or_default());
            text.extend_from_slice(new.as_ref());
            done = range.end;
        }
        text.extend_from_slice(self.text().get(done..).unwrap_or_default());
        let edited = Self::parse(&self.path, text).map_err(|_| self.edit_error())?;
        if edited.configuration == *expected { Ok(edited) } else { Err(self.edit_error()) }
    }

    fn edit_error(&self) -> ServerError {
        ServerError::Edit(self.path.clone())
    }

    /// Returns a range of the text that is known to be UTF-8.
    fn slice(&self, range: &Range<usize>) -> &str {
        self.text().get(range.clone()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Returns the line end of this file.
    fn line_end(&self) -> &'static str {
        let first = self.text().split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        if first.ends_with(b"\r\n") { "\r\n" } else { "\n" }
    }
}

impl ServerPeer<'_> {
    /// Returns the name of the peer, or its public key if it has none.
    pub fn name_or_key(&self) -> String {
        self.name.as_ref().map_or_else(|| self.peer.public_key.to_string(), ToString::to_string)
    }
}

#[cfg(test)]
mod tests;
