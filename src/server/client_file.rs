//! The configuration file of a client, for wg-quick, wontun and the WireGuard apps.

use std::fmt::{self, Write};
use std::net::IpAddr;

use zeroize::Zeroizing;

use super::address::host;
use super::endpoint::ClientEndpoint;
use crate::config::ClientDns;
use crate::config::peer_settings::{ClientKeepalive, ClientMtu};
use crate::config::wg_quick::{Field, Section};
use crate::uapi::SecretText;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

/// The configuration file of a client. The server never stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFile {
    /// Private key of the client; `None` if the client generated its own.
    pub private_key: Option<PrivateKey>,
    /// Public key of the client.
    pub public_key: PublicKey,
    /// Addresses of the client in the VPN.
    pub addresses: Vec<IpAddr>,
    /// Name servers of the client.
    pub dns: ClientDns,
    /// MTU of the client's device; `None` for the default.
    pub mtu: Option<ClientMtu>,
    /// Public key of the server.
    pub server: PublicKey,
    /// Key shared with the server in addition to the key pairs.
    pub preshared_key: Option<PresharedKey>,
    /// Networks that the client routes through the tunnel.
    pub allowed_ips: Vec<Prefix>,
    /// Address of the server.
    pub endpoint: ClientEndpoint,
    /// Interval of the client's keepalives.
    pub keepalive: ClientKeepalive,
}

impl ClientFile {
    /// Returns true if `prefix` is one of the client's own addresses.
    pub(crate) fn has_address(&self, prefix: Prefix) -> bool {
        self.addresses.iter().any(|&address| host(address) == prefix)
    }

    /// Returns the text of the file. It contains secrets.
    pub(crate) fn to_text(&self) -> Zeroizing<Vec<u8>> {
        let mut text = SecretText::default();
        // writing to memory does not fail
        let _ = self.write(&mut text);
        text.into_inner()
    }

    fn write(&self, out: &mut SecretText) -> fmt::Result {
        writeln!(out, "{}", Section::Interface)?;
        match &self.private_key {
            Some(key) => writeln!(out, "{} = {}", Field::PrivateKey, *key.to_base64())?,
            None => writeln!(out, "# {} = the one that belongs to {}", Field::PrivateKey, self.public_key)?,
        }
        list(out, Field::Address, self.addresses.iter().map(|&address| host(address)))?;
        if let Some(mtu) = self.mtu {
            writeln!(out, "{} = {mtu}", Field::Mtu)?;
        }
        list(out, Field::Dns, self.dns.addresses().iter())?;
        writeln!(out, "\n{}", Section::Peer)?;
        writeln!(out, "{} = {}", Field::PublicKey, self.server)?;
        if let Some(key) = &self.preshared_key {
            writeln!(out, "{} = {}", Field::PresharedKey, *key.to_base64())?;
        }
        list(out, Field::AllowedIps, self.allowed_ips.iter())?;
        writeln!(out, "{} = {}", Field::Endpoint, self.endpoint)?;
        if self.keepalive.seconds() > 0 {
            writeln!(out, "{} = {}", Field::PersistentKeepalive, self.keepalive)?;
        }
        Ok(())
    }
}

/// Writes a line with a list, or nothing if the list is empty.
fn list(out: &mut SecretText, field: Field, items: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    let mut is_first = true;
    for item in items {
        if is_first {
            write!(out, "{field} = {item}")?;
        } else {
            write!(out, ", {item}")?;
        }
        is_first = false;
    }
    if is_first { Ok(()) } else { writeln!(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wg_quick::{Hooks, KeySource, parse};
    use crate::server::testing::Counting;
    use proptest::prelude::*;
    use std::path::Path;

    fn file(full: bool) -> ClientFile {
        let mut random = Counting(0);
        let private_key = PrivateKey::generate(&mut random);
        let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length).unwrap();
        ClientFile {
            public_key: private_key.public_key(),
            private_key: Some(private_key),
            addresses: vec!["10.8.0.2".parse().unwrap(), "fd12::2".parse().unwrap()],
            dns: if full { ClientDns::public() } else { ClientDns::none() },
            server: PrivateKey::generate(&mut random).public_key(),
            mtu: None,
            preshared_key: Some(PresharedKey::generate(&mut random)),
            allowed_ips: if full {
                vec![prefix("0.0.0.0", 0), prefix("::", 0)]
            } else {
                vec![prefix("10.8.0.0", 24), prefix("fd12::", 64)]
            },
            endpoint: "vpn.example.com".parse().unwrap(),
            keepalive: ClientKeepalive::default(),
        }
    }

    #[test]
    fn it_reads_as_people_write_it() {
        let text = file(true).to_text();
        let text = std::str::from_utf8(&text).unwrap();
        let shown: Vec<_> =
            text.lines().map(|line| line.split_once("Key = ").map_or(line, |(name, _)| name)).collect();
        assert_eq!(
            shown,
            [
                "[Interface]",
                "Private",
                "Address = 10.8.0.2/32, fd12::2/128",
                "DNS = 9.9.9.9, 2620:fe::fe",
                "",
                "[Peer]",
                "Public",
                "Preshared",
                "AllowedIPs = 0.0.0.0/0, ::/0",
                "Endpoint = vpn.example.com:51820",
                "PersistentKeepalive = 25"
            ]
        );
    }

    #[test]
    fn without_the_private_key_it_says_where_it_goes() {
        let client = ClientFile { private_key: None, ..file(false) };
        let text = String::from_utf8(client.to_text().to_vec()).unwrap();
        assert!(
            text.contains(&format!("# PrivateKey = the one that belongs to {}\n", client.public_key)),
            "{text}"
        );
        assert!(!text.contains("DNS"));
        assert_eq!(format!("{client:?}").matches("…").count(), 3, "{client:?}");
    }

    proptest! {
        #[test]
        fn what_is_printed_says_the_same(full: bool, addresses in proptest::collection::vec(any::<IpAddr>(), 1..4)) {
            let distinct: std::collections::HashSet<_> = addresses.iter().collect();
            prop_assume!(distinct.len() == addresses.len());
            let client = ClientFile { addresses, ..file(full) };
            let parsed = parse(Path::new("x"), &client.to_text(), Hooks::Refuse).unwrap().configuration;
            prop_assert_eq!(parsed.interface.private_key.inline(), client.private_key.as_ref());
            let addresses: Vec<_> = parsed.interface.addresses.iter().map(|cidr| cidr.address()).collect();
            prop_assert_eq!(addresses, client.addresses);
            prop_assert_eq!(parsed.interface.dns.join(", "), if full { client.dns.to_string() } else { String::new() });
            let [peer] = &parsed.peers[..] else { panic!("{parsed:?}") };
            prop_assert_eq!(peer.public_key, client.server);
            prop_assert_eq!(peer.preshared_key.clone(), client.preshared_key.map(KeySource::Inline));
            prop_assert_eq!(&peer.allowed_ips, &client.allowed_ips);
            prop_assert_eq!(peer.endpoint.as_ref().map(ToString::to_string), Some(client.endpoint.to_string()));
        }
    }
}
