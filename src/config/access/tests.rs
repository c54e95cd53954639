use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::config::PeerPolicy;
use crate::config::wg_quick::{Hooks, Parsed, parse};

/// RFC 7748, section 6.1.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const SERVER: [&str; 3] = ["10.8.0.1", "fd08::1", "203.0.113.1"];

/// A server's file, and its rules.
struct Model {
    file: Parsed,
    rules: AccessRules,
}

impl Model {
    /// Makes peers `a`, `b`, … with the addresses 10.8.0.2 and fd08::2, 10.8.0.3 and fd08::3, …,
    /// and these comments.
    fn new(policy: PeerPolicy, peers: &[&str]) -> Self {
        let mut text = format!(
            "[Interface]\n# ClientDNS = 10.8.0.1, 9.9.9.9\nPrivateKey = {PRIVATE}\nAddress = 10.8.0.1/24, fd08::1/64\n"
        );
        for (number, comments) in (2_u8..).zip(peers) {
            let name = char::from(b'a' + number - 2);
            let key = wontun_proto::wireguard::PublicKey::from_bytes([number; 32]);
            text += &format!(
                "[Peer]\n# Name = {name}\n{comments}\nPublicKey = {key}\nAllowedIPs = 10.8.0.{number}/32, fd08::{number}/128\n"
            );
        }
        let file = parse(Path::new("tun0.conf"), text.as_bytes(), Hooks::Refuse).unwrap();
        let rules = AccessRules::of_file(&file.configuration, policy, &file.server.dns);
        Self { file, rules }
    }

    /// Returns whether `SOURCE DESTINATION[:PORT]/PROTOCOL` is allowed. Both evaluations agree.
    fn decides(&self, text: &str) -> (bool, Reason) {
        let (source, destination) = text.split_once(' ').unwrap();
        let (destination, protocol) = destination.rsplit_once('/').unwrap();
        let is_forwarded = protocol == "forwarded";
        let (address, port) = match destination.parse::<std::net::SocketAddr>() {
            Ok(socket) => (socket.ip(), socket.port()),
            Err(_) => (destination.parse().unwrap(), 0),
        };
        let v6 = address.is_ipv6();
        let protocol = match protocol {
            "icmp" => {
                if v6 {
                    58
                } else {
                    1
                }
            }
            "udp" => 17,
            _ => 6,
        };
        let host =
            |address: IpAddr| Host { address, is_server: SERVER.contains(&address.to_string().as_str()) };
        let source = host(source.parse().unwrap());
        let connection = Connection { source, destination: host(address), protocol, port, is_forwarded };
        let decision = self.rules.explain(&self.file.configuration, &self.file.server.dns, &connection);
        assert_eq!(self.rules.decide(&connection), decision.is_allowed, "{text}: {decision:?}");
        (decision.is_allowed, decision.reason)
    }

    fn allows(&self, connections: &[&str]) {
        connections.iter().for_each(|text| assert!(self.decides(text).0, "{text}: {:?}", self.decides(text)));
    }

    fn denies(&self, connections: &[&str]) {
        connections
            .iter()
            .for_each(|text| assert!(!self.decides(text).0, "{text}: {:?}", self.decides(text)));
    }
}

#[test]
fn a_peer_without_rules_follows_the_policy() {
    let to_all = [
        "10.8.0.2 9.9.9.9:443/tcp",
        "10.8.0.2 192.168.1.1:22/tcp",
        "10.8.0.2 10.8.0.1:22/tcp",
        "192.168.1.1 10.8.0.2:22/tcp",
    ];
    let to_peers = ["10.8.0.2 10.8.0.3/icmp", "fd08::3 fd08::2/icmp"];
    let open = Model::new(PeerPolicy::Open, &["", ""]);
    open.allows(&[&to_all[..], &to_peers].concat());
    assert!(open.rules.needs_no_table());
    let isolated = Model::new(PeerPolicy::Isolate, &["", ""]);
    isolated.allows(&to_all);
    isolated.denies(&to_peers);
    let limited = Model::new(PeerPolicy::InternetOnly, &["", ""]);
    limited.denies(&to_peers);
    limited.denies(&to_all[1..]);
    limited.allows(&[
        "10.8.0.2 1.1.1.1:443/tcp",
        "fd08::2 2620:fe::9/icmp",
        "10.8.0.2 10.8.0.1:53/udp",
        "fd08::2 fd08::1/icmp",
    ]);
    limited.denies(&["10.8.0.1 10.8.0.2/icmp", "10.8.0.2 203.0.113.1:22/tcp", "fd08::2 fd00::1:1/tcp"]);
    assert!(!limited.rules.needs_no_table());
}

