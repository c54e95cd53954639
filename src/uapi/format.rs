//! Formats changes as a request.

use std::fmt::{self, Write};

use zeroize::Zeroizing;

use super::changes::{Changes, PeerChanges};
use super::hex;
use super::secret_text::SecretText;
use crate::config::PeerName;
use wontun_proto::wireguard::KEY_LEN;

impl Changes {
    /// Formats the changes as a `set=1` request, secrets included, in the order used by `wg`.
    /// [`super::RequestParser`] parses it to the same changes, provided that the endpoints are in
    /// the form that it produces.
    pub fn to_request(&self) -> Zeroizing<Vec<u8>> {
        let mut text = SecretText::default();
        // writing to memory does not fail
        let _ = self.write(&mut text);
        text.into_inner()
    }

    fn write(&self, out: &mut SecretText) -> fmt::Result {
        writeln!(out, "set=1")?;
        if let Some(private_key) = &self.private_key {
            key(out, "private_key", private_key.as_ref().map_or(&[0; KEY_LEN], |key| key.as_bytes()));
        }
        if let Some(port) = self.listen_port {
            writeln!(out, "listen_port={port}")?;
        }
        if let Some(mark) = self.fwmark {
            writeln!(out, "fwmark={mark}")?;
        }
        if let Some(is_engaged) = self.kill_switch {
            writeln!(out, "wontun_kill_switch={}", if is_engaged { "on" } else { "off" })?;
        }
        if self.replace_peers {
            writeln!(out, "replace_peers=true")?;
        }
        self.peers.iter().try_for_each(|peer| peer.write(out))?;
        writeln!(out)
    }
}

impl PeerChanges {
    fn write(&self, out: &mut SecretText) -> fmt::Result {
        key(out, "public_key", self.public_key.as_bytes());
        for (name, wanted) in [
            ("remove", self.remove),
            ("update_only", self.update_only),
            ("wontun_forget_timestamp", self.forget_timestamp),
        ] {
            if wanted {
                writeln!(out, "{name}=true")?;
            }
        }
        if let Some(name) = &self.name {
            writeln!(out, "name={}", name.as_ref().map_or("", PeerName::as_str))?;
        }
        if let Some(preshared_key) = &self.preshared_key {
            key(out, "preshared_key", preshared_key.as_bytes());
        }
        if let Some(endpoint) = self.endpoint {
            writeln!(out, "endpoint={endpoint}")?;
        }
        if let Some(seconds) = self.persistent_keepalive {
            writeln!(out, "persistent_keepalive_interval={seconds}")?;
        }
        if self.replace_allowed_ips {
            writeln!(out, "replace_allowed_ips=true")?;
        }
        self.allowed_ips.iter().try_for_each(|change| {
            writeln!(out, "allowed_ip={}{}", if change.remove { "-" } else { "" }, change.prefix)
        })
    }
}

/// Writes a line with a key.
pub(super) fn key(out: &mut SecretText, name: &str, bytes: &[u8; KEY_LEN]) {
    out.push(name.as_bytes());
    out.push(b"=");
    out.push(&*hex::encode(bytes));
    out.push(b"\n");
}
