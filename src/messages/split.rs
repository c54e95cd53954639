//! Splits large changes into parts that fit a message.

use crate::uapi::{Changes, PeerChanges};

/// Maximum number of allowed IPs per part; each takes at most 19 bytes.
const MAX_ALLOWED_IPS: usize = 1024;
/// Maximum number of peers per part; each takes at most some 400 bytes, allowed IPs and name not
/// counted.
const MAX_PEERS: usize = 64;

/// Splits `changes` into a series of changes that each fit a message and together have the same
/// effect.
pub(crate) fn split_changes(changes: Changes) -> Vec<Changes> {
    let Changes { peers, .. } = changes;
    let mut parts = vec![Changes { peers: Vec::new(), ..changes }];
    let mut allowed_ips = 0;
    for part in peers.into_iter().flat_map(split_peer_changes) {
        let is_full = parts.last().is_none_or(|last| {
            last.peers.len() >= MAX_PEERS || allowed_ips + part.allowed_ips.len() > MAX_ALLOWED_IPS
        });
        if is_full {
            parts.push(Changes::default());
            allowed_ips = 0;
        }
        allowed_ips += part.allowed_ips.len();
        if let Some(last) = parts.last_mut() {
            last.peers.push(part);
        }
    }
    parts
}

/// Splits the changes to one peer. The keepalive comes last, since it may send a packet.
fn split_peer_changes(mut peer: PeerChanges) -> Vec<PeerChanges> {
    let mut parts = Vec::new();
    while peer.allowed_ips.len() > MAX_ALLOWED_IPS {
        let rest = peer.allowed_ips.split_off(MAX_ALLOWED_IPS);
        let keepalive = peer.persistent_keepalive.take();
        let next = PeerChanges {
            update_only: true,
            persistent_keepalive: keepalive,
            allowed_ips: rest,
            ..PeerChanges::new(peer.public_key)
        };
        parts.push(std::mem::replace(&mut peer, next));
    }
    parts.push(peer);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ToTunnel;
    use crate::process::{decode, encode};
    use crate::uapi::AllowedIpChange;
    use wontun_proto::allowed_ips::Prefix;
    use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

    fn peer(number: u8, allowed_ips: u32) -> PeerChanges {
        let prefix =
            |host: u32| Prefix::new(std::net::Ipv6Addr::from(u128::MAX - u128::from(host)).into(), 128);
        PeerChanges {
            name: Some("ä".repeat(64).parse().ok()),
            preshared_key: Some(PresharedKey::from_bytes([7; 32])),
            endpoint: "[2001:db8::1%5]:51820".parse().ok(),
            persistent_keepalive: Some(25),
            replace_allowed_ips: true,
            allowed_ips: (0..allowed_ips)
                .map(|host| AllowedIpChange { prefix: prefix(host).unwrap(), remove: false })
                .collect(),
            ..PeerChanges::new(PublicKey::from_bytes([number; 32]))
        }
    }

    #[test]
    fn each_part_fits_a_message_and_comes_back() {
        let peers = [(1, 3000), (2, 0), (3, 1024)].map(|(number, count)| peer(number, count));
        let many = (0..=255).map(|number| peer(number, 4));
        let changes = Changes {
            private_key: Some(Some(PrivateKey::from_bytes(&[1; 32]))),
            replace_peers: true,
            peers: peers.into_iter().chain(many).collect(),
            ..Changes::default()
        };
        let parts = split_changes(changes.clone());
        assert!(parts.iter().skip(1).all(|part| !part.replace_peers && part.private_key.is_none()));
        let mut all = Vec::new();
        for part in parts {
            let bytes = encode(&ToTunnel::Change { number: Some(1), changes: part.clone() }).unwrap();
            let ToTunnel::Change { changes, .. } = decode(&bytes).unwrap() else { panic!("another message") };
            assert_eq!(changes, part);
            all.extend(changes.peers);
        }
        let count = |peers: &[PeerChanges]| peers.iter().map(|peer| peer.allowed_ips.len()).sum::<usize>();
        assert_eq!(count(&all), count(&changes.peers));
        let first: Vec<_> = all.iter().filter(|peer| peer.public_key.as_bytes() == &[1; 32]).collect();
        assert!(first[0].replace_allowed_ips && first[0].persistent_keepalive.is_none());
        assert!(!first[1].replace_allowed_ips && first[2].persistent_keepalive == Some(25));
    }
}
