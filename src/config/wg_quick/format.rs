//! Prints a configuration as the text of its file.

use std::fmt::{self, Write};

use zeroize::Zeroizing;

use super::field::{Field, Section};
use super::{Interface, KeySource, Peer, Table, WgQuick, outline};
use crate::config::peer_settings::PeerComment;
use wontun_proto::wireguard::{PresharedKey, PrivateKey};

impl WgQuick {
    /// Returns the text of the file. It contains secrets and must go to the file only.
    /// [`super::parse`] returns the same configuration for it, provided that paths and DNS entries
    /// are as it returns them.
    pub fn to_text(&self) -> Zeroizing<String> {
        text(|out| self.write(out))
    }

    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        self.interface.write(out)?;
        self.peers.iter().try_for_each(|peer| peer.write(out))
    }
}

impl Interface {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{}", Section::Interface)?;
        match &self.private_key {
            KeySource::Inline(key) => line(out, Field::PrivateKey, &*PrivateKey::to_base64(key))?,
            KeySource::File(path) => line(out, Field::PrivateKeyFile, &path.display())?,
        }
        if let Some(port) = &self.listen_port {
            line(out, Field::ListenPort, port)?;
        }
        if let Some(mark) = self.fwmark {
            line(out, Field::FwMark, &format_args!("{mark:#x}"))?;
        }
        for address in &self.addresses {
            line(out, Field::Address, address)?;
        }
        if let Some(mtu) = &self.mtu {
            line(out, Field::Mtu, mtu)?;
        }
        match &self.table {
            Table::Auto => {}
            Table::Off => line(out, Field::Table, &"off")?,
            Table::Number(number) => line(out, Field::Table, number)?,
        }
        self.dns.iter().try_for_each(|entry| line(out, Field::Dns, entry))
    }
}

impl Peer {
    /// Returns the text of the section, after an empty line. It contains secrets.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        text(|out| self.write(out))
    }

    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "\n{}", Section::Peer)?;
        if let Some(name) = &self.name {
            writeln!(out, "# {} = {name}", outline::NAME)?;
        }
        for key in PeerComment::ALL {
            if let Some(value) = self.settings().get(key) {
                writeln!(out, "# {key} = {value}")?;
            }
        }
        line(out, Field::PublicKey, &self.public_key)?;
        match &self.preshared_key {
            Some(KeySource::Inline(key)) => {
                line(out, Field::PresharedKey, &*PresharedKey::to_base64(key))?;
            }
            Some(KeySource::File(path)) => line(out, Field::PresharedKeyFile, &path.display())?,
            None => {}
        }
        if let Some((first, rest)) = self.allowed_ips.split_first() {
            write!(out, "{} = {first}", Field::AllowedIps)?;
            rest.iter().try_for_each(|prefix| write!(out, ", {prefix}"))?;
            writeln!(out)?;
        }
        if let Some(endpoint) = &self.endpoint {
            line(out, Field::Endpoint, endpoint)?;
        }
        if let Some(seconds) = &self.persistent_keepalive {
            line(out, Field::PersistentKeepalive, seconds)?;
        }
        Ok(())
    }
}

/// Returns what `write` writes.
fn text(write: impl Fn(&mut dyn Write) -> fmt::Result) -> Zeroizing<String> {
    // count first: a text that grows leaves copies of itself in memory
    let mut length = Length(0);
    let _ = write(&mut length);
    let mut text = Zeroizing::new(String::with_capacity(length.0));
    let _ = write(&mut *text);
    text
}

fn line(out: &mut dyn Write, field: Field, value: &dyn fmt::Display) -> fmt::Result {
    writeln!(out, "{field} = {value}")
}

/// Counts bytes.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}