#[test]
fn only_what_is_allowed_is_reached_and_nobody_reaches_the_peer() {
    let model = Model::new(
        PeerPolicy::Open,
        &[
            "# Allow = 192.0.2.7:443/tcp, 198.51.100.0/24, b:22, dns",
            "",
            "# Allow = any\n# Deny = lan, server:22",
        ],
    );
    model.allows(&[
        "10.8.0.2 192.0.2.7:443/tcp",
        "10.8.0.2 198.51.100.200/icmp",
        "10.8.0.2 10.8.0.3:22/tcp",
        "10.8.0.2 10.8.0.3:22/udp",
        "fd08::2 [fd08::3]:22/tcp",
        "10.8.0.2 10.8.0.1:53/udp",
        "10.8.0.2 9.9.9.9:53/tcp",
        "10.8.0.4 10.8.0.3:80/tcp",
        "10.8.0.4 10.8.0.1:80/tcp",
        "10.8.0.3 10.8.0.1:80/tcp",
        "192.168.1.1 10.8.0.3:80/tcp",
    ]);
    model.denies(&[
        "10.8.0.2 192.0.2.7:443/udp",
        "10.8.0.2 192.0.2.7:80/tcp",
        "10.8.0.2 192.0.2.8:443/tcp",
        "fd08::2 2620:fe::fe/icmp",
        "10.8.0.2 10.8.0.4:22/tcp",
        "10.8.0.3 10.8.0.2:22/tcp",
        "10.8.0.1 10.8.0.2:22/tcp",
        "192.168.1.1 10.8.0.2:22/tcp",
        "10.8.0.4 192.168.1.1:80/tcp",
        "fd08::4 [fd00::1]:80/tcp",
        "10.8.0.4 203.0.113.1:22/tcp",
    ]);
    let (_, reason) = model.decides("10.8.0.2 192.0.2.7:443/tcp");
    assert!(
        matches!(&reason, Reason::Entry { peer, target, .. } if peer == "a" && target.to_string() == "192.0.2.7:443/tcp")
    );
    let (_, reason) = model.decides("10.8.0.3 10.8.0.2:22/tcp");
    assert_eq!(reason, Reason::NoAllowFrom { peer: "a".to_owned() });
}

#[test]
fn others_open_connections_by_rules_and_forwards() {
    let model = Model::new(
        PeerPolicy::Isolate,
        &[
            "# AllowFrom = lan:22/tcp, c, server/icmp",
            "# Forward = 8443/tcp=443",
            "",
            "# Allow = none\n# Forward = 53/udp",
        ],
    );
    model.allows(&[
        "192.168.1.1 10.8.0.2:22/tcp",
        "10.8.0.1 10.8.0.2/icmp",
        "198.51.100.1 10.8.0.3:443/forwarded",
        "198.51.100.1 10.8.0.3:80/tcp",
    ]);
    model.denies(&[
        "192.168.1.1 10.8.0.2:23/tcp",
        "10.8.0.1 10.8.0.2:22/tcp",
        "198.51.100.1 10.8.0.2:22/tcp",
        // its own policy isolates it
        "10.8.0.4 10.8.0.2:22/tcp",
        "10.8.0.2 10.8.0.4:22/tcp",
        "198.51.100.1 10.8.0.5:80/forwarded",
        "10.8.0.5 9.9.9.9:443/tcp",
    ]);
    let (_, reason) = model.decides("198.51.100.1 10.8.0.3:443/forwarded");
    assert!(matches!(reason, Reason::Forward { peer, .. } if peer == "b"));
}

