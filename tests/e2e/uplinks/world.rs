//! A client with two uplinks, and a server.
//!
//! The client's `wlan0` leads to the router `wifi` (10.1.0.0/24, 2001:db8:a::/64), its `wwan0` to
//! the router `lte` (10.2.0.0/24, 2001:db8:b::/64). Both routers translate IPv4 addresses (NAPT)
//! and, like those of providers, drop what has a source that is not theirs.

use std::net::IpAddr;
use std::sync::Arc;

use super::meter::Meter;
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::wireguard::implementation::Implementation::{self, ConfigFile};
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, Outer, Plan, SERVER_V4};

/// One of the client's uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uplink {
    Wifi,
    Lte,
}

impl Uplink {
    pub(super) const fn device(self) -> &'static str {
        match self {
            Self::Wifi => "wlan0",
            Self::Lte => "wwan0",
        }
    }

    /// Returns the parts of its networks that differ.
    pub(super) const fn networks(self) -> (&'static str, &'static str) {
        match self {
            Self::Wifi => ("10.1.0", "2001:db8:a"),
            Self::Lte => ("10.2.0", "2001:db8:b"),
        }
    }

    /// Returns the metric of its default routes.
    const fn metric(self) -> u32 {
        match self {
            Self::Wifi => 600,
            Self::Lte => 700,
        }
    }

    const fn router(self) -> usize {
        match self {
            Self::Wifi => 2,
            Self::Lte => 3,
        }
    }

    /// Returns the shell line that adds its IPv4 default route.
    pub(super) fn route_v4(self) -> String {
        let (v4, _) = self.networks();
        format!("ip route add default via {v4}.1 dev {} metric {}", self.device(), self.metric())
    }

    /// Returns the shell line that adds its IPv6 default route.
    pub(super) fn route_v6(self) -> String {
        let (_, v6) = self.networks();
        format!("ip route add default via {v6}::1 dev {} metric {}", self.device(), self.metric())
    }
}

/// The hosts.
pub(super) struct World {
    pub(super) lab: Arc<Lab>,
}

impl World {
    /// Makes the hosts. The client's uplinks are up and have addresses, but no default routes.
    pub(super) fn new() -> Self {
        let world = Self { lab: Arc::new(Lab::new(4)) };
        let client = world.lab.client();
        // a neighbour is asked for from a link-local address, and the kernel's own is not usable
        // for a second, while it is checked for duplicates
        for (number, host) in [0, 2, 3].map(|index| (index + 1, world.lab.host(index))) {
            host.ip(&["address", "add", &format!("fe80::{number}/64"), "dev", "eth0", "nodad"]);
        }
        client.ip(&["link", "delete", "eth0"]);
        for uplink in [Uplink::Wifi, Uplink::Lte] {
            let (device, router) = (uplink.device(), world.router(uplink));
            let (v4, v6) = uplink.networks();
            client.shell(&format!(
                "ip link add {device} type veth peer name lan netns {router}
                ip link set {device} up
                ip address add {v4}.2/24 dev {device}
                ip address add fe80::2/64 dev {device} nodad
                ip address add {v6}::2/64 dev {device} nodad",
                router = router.name(),
            ));
            router.shell(&format!(
                "ip link set lan up
                ip address add {v4}.1/24 dev lan
                ip address add fe80::1/64 dev lan nodad
                ip address add {v6}::1/64 dev lan nodad
                echo 1 > /proc/sys/net/ipv4/ip_forward
                echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
                nft 'table inet router {{
                    chain forward {{ type filter hook forward priority 0;
                        iifname lan ip saddr != {v4}.0/24 drop; iifname lan ip6 saddr != {v6}::/64 drop; }}
                    chain nat {{ type nat hook postrouting priority 100;
                        oifname eth0 meta nfproto ipv4 masquerade; }}
                }}'"
            ));
            let server = world.lab.server();
            server.ip(&["-6", "route", "add", &format!("{v6}::/64"), "via", &router.v6.to_string()]);
        }
        world
    }

    pub(super) fn client(&self) -> &Host {
        self.lab.client()
    }

    pub(super) fn router(&self, uplink: Uplink) -> &Host {
        self.lab.host(uplink.router())
    }

    /// Plans a tunnel. With `is_full`, the client routes everything into it.
    pub(super) fn plan(&self, outer: Outer, is_full: bool) -> Plan {
        let mut plan = Plan::new(&self.lab, outer);
        if is_full {
            plan.client.peers[0].allowed = ["0.0.0.0/0", "::/0"].map(str::to_owned).to_vec();
        }
        plan
    }
}

/// A running tunnel.
pub(super) struct Tunnel {
    pub(super) server: Node,
    pub(super) client: Node,
}

impl Tunnel {
    pub(super) fn start(plan: &Plan) -> Self {
        Self::with_server(plan, Implementation::Wontun)
    }

    pub(super) fn with_server(plan: &Plan, server: Implementation) -> Self {
        let server = Node::start(&plan.server_site, server, &plan.server);
        let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
        client.ping(SERVER_V4);
        Self { server, client }
    }

    /// Measures packets of the client and their answers.
    pub(super) fn meter(&self) -> Meter {
        Meter::start((&self.client.site, address(CLIENT_V4)), (&self.server.site, address(SERVER_V4)))
    }

    /// Measures packets of the server and their answers.
    pub(super) fn meter_from_server(&self) -> Meter {
        Meter::start((&self.server.site, address(SERVER_V4)), (&self.client.site, address(CLIENT_V4)))
    }

    /// Returns the number of handshakes that the client has completed.
    pub(super) fn handshakes(&self) -> usize {
        self.client.daemon.count("handshake completed")
    }
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Gives the client its own /etc/hosts and /etc/resolv.conf, which name `servers`.
pub(super) fn own_resolver(plan: &Plan, servers: &str) -> Folder {
    let folder = Folder::new();
    folder.write("hosts", "127.0.0.1 localhost\n");
    set_servers(&folder, servers);
    let path = folder.path().display();
    plan.client_site.shell(&format!(
        "mount --bind {path}/hosts /etc/hosts; mount --bind {path}/resolv.conf /etc/resolv.conf"
    ));
    folder
}

/// Sets the name server, as a program that manages networks does.
pub(super) fn set_servers(folder: &Folder, servers: &str) {
    folder.write("resolv.conf", &format!("nameserver {servers}\noptions timeout:1 attempts:1\n"));
}
