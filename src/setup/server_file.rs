//! A server's file: read, understood, and edited in place.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::dns::ClientDns;
use super::endpoint::ClientEndpoint;
use super::error::SetupError;
use super::new_peer::NewPeer;
use crate::config::PeerName;
use crate::config::wg_quick::outline::{self, Block, NAME};
use crate::config::wg_quick::{
    Field, Hooks, Interface, KeySource, LoadError, Peer, PublicKey, Section, WgQuick, parse, private_key,
    read_text,
};
use crate::control::uapi::SecretText;

const ENDPOINT: &str = "ClientEndpoint";
const DNS: &str = "ClientDNS";

/// A server's file. Everything that changes it gives a new one, whose text has every byte of the old one but those that
/// had to change, and which was read again: it says what it should.
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
    /// What it is called, if it has a name.
    pub name: Option<PeerName>,
    /// What the file says of it.
    pub peer: &'a Peer,
}

/// The file's text.
#[derive(Clone)]
struct SecretBytes(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({})", self.0.len())
    }
}

impl ServerFile {
    /// Reads the file at `path`. Hooks in it are another program's, so they do not matter.
    ///
    /// # Errors
    /// It is not there, may not be read, or has an error in it.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let text = read_text(path).map_err(|error| match error {
            LoadError::Read { file, source } if source.kind() == io::ErrorKind::NotFound => {
                SetupError::NoFile(file)
            }
            LoadError::Read { file, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                SetupError::NotPermitted { what: "read", path: file }
            }
            other => other.into(),
        })?;
        Self::understand(path, text)
    }

    /// What `text` says, which is or will be the file at `path`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn understand(path: &Path, text: Zeroizing<Vec<u8>>) -> Result<Self, SetupError> {
        let configuration = parse(path, &text, Hooks::Ignore).map_err(LoadError::from)?.configuration;
        let public_key = private_key(path, &configuration.interface.private_key)?.public_key();
        let blocks = outline::blocks(&text);
        let peers = blocks.iter().filter(|block| block.section == Section::Peer).count();
        if peers != configuration.peers.len() {
            return Err(SetupError::Edit(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), text: SecretBytes(text), configuration, blocks, public_key })
    }

    /// A new server's file.
    ///
    /// # Errors
    /// [`SetupError::Edit`], which would be a fault of ours.
    pub fn new(path: &Path, interface: Interface) -> Result<Self, SetupError> {
        let mut text = SecretText::default();
        text.push(
            b"# Made by 'wontun init'; wg-quick reads this file too. 'wontun peer add NAME' adds a client.\n",
        );
        text.push(b"# Edit it as you like: wontun keeps what it does not know.\n");
        text.push(WgQuick { interface, peers: Vec::new() }.print().as_bytes());
        Self::understand(path, text.into_inner())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it, secrets included.
    pub fn text(&self) -> &[u8] {
        &self.text.0
    }

    /// What it says, keys that are in files of their own left there.
    pub const fn configuration(&self) -> &WgQuick {
        &self.configuration
    }

    /// The server's public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Its peers, in its order.
    pub fn peers(&self) -> impl Iterator<Item = ServerPeer<'_>> {
        self.configuration.peers.iter().map(|peer| ServerPeer { name: peer.name.clone(), peer })
    }

    /// The number, in the file's order, of the peer with this name or public key.
    ///
    /// # Errors
    /// There is none, or several have that name.
    pub fn find(&self, wanted: &str) -> Result<usize, SetupError> {
        let is_meant = |peer: &ServerPeer<'_>| {
            peer.name.as_ref().is_some_and(|name| name.as_str() == wanted)
                || peer.peer.public_key.to_string() == wanted
        };
        let found: Vec<_> = self.peers().enumerate().filter(|(_, peer)| is_meant(peer)).collect();
        match found[..] {
            [(number, _)] => Ok(number),
            [] => Err(SetupError::UnknownPeer {
                wanted: wanted.to_owned(),
                known: self.peers().map(|peer| peer.label()).collect(),
            }),
            _ => Err(SetupError::Ambiguous {
                wanted: wanted.to_owned(),
                keys: found.iter().map(|(_, peer)| peer.peer.public_key).collect(),
            }),
        }
    }

    /// Where clients find the server, if it says so.
    ///
    /// # Errors
    /// What is written there is no endpoint.
    pub fn endpoint(&self) -> Result<Option<ClientEndpoint>, SetupError> {
        self.interface_note(ENDPOINT)
    }

    /// The clients' name servers, if it says so.
    ///
    /// # Errors
    /// What is written there are no addresses.
    pub fn dns(&self) -> Result<Option<ClientDns>, SetupError> {
        self.interface_note(DNS)
    }

    /// With another endpoint for clients.
    ///
    /// # Errors
    /// [`SetupError::Edit`].
    pub fn with_endpoint(&self, endpoint: &ClientEndpoint) -> Result<Self, SetupError> {
        self.with_interface_note(ENDPOINT, &endpoint.to_string())
    }

    /// With other name servers for clients.
    ///
    /// # Errors
    /// [`SetupError::Edit`].
    pub fn with_dns(&self, dns: &ClientDns) -> Result<Self, SetupError> {
        self.with_interface_note(DNS, &dns.to_string())
    }

    /// With one more peer, at the end.
    ///
    /// # Errors
    /// [`SetupError::Edit`].
    pub fn with_peer(&self, peer: &NewPeer) -> Result<Self, SetupError> {
        let mut section = SecretText::default();
        let end = self.line_end();
        let mut line = |parts: &[&str]| {
            parts.iter().for_each(|part| section.push(part.as_bytes()));
            section.push(end.as_bytes());
        };
        if !self.text().ends_with(b"\n") {
            line(&[]);
        }
        line(&[]);
        line(&["[Peer]"]);
        line(&["# ", NAME, " = ", peer.name.as_str()]);
        line(&[Field::PublicKey.name(), " = ", &peer.public_key.to_string()]);
        line(&[Field::PresharedKey.name(), " = ", &peer.preshared_key.to_base64()]);
        let networks: Vec<_> = peer.allowed_ips().map(|prefix| prefix.to_string()).collect();
        line(&[Field::AllowedIps.name(), " = ", &networks.join(", ")]);
        let mut expected = self.configuration.clone();
        expected.peers.push(Peer {
            name: Some(peer.name.clone()),
            public_key: peer.public_key,
            preshared_key: Some(KeySource::Inline(peer.preshared_key.clone())),
            allowed_ips: peer.allowed_ips().collect(),
            endpoint: None,
            persistent_keepalive: None,
        });
        self.edited(self.text().len()..self.text().len(), section.as_bytes(), &expected)
    }

    /// Without the peer of this number.
    ///
    /// # Errors
    /// [`SetupError::Edit`], also if there is no such peer.
    pub fn without_peer(&self, number: usize) -> Result<Self, SetupError> {
        let mut expected = self.configuration.clone();
        let block = self.peer_blocks().nth(number).filter(|_| number < expected.peers.len());
        let block = block.ok_or_else(|| self.fault())?;
        expected.peers.remove(number);
        self.edited(outline::with_one_gap(self.text(), &block.bytes), b"", &expected)
    }

    /// With another name for the peer of this number.
    ///
    /// # Errors
    /// [`SetupError::Edit`], also if there is no such peer.
    pub fn with_name(&self, number: usize, name: &PeerName) -> Result<Self, SetupError> {
        let block = self.peer_blocks().nth(number).ok_or_else(|| self.fault())?;
        let mut expected = self.configuration.clone();
        expected.peers.get_mut(number).ok_or_else(|| self.fault())?.name = Some(name.clone());
        self.with_note(block, NAME, name.as_str(), &expected)
    }

    fn peer_blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| block.section == Section::Peer)
    }

    fn interface_block(&self) -> Option<&Block> {
        self.blocks.iter().find(|block| block.section == Section::Interface)
    }

    /// Where the value of a comment of a section is.
    fn note(&self, block: &Block, key: &str) -> Option<Range<usize>> {
        block.comments.iter().find_map(|line| outline::note(self.text(), line, key))
    }

    fn interface_note<T>(&self, key: &'static str) -> Result<Option<T>, SetupError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let Some(place) = self.interface_block().and_then(|block| self.note(block, key)) else {
            return Ok(None);
        };
        let wrong =
            |error: T::Err| SetupError::Note { path: self.path.clone(), key, error: error.to_string() };
        self.slice(&place).parse().map(Some).map_err(wrong)
    }

    fn with_interface_note(&self, key: &str, value: &str) -> Result<Self, SetupError> {
        let block = self.interface_block().ok_or_else(|| self.fault())?;
        self.with_note(block, key, value, &self.configuration)
    }

    /// With another value of a comment, which is put below the header if there is none.
    fn with_note(
        &self,
        block: &Block,
        key: &str,
        value: &str,
        expected: &WgQuick,
    ) -> Result<Self, SetupError> {
        if let Some(place) = self.note(block, key) {
            // a value that is empty may have no space in front
            let space =
                if place.is_empty() && !self.text().get(..place.start).unwrap_or_default().ends_with(b" ") {
                    " "
                } else {
                    ""
                };
            return self.edited(place, format!("{space}{value}").as_bytes(), expected);
        }
        let place = block.behind_header..block.behind_header;
        let end = self.line_end();
        let begin =
            if self.text().get(..place.start).unwrap_or_default().ends_with(b"\n") { "" } else { end };
        self.edited(place, format!("{begin}# {key} = {value}{end}").as_bytes(), expected)
    }

    /// With `new` in the place of the bytes `place`, if it says what is expected then.
    fn edited(&self, place: Range<usize>, new: &[u8], expected: &WgQuick) -> Result<Self, SetupError> {
        let before = self.text().get(..place.start).unwrap_or_default();
        let behind = self.text().get(place.end..).unwrap_or_default();
        let mut text = Zeroizing::new(Vec::with_capacity(before.len() + new.len() + behind.len()));
        [before, new, behind].iter().for_each(|part| text.extend_from_slice(part));
        let edited = Self::understand(&self.path, text).map_err(|_| self.fault())?;
        if edited.configuration == *expected { Ok(edited) } else { Err(self.fault()) }
    }

    fn fault(&self) -> SetupError {
        SetupError::Edit(self.path.clone())
    }

    /// A part that is known to be text.
    fn slice(&self, place: &Range<usize>) -> &str {
        self.text().get(place.clone()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// How this file ends its lines.
    fn line_end(&self) -> &'static str {
        let first = self.text().split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        if first.ends_with(b"\r\n") { "\r\n" } else { "\n" }
    }
}

impl ServerPeer<'_> {
    /// Its name, or for one without its public key.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.peer.public_key.to_string(), ToString::to_string)
    }
}

#[cfg(test)]
mod tests;