#[test]
fn peers_with_the_same_rules_share_lists_and_unknown_names_are_reported() {
    let rule = "# Allow = nas:445/tcp, 192.0.2.7";
    let model = Model::new(PeerPolicy::Open, &[rule, rule, "", rule]);
    let sides: Vec<_> =
        model.rules.ranges(false).into_iter().map(|range| (range.addresses, range.owner)).collect();
    // the two addresses of the first peers, that of the last, and the policy before, between and
    // behind
    let [(before, policy), (_, own), (_, between), (_, last), (behind, others)] = &sides[..] else {
        panic!("{sides:?}")
    };
    assert!(own == last && own != policy && policy == between && policy == others, "{sides:?}");
    assert_eq!((*before.start(), *behind.end()), (0, u32::MAX.into()), "a map has all addresses");
    let unknown: Vec<_> = model.rules.unknown_peers().iter().map(ToString::to_string).collect();
    assert_eq!(
        unknown[0],
        "a rule of the peer a names the peer nas, which does not exist: it matches nothing"
    );
    assert_eq!(unknown.len(), 3);
}

#[test]
fn a_peer_that_is_gone_is_denied_everything() {
    let before = Model::new(PeerPolicy::Open, &["# Deny = lan", ""]);
    let after = Model::new(PeerPolicy::Open, &[]);
    let rules = AccessRules::new(&after.file.configuration, PeerPolicy::Open, &[], [], Some(&before.rules));
    assert!(!rules.needs_no_table());
    let decides = |source: &str, destination: &str| {
        let host = |text: &str| Host { address: text.parse().unwrap(), is_server: false };
        let (source, destination) = (host(source), host(destination));
        rules.decide(&Connection { source, destination, protocol: 6, port: 443, is_forwarded: false })
    };
    assert!(
        !decides("10.8.0.2", "9.9.9.9") && !decides("fd00::1", "fd08::2") && decides("10.8.0.3", "9.9.9.9")
    );
    let next = AccessRules::new(&after.file.configuration, PeerPolicy::Open, &[], [], Some(&rules));
    assert!(next.needs_no_table());
}

#[test]
fn an_invitation_reaches_the_responder_and_nothing_else_under_any_policy() {
    let invited = "# Invitation = 2999-12-31\n# Allow = any\n# AllowFrom = any\n# Forward = 80/tcp";
    for policy in [PeerPolicy::Open, PeerPolicy::Isolate, PeerPolicy::InternetOnly] {
        let model = Model::new(policy, &[invited, ""]);
        for (connection, expected) in [
            ("10.8.0.2 10.8.0.1:41820/udp", true),
            ("fd08::2 [fd08::1]:41820/udp", true),
            ("10.8.0.2 10.8.0.1:41820/tcp", false),
            ("10.8.0.2 10.8.0.1:41821/udp", false),
            ("10.8.0.2 10.8.0.1:53/udp", false),
            ("10.8.0.2 10.8.0.1/icmp", false),
            ("10.8.0.2 203.0.113.1:41820/udp", false),
            ("10.8.0.2 10.8.0.3:41820/udp", false),
            ("10.8.0.2 9.9.9.9:53/udp", false),
            ("10.8.0.3 10.8.0.2/icmp", false),
            ("10.8.0.1 10.8.0.2/icmp", false),
            ("9.9.9.9 10.8.0.2:80/forwarded", false),
        ] {
            let (decision, reason) = model.decides(connection);
            assert_eq!(decision, expected, "{policy:?} {connection} {reason:?}");
        }
        assert!(model.rules.forwards().is_empty() && model.rules.reachable().is_empty());
        assert!(!model.rules.needs_no_table());
    }
}
