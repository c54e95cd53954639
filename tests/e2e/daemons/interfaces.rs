//! ifupdown and dhclient: the uplink goes down and up, and gets its address and default route, then
//! others.

use super::client::Stage;
use super::need;
use super::program::Program;
use crate::waiting::eventually;
use crate::wireguard::site::Site;

const INTERFACES: &str = "iface eth0 inet static
    address 198.51.100.2/24
    gateway 198.51.100.254
iface eth0 inet6 static
    address 2001:db8:1::2/64
    gateway 2001:db8:1::fe
    dad-attempts 0
";

fn ifupdown(arguments: &[&str]) {
    need(&["ifup"]);
    let stage = Stage::new();
    let site = stage.site();
    let file = site.write("interfaces", INTERFACES);
    let client = stage.start(arguments);
    site.shell(
        "mkdir -p /run/network; echo eth0=eth0 >/run/network/ifstate; echo eth0 >/run/network/ifstate.eth0",
    );
    for round in 1..=2 {
        site.shell(&format!("ifdown --interfaces={} eth0", file.display()));
        assert!(!site.shell("ip route show default").contains("eth0"));
        site.shell(&format!("ifup --interfaces={} eth0", file.display()));
        client.is_as_before(&format!("ifdown and ifup, round {round}"));
    }
    client.finish("ifupdown, client");
}

#[test]
fn a_client_outlives_ifupdown() {
    ifupdown(&[]);
}

#[test]
fn a_locked_client_outlives_ifupdown() {
    ifupdown(&["--kill-switch"]);
}

/// Starts a DHCP server on the router that assigns `address` and announces `gateway`.
fn start_server(router: &Site, address: &str, gateway: &str) -> Program {
    let range = format!("--dhcp-range={address},{address},255.255.255.0,2m");
    let gateway = format!("--dhcp-option=option:router,{gateway}");
    let mut server = Program::start(
        router,
        "dnsmasq",
        &[
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=right",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--dhcp-leasefile=/run/leases",
            "--pid-file=/run/dnsmasq.pid",
            "--user=root",
            &range,
            &gateway,
        ],
    );
    server.wait_until("the DHCP server listens", || !router.shell("ss -Hlun 'sport = 67'").is_empty());
    server
}

fn dhclient(arguments: &[&str]) {
    need(&["dhclient", "dnsmasq"]);
    let stage = Stage::new();
    let (site, router) = (stage.site(), &stage.router);
    // a second gateway, on the same router
    router.ip(&["address", "add", "198.51.100.253/24", "dev", "right"]);
    let server = start_server(router, "198.51.100.20", "198.51.100.254");
    // resolv.conf is the machine's
    site.shell("mkdir -p /run/dhcp; touch /run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf");
    site.ip(&["-4", "address", "flush", "dev", "eth0"]);
    let settings =
        site.write("dhclient.conf", "supersede dhcp-renewal-time 2;\nsupersede dhcp-rebinding-time 60;\n");
    let settings = settings.to_str().unwrap();
    let files = ["-cf", settings, "-lf", "/run/dhcp/leases", "-pf", "/run/dhcp/pid"];
    let mut client_of_dhcp =
        Program::start(site, "dhclient", &[&["-d", "-4"][..], &files, &["eth0"]].concat());
    client_of_dhcp.wait_until("dhclient has an address", || {
        site.shell("ip route show default").contains("via 198.51.100.254")
    });
    let client = stage.start(arguments);
    let renewals = client_of_dhcp.output().matches("bound to").count();
    eventually("dhclient renews", || client_of_dhcp.output().matches("bound to").count() > renewals);
    client.is_as_before("a renewal");
    server.stop();
    let server = start_server(router, "198.51.100.21", "198.51.100.253");
    // with the same address, dhclient would not change the routes
    eventually("there is a new default route", || {
        site.shell("ip route show default").contains("via 198.51.100.253")
    });
    client.is_as_before("a new address and default route");
    client_of_dhcp.stop();
    drop(server);
    client.finish("dhclient, client");
}

#[test]
fn a_client_outlives_dhclient() {
    dhclient(&[]);
}

#[test]
fn a_locked_client_outlives_dhclient() {
    dhclient(&["--kill-switch"]);
}
