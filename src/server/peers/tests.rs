use std::path::Path;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::config::wg_quick::{Hooks, parse};
use crate::server::testing::{Counting, add_one, wanted};

/// RFC 7748, section 6.1.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const BOB: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// A server with the peer Bob, who has a site and a port.
fn file() -> ServerFile {
    let text = format!(
        "[Interface]\n# ClientEndpoint = vpn.example.com\nPrivateKey = {PRIVATE}\nListenPort = 51820\n\
         Address = 10.8.0.1/24, fd12::1/64\n\n[Peer]\n# Name = Bob\n# Forward = 80/tcp\nPublicKey = {BOB}\n\
         AllowedIPs = 10.8.0.2/32, fd12::2/128, 192.168.5.0/24\n"
    );
    ServerFile::parse(Path::new("tun0.conf"), Zeroizing::new(text.into_bytes())).unwrap()
}

fn errors(wanted: Vec<NewPeerOptions>) -> Vec<(usize, String)> {
    match add(&file(), wanted, Ipv6Reach::Internet, &mut Counting(0)) {
        Ok(_) => Vec::new(),
        Err(AddError::Peers(errors)) => errors.into_iter().map(|(n, error)| (n, error.to_string())).collect(),
        Err(AddError::Server(error)) => panic!("{error}"),
    }
}

fn networks_of<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_address_is_inside_and_free() {
    let with = |addresses: &[&str]| NewPeerOptions {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..wanted("phone")
    };
    for (addresses, part) in [
        (
            &["10.9.0.2"][..],
            "10.9.0.2 is outside of the server's network: choose one in 10.8.0.0/24 or fd12::/64",
        ),
        (&["10.8.0.2"], "10.8.0.2 is in use by Bob"),
        (&["10.8.0.1"], "10.8.0.1 is in use by this server"),
        (&["10.8.0.255"], "broadcast"),
        (&["fd12::"], "broadcast"),
        (&["10.8.0.7", "10.8.0.8"], "10.8.0.7 and 10.8.0.8 are of the same family"),
    ] {
        let errors = errors(vec![with(addresses)]);
        assert!(matches!(&errors[..], [(0, error)] if error.contains(part)), "{errors:?}");
    }
    let added = add_one(&file(), with(&["10.8.0.9"]), &mut Counting(0)).unwrap();
    assert_eq!(networks_of(&added.peer.allowed_ips), "10.8.0.9/32 fd12::3/128");
    assert_eq!(networks_of(&added.client.addresses), "10.8.0.9 fd12::3");
}

#[test]
fn several_peers_get_what_others_did_not_choose() {
    let chosen = NewPeerOptions { addresses: vec!["10.8.0.3".parse().unwrap()], ..wanted("c") };
    let added =
        add(&file(), vec![wanted("a"), wanted("b"), chosen], Ipv6Reach::Internet, &mut Counting(0)).unwrap();
    let addresses: Vec<_> = added.peers.iter().map(|added| networks_of(&added.client.addresses)).collect();
    assert_eq!(addresses, ["10.8.0.4 fd12::3", "10.8.0.5 fd12::4", "10.8.0.3 fd12::5"]);
    assert_eq!(added.file.peers().count(), 4);
    let found = errors(vec![wanted("a"), wanted("Bob"), wanted("a")]);
    assert!(
        matches!(&found[..], [(1, bob), (2, a)] if bob.contains("'Bob' already") && a.contains("'a' already")),
        "{found:?}"
    );
}

#[test]
fn a_site_is_a_network_of_its_own() {
    let with = |site: &str| NewPeerOptions { sites: vec![site.parse().unwrap()], ..wanted("router") };
    for (site, part) in [
        ("0.0.0.0/0", "is the default route"),
        ("10.8.0.128/25", "is part of the VPN's network 10.8.0.0/24"),
        ("fd12::/64", "is part of the VPN's network fd12::/64"),
        ("192.168.5.0/24", "belongs to the peer Bob already"),
        ("127.0.0.0/8", "is a loopback"),
        ("fe80::/64", "is a loopback"),
        ("224.0.0.0/4", "is a loopback"),
    ] {
        let errors = errors(vec![with(site)]);
        assert!(matches!(&errors[..], [(0, error)] if error.contains(part)), "{site}: {errors:?}");
    }
    for (site, warning) in [
        ("192.168.7.0/24", None),
        ("192.168.0.0/16", Some("overlaps 192.168.5.0/24 of the peer Bob")),
        ("192.168.5.128/25", Some("overlaps 192.168.5.0/24 of the peer Bob")),
        ("10.0.0.0/8", Some("contains the VPN's network 10.8.0.0/24")),
    ] {
        let added = add(&file(), vec![with(site)], Ipv6Reach::Internet, &mut Counting(0)).unwrap();
        let warnings: Vec<_> = added.warnings.iter().map(|(_, warning)| warning.to_string()).collect();
        match warning {
            Some(part) => assert!(warnings.len() == 1 && warnings[0].contains(part), "{site}: {warnings:?}"),
            None => assert!(warnings.is_empty(), "{site}: {warnings:?}"),
        }
        let [AddedPeer { peer, client }] = &added.peers[..] else { panic!() };
        assert_eq!(networks_of(&peer.allowed_ips), format!("10.8.0.3/32 fd12::3/128 {site}"));
        // the client does not send what is behind itself into the tunnel
        assert_eq!(networks_of(&client.allowed_ips), "10.8.0.0/24 fd12::/64");
        assert_eq!(networks_of(&client.addresses), "10.8.0.3 fd12::3");
    }
    let mut both = with("192.168.7.0/24");
    both.settings.client.routes = vec!["192.168.7.64/26".parse().unwrap()];
    assert!(errors(vec![both])[0].1.contains("is within the site 192.168.7.0/24"));
}

