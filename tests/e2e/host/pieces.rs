//! Objects of a tunnel's state on a host, and the commands with which another program removes them.

use crate::wireguard::site::Site;

/// Kinds of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Address,
    Route,
    Rule,
    /// A table of nf_tables, or a part of one.
    Table,
    /// A sysctl that the tunnel has turned on.
    Setting,
    /// The link state of the device.
    Down,
    /// The device's MTU.
    Mtu,
}

impl Kind {
    /// All kinds.
    pub(super) const ALL: &[Self] =
        &[Self::Address, Self::Route, Self::Rule, Self::Table, Self::Setting, Self::Down, Self::Mtu];
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    /// Shell command that removes the object. It fails if the object is already gone, or the kernel
    /// protects it.
    pub(super) removal: String,
}

impl Piece {
    fn new(kind: Kind, removal: String) -> Self {
        Self { kind, removal }
    }
}

/// Returns the objects that exist now.
pub(super) fn pieces(site: &Site) -> Vec<Piece> {
    let text = site.shell(
        "ip -o address show dev wg0 scope global; echo ---
         ip -4 route show table all proto 119; echo ---
         ip -6 route show table all proto 119; echo ---
         ip -4 rule; echo ---
         ip -6 rule; echo ---
         nft -a list ruleset; echo ---
         cd /proc/sys/net
         for file in ipv4/conf/all/src_valid_mark ipv4/ip_forward ipv6/conf/all/forwarding \
             ipv4/conf/*/forwarding ipv6/conf/*/force_forwarding; do
             [ ! -e $file ] || [ $(cat $file) = 0 ] || echo $file
         done",
    );
    let parts: Vec<&str> = text.split("---\n").collect();
    let [addresses, v4_routes, v6_routes, v4_rules, v6_rules, ruleset, settings] = parts[..] else {
        panic!("{} parts: {text}", parts.len());
    };
    let mut pieces = Vec::new();
    for line in addresses.lines() {
        let address = line.split_whitespace().nth(3).unwrap();
        pieces.push(Piece::new(Kind::Address, format!("ip address del {address} dev wg0")));
    }
    for (family, routes) in [("-4", v4_routes), ("-6", v6_routes)] {
        for route in routes.lines() {
            let words = route.split_whitespace().filter(|word| !["linkdown", "dead"].contains(word));
            let words: Vec<_> = words.collect();
            pieces.push(Piece::new(Kind::Route, format!("ip {family} route del {}", words.join(" "))));
        }
    }
    for (family, rules) in [("-4", v4_rules), ("-6", v6_rules)] {
        for rule in rules.lines().filter(|rule| rule.contains("proto 119")) {
            let priority = rule.split(':').next().unwrap();
            pieces.push(Piece::new(Kind::Rule, format!("ip {family} rule del priority {priority}")));
        }
    }
    pieces.extend(of_tables(ruleset).into_iter().map(|removal| Piece::new(Kind::Table, removal)));
    for file in settings.lines() {
        pieces.push(Piece::new(Kind::Setting, format!("echo 0 >/proc/sys/net/{file}")));
    }
    pieces.push(Piece::new(Kind::Down, "ip link set wg0 down".to_owned()));
    pieces.push(Piece::new(Kind::Mtu, "ip link set wg0 mtu 1300".to_owned()));
    pieces
}

/// Returns commands that remove or change the tunnel's tables and their contents.
fn of_tables(ruleset: &str) -> Vec<String> {
    let mut removals = Vec::new();
    let (mut table, mut chain) = ("", "");
    for line in ruleset.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, name, ..] => {
                let text = line.trim_start_matches("table ").split(" {").next().unwrap();
                table = if name.starts_with("wontun") { text } else { "" };
                debug_assert_eq!(table.is_empty(), !text.starts_with(&format!("{family} wontun")));
                if !table.is_empty() {
                    removals.push(format!("nft delete table {table}"));
                    removals.push(format!("nft flush table {table}"));
                }
            }
            _ if table.is_empty() => {}
            ["chain", name, ..] => {
                chain = name;
                removals.push(format!("nft flush chain {table} {chain}"));
                removals.push(format!("nft 'flush chain {table} {chain}; delete chain {table} {chain}'"));
                removals.push(format!("nft insert rule {table} {chain} accept"));
            }
            ["set", name, ..] => {
                chain = "";
                removals.push(format!("nft flush set {table} {name}"));
            }
            [.., "#", "handle", handle] if !chain.is_empty() && !line.trim_start().starts_with("type ") => {
                removals.push(format!("nft delete rule {table} {chain} handle {handle}"));
                removals.push(format!("nft replace rule {table} {chain} handle {handle} accept"));
            }
            _ => {}
        }
    }
    removals
}

/// Returns commands that remove everything of one kind at once, as network managers and reloading
/// firewalls do.
pub(super) fn flushes() -> Vec<Piece> {
    let of = |kind, commands: &[&str]| {
        commands.iter().map(|command| Piece::new(kind, (*command).to_owned())).collect::<Vec<_>>()
    };
    let mut flushes = of(Kind::Address, &["ip address flush dev wg0 scope global"]);
    flushes.extend(of(
        Kind::Route,
        &[
            "ip -4 route flush table all proto 119",
            "ip -6 route flush table all proto 119",
            "ip -4 route flush table 51820",
            "ip -6 route flush table 51820",
        ],
    ));
    flushes.extend(of(Kind::Rule, &["ip -4 rule flush protocol 119", "ip -6 rule flush protocol 119"]));
    flushes
}
