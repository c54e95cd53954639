//! The routing of a tunnel device: the effect of `link::Routes` on a host, seen by `ip`, `nft` and
//! the kernel's own decisions. One end of a veth pair serves as the tunnel.

mod decisions;
mod leftovers;
mod neighbours;
mod reverse_path;

use std::num::NonZeroU32;

use wontun::config::Cidr;
use wontun::config::wg_quick::Table;
use wontun::netlink::{AppliedRouting, DesiredRouting, Link, Routes};
use wontun_proto::allowed_ips::Prefix;

use crate::lab::{Host, Lab};

/// Returns everything that a tunnel could change, as text.
fn routing_state(host: &Host) -> String {
    [
        host.ip(&["-4", "rule", "show"]),
        host.ip(&["-6", "rule", "show"]),
        host.ip(&["-4", "route", "show", "table", "all"]),
        without_link_local(&host.ip(&["-6", "route", "show", "table", "all"])),
        // with handles: a table that was replaced by an equal one has others
        host.shell("nft -a list ruleset; cat /proc/sys/net/ipv4/conf/all/src_valid_mark"),
    ]
    .join("---\n")
}

/// Removes link-local routes, which the kernel adds with a delay.
fn without_link_local(routes: &str) -> String {
    routes.lines().filter(|line| !line.contains("fe80::") && !line.contains("ff00::")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    )
}

fn prefix(text: &str) -> Prefix {
    let cidr: Cidr = text.parse().unwrap();
    Prefix::new(cidr.address(), cidr.prefix()).unwrap()
}

fn wanted(allowed_ips: &[&str], endpoints: &[&str]) -> DesiredRouting {
    DesiredRouting {
        table: Table::Auto,
        fwmark: None,
        allowed_ips: allowed_ips.iter().map(|text| prefix(text)).collect(),
        endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
        addresses: vec!["10.8.0.2/24".parse().unwrap(), "fd08::2/64".parse().unwrap()],
        bypasses_dns: false,
    }
}

/// Returns the routing of a full tunnel to a remote endpoint.
fn full() -> DesiredRouting {
    wanted(&["0.0.0.0/0", "::/0"], &["198.51.100.7", "2001:db8:99::7"])
}

/// Makes a device with the addresses of [`wanted`].
fn add_device(host: &Host, name: &str) {
    let far = format!("{name}x");
    host.ip(&["link", "add", name, "type", "veth", "peer", "name", &far]);
    host.ip(&["link", "set", &far, "up"]);
    host.ip(&["address", "add", "10.8.0.2/24", "dev", name]);
    host.ip(&["address", "add", "fd08::2/64", "dev", name, "nodad"]);
    host.ip(&["link", "set", name, "up"]);
}

fn open(host: &Host, name: &str) -> Routes {
    host.inside(|| {
        let link = Link::open(name).unwrap();
        Routes::open(name, link.index()).unwrap()
    })
}

fn apply(host: &Host, routes: &mut Routes, wanted: &DesiredRouting) -> AppliedRouting {
    host.inside(|| routes.apply(wanted)).unwrap()
}

/// Returns the result without errors, with this mark to be used.
fn marked(mark: u32) -> AppliedRouting {
    AppliedRouting { mark: NonZeroU32::new(mark), warnings: vec![] }
}

/// Returns the device that packets to `destination` with `mark` (0 for none) leave by.
fn route_to(host: &Host, destination: &str, mark: u32) -> String {
    let text = host.ip(&["-o", "route", "get", destination, "mark", &mark.to_string()]);
    let mut words = text.split_whitespace();
    words.find(|word| *word == "dev").unwrap_or_else(|| panic!("no device in {text}"));
    words.next().unwrap().to_owned()
}

/// Makes two hosts; the client has default routes by eth0, to the server, and the device `tun7`.
fn lab() -> Lab {
    let lab = Lab::new(2);
    let host = lab.client();
    host.ip(&["route", "add", "default", "via", "192.0.2.1"]);
    host.ip(&["route", "add", "default", "via", "2001:db8::1"]);
    add_device(host, "tun7");
    lab
}