#[test]
fn the_clients_file_is_what_was_asked_for() {
    let mut router = wanted("phone");
    router.settings.client.routes = vec!["192.168.5.0/24".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    router.settings.client.mtu = Some("1380".parse().unwrap());
    router.settings.client.keepalive = Some("off".parse().unwrap());
    router.settings.note = Some("Anna, room 5".parse().unwrap());
    let added = add_one(&file(), router.clone(), &mut Counting(0)).unwrap();
    // a network that is part of a route is not named again
    assert_eq!(networks_of(&added.client.allowed_ips), "fd12::/64 192.168.5.0/24 10.0.0.0/8");
    let text = String::from_utf8(added.client.to_text().to_vec()).unwrap();
    assert!(text.contains("\nMTU = 1380\n") && !text.contains("PersistentKeepalive"), "{text}");
    let server = std::str::from_utf8(added.file.text()).unwrap();
    let section = "\n# Name = phone\n# ClientRoutes = 192.168.5.0/24, 10.0.0.0/8\n# ClientMTU = 1380\n\
                   # ClientKeepalive = off\n# Note = Anna, room 5\nPublicKey = ";
    assert!(server.contains(section), "{server}");
    router.settings.client.mtu = Some("1279".parse().unwrap());
    assert!(errors(vec![router])[0].1.contains("at least 1280"));
}

#[test]
fn a_port_leads_to_one_peer() {
    let with = |forward: &str| {
        let mut peer = wanted("web");
        peer.settings.forwards = vec![forward.parse().unwrap()];
        peer
    };
    assert!(errors(vec![with("80/tcp=8080")])[0].1.contains("leads to Bob already"));
    assert!(errors(vec![with("51820/udp")])[0].1.contains("leads to this server already"));
    assert!(errors(vec![with("80/udp")]).is_empty());
}

#[test]
fn a_full_tunnel_has_ipv6_where_it_leads_somewhere() {
    let added = |ipv6, peer: NewPeerOptions| {
        let added = add(&file(), vec![peer], ipv6, &mut Counting(0)).unwrap();
        let AddedPeer { peer, client } = &added.peers[0];
        let lists = [networks_of(&peer.allowed_ips), networks_of(&client.allowed_ips)];
        lists.into_iter().chain([client.dns.to_string()]).collect::<Vec<_>>()
    };
    let full = NewPeerOptions { full_tunnel: true, ..wanted("phone") };
    assert_eq!(
        added(Ipv6Reach::Internet, full.clone()),
        ["10.8.0.3/32 fd12::3/128", "0.0.0.0/0 ::/0", "9.9.9.9, 2620:fe::fe"]
    );
    assert_eq!(added(Ipv6Reach::Vpn, full.clone()), ["10.8.0.3/32", "0.0.0.0/0", "9.9.9.9"]);
    // an address that was asked for leads to the VPN
    let chosen = NewPeerOptions { addresses: vec!["fd12::9".parse().unwrap()], ..full.clone() };
    assert_eq!(
        added(Ipv6Reach::Vpn, chosen),
        ["10.8.0.3/32 fd12::9/128", "fd12::/64 0.0.0.0/0", "9.9.9.9, 2620:fe::fe"]
    );
    // so do those of a client that sends only the VPN's traffic into the tunnel
    assert_eq!(
        added(Ipv6Reach::Vpn, wanted("phone")),
        ["10.8.0.3/32 fd12::3/128", "10.8.0.0/24 fd12::/64", "none"]
    );
    // and name servers that were asked for stay
    let mut told = full;
    told.settings.client.dns = Some("2620:fe::9".parse().unwrap());
    assert_eq!(added(Ipv6Reach::Vpn, told)[2], "2620:fe::9");
    let text =
        std::str::from_utf8(file().text()).unwrap().replace("10.8.0.1/24, ", "").replace("10.8.0.2/32, ", "");
    let only = ServerFile::parse(Path::new("tun0.conf"), Zeroizing::new(text.into_bytes())).unwrap();
    let full = NewPeerOptions { full_tunnel: true, ..wanted("phone") };
    let added = add(&only, vec![full], Ipv6Reach::Vpn, &mut Counting(0)).unwrap();
    assert_eq!(networks_of(&added.peers[0].client.allowed_ips), "0.0.0.0/0 ::/0");
}

proptest! {
    /// No two peers have an address or a site in common, whatever is chosen.
    #[test]
    fn what_is_added_is_nobody_elses(
        chosen in proptest::collection::vec((proptest::option::of(0_u8..20), proptest::option::of((0_u8..4, 22_u8..=26))), 1..12),
    ) {
        let peers = chosen.iter().enumerate().map(|(number, (address, site))| NewPeerOptions {
            addresses: address.map(|last| IpAddr::from([10, 8, 0, last])).into_iter().collect(),
            sites: site
                .map(|(third, length)| Network::from(Prefix::of([192, 168, third, 0].into(), length)))
                .into_iter()
                .collect(),
            ..wanted(&format!("peer {number}"))
        });
        if let Ok(added) = add(&file(), peers.collect(), Ipv6Reach::Internet, &mut Counting(0)) {
            let parsed = parse(Path::new("x"), added.file.text(), Hooks::Refuse).unwrap();
            prop_assert!(parsed.warnings.iter().all(|warning| !warning.to_string().contains("belongs")));
            let mut all: Vec<_> =
                parsed.configuration.peers.iter().flat_map(|peer| peer.allowed_ips.clone()).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), count);
        }
    }
}
