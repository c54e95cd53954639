//! The hosts: a client with a full tunnel and a kill switch, or a server with NAT.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::older::{Library, NfTables};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::metrics::scrape;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, PORT, Plan};
use crate::wireguard::settings::Settings;
use crate::wireguard::site::Site;

/// Addresses that stand for the Internet.
pub(super) const WORLD_V4: &str = "203.0.113.1";
pub(super) const WORLD_V6: &str = "2001:db8:ffff::1";
const METRICS: &str = "127.0.0.1:9586";

/// A tunnel whose host is changed by other programs, and its other end.
pub(super) struct Stage {
    /// The host that is changed.
    pub(super) site: Arc<Site>,
    pub(super) daemon: Daemon,
    /// The router between the two ends of a client's tunnel, or the router that is the server.
    pub(super) router: Site,
    /// The addresses that answer through the tunnel, and the host that pings them.
    targets: Vec<IpAddr>,
    asker: Arc<Site>,
    _other: Node,
    _library: Library,
}

impl Stage {
    /// Starts the client of a full tunnel of both families. The Internet answers it without a
    /// tunnel, too.
    pub(super) fn full_tunnel(nf_tables: NfTables, arguments: &[&str]) -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let mut plan = Plan::new(&lab, Outer::V4);
        for address in [format!("{WORLD_V4}/32"), format!("{WORLD_V6}/128")] {
            plan.server_site.ip(&["address", "add", &address, "dev", "lo"]);
        }
        plan.client.mtu = Some(1420);
        plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
        let other = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
        let router = Site::new(&lab, 2);
        router.ip(&["route", "add", WORLD_V4, "via", "192.0.2.1"]);
        router.ip(&["route", "add", WORLD_V6, "via", "2001:db8::1"]);
        let library = Library::new(nf_tables);
        let daemon = start(&plan.client_site, &plan.client, arguments, &library);
        let site = Arc::clone(&plan.client_site);
        let targets = [WORLD_V4, WORLD_V6].map(|address| address.parse().unwrap()).into();
        let asker = Arc::clone(&site);
        Self { site, daemon, router, targets, asker, _other: other, _library: library }
    }

    /// Starts a server on a host that was not a router. Its peer reaches the network behind it;
    /// there are networks behind the peer.
    pub(super) fn server(nf_tables: NfTables, arguments: &[&str]) -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let mut plan = Plan::between(&lab, [2, 1], Outer::V4);
        plan.server.mtu = Some(1420);
        plan.server.peers[0].allowed.extend(["172.16.0.0/24".to_owned(), "fd00:17::/64".to_owned()]);
        let peer = &mut plan.client.peers[0];
        peer.endpoint = Some(format!("198.51.100.254:{PORT}"));
        peer.allowed.extend(["192.0.2.0/24".to_owned(), "2001:db8::/64".to_owned()]);
        plan.server_site
            .shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
        // there, only the server's address is reachable
        for family in ["-4", "-6"] {
            lab.host(0).ip(&[family, "route", "delete", "default"]);
        }
        let library = Library::new(nf_tables);
        let arguments = [&["--nat", "auto", "--policy", "isolate"], arguments].concat();
        let daemon = start(&plan.server_site, &plan.server, &arguments, &library);
        let other = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
        let targets = ["10.9.0.1", "fd00:9::1", "192.0.2.1", "2001:db8::1"];
        let targets = targets.map(|address| address.parse().unwrap()).into();
        let (site, asker) = (Arc::clone(&plan.server_site), Arc::clone(&plan.client_site));
        Self { site, daemon, router: Site::new(&lab, 2), targets, asker, _other: other, _library: library }
    }

    /// Waits until the kernel has assigned the devices' link-local addresses.
    pub(super) fn settle(&self) {
        eventually("no address is tentative", || {
            self.site.ip(&["-6", "address", "show", "tentative"]).is_empty()
        });
    }

    /// Panics unless traffic passes through the tunnel, over both families.
    pub(super) fn passes(&self) {
        for address in &self.targets {
            self.asker.ping(*address);
        }
    }

    /// Runs `wontun health`.
    pub(super) fn health(&self) -> Finished {
        finish(self.site.command(BINARY).args(["health", "--tun", "wg0"]), TIMEOUT)
    }

    /// Returns the number of repairs of all kinds, from the metrics.
    pub(super) fn repairs(&self) -> f64 {
        let address: SocketAddr = METRICS.parse().unwrap();
        let scrape = scrape(self.site.host(), address);
        scrape.all("wontun_repairs_total").map(|(_, number)| number).sum()
    }

    /// Adds state of other programs beside the tunnel's.
    pub(super) fn add_foreign_state(&self) {
        let gateway = if self.targets.len() == 2 {
            Ipv4Addr::new(198, 51, 100, 254)
        } else {
            Ipv4Addr::new(198, 51, 100, 2)
        };
        self.site.shell(&format!(
            "ip address add 198.18.7.1/32 dev lo
             ip -4 rule add from 198.18.7.1 lookup 77 priority 100
             ip -6 rule add from fd77::1 lookup 77 priority 100 protocol static
             ip -4 rule add fwmark 0x77 lookup 77 priority 40000
             ip -4 route add 198.18.8.0/24 via {gateway} table 77
             ip -4 route add 198.18.9.0/24 via {gateway} proto static metric 7
             ip -6 route add fd77::/64 dev lo table 77 proto static
             nft 'table inet foreign {{
                 set hosts {{ type ipv4_addr; elements = {{ 198.18.7.1, 198.18.7.2 }} }}
                 chain early {{ type filter hook prerouting priority -200; ip saddr @hosts counter name seen accept; }}
                 counter seen {{ }}
             }}'"
        ));
    }
}

pub(super) fn start(site: &Site, settings: &Settings, arguments: &[&str], library: &Library) -> Daemon {
    let file = site.write("wg0.conf", &settings.wg_quick());
    let config = ["--config", file.to_str().unwrap(), "--metrics", METRICS];
    let launch = site.launch(BINARY.as_ref(), &[&config[..], arguments].concat());
    let daemon = launch.wrap(&library.wrapper()).spawn();
    daemon.wait_for(" ready mode=");
    library.check(&daemon);
    daemon
}
