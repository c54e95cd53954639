//! Tests of pages of `docs/src/guide`, with the files of `docs/recipes`. The phone's page is tested
//! in `setup/story.rs`, those of container engines in `scripts/docker-test.sh`.

mod behind_nat;
mod import;
mod ipv6_only;
mod site_to_site;

use std::net::{IpAddr, Ipv6Addr};

use crate::lab::Host;

/// Returns the text of a recipe's file.
fn recipe(name: &str) -> String {
    let path = format!("{}/docs/recipes/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Address of a web server that only the VPN's server has a route to, and that has no route to the
/// VPN.
const WEB: [u8; 4] = [203, 0, 113, 1];
const WEB_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1);

/// Makes `web` that web server, and `outside` the VPN's server, which does not forward yet.
fn make_web(web: &Host, outside: &Host, addresses: &[IpAddr]) {
    for &address in addresses {
        let (bits, gateway) = match address {
            IpAddr::V4(_) => (32, IpAddr::from(web.v4)),
            IpAddr::V6(_) => (128, IpAddr::from(web.v6)),
        };
        web.ip(&["address", "add", &format!("{address}/{bits}"), "dev", "eth0", "nodad"]);
        outside.ip(&["route", "add", &address.to_string(), "via", &gateway.to_string()]);
    }
    outside.shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
}
