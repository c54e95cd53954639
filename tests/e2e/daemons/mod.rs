//! Programs that change the network of a tunnel's host: firewalls that start and reload, network
//! managers that start and reconfigure, Docker that starts later. The programs are the real ones,
//! each on a host of the laboratory with its own `/run` and D-Bus.
//!
//! After each change all of wontun's state exists again, exactly once; packets pass, or the log
//! names the rule that accepts them; and the program's own state is unchanged.

mod client;
mod events;
mod names;
pub(crate) mod program;
mod server;
mod state;

mod disabled_ipv6;
mod docker;
mod firewalld;
mod interfaces;
mod iptables;
mod network_manager;
mod networkd;
mod nftables;
mod openresolv;
mod resolved;
mod ufw;

use std::path::Path;

/// The programs, each with its Debian package.
const PROGRAMS: &[(&str, &str)] = &[
    ("dbus-daemon", "dbus"),
    ("dhclient", "isc-dhcp-client"),
    ("dnsmasq", "dnsmasq-base"),
    ("dockerd", "docker.io"),
    ("firewalld", "firewalld"),
    ("ifup", "ifupdown"),
    ("iptables", "iptables"),
    ("iptables-legacy", "iptables"),
    ("NetworkManager", "network-manager"),
    ("polkitd", "polkitd"),
    ("systemd-networkd", "systemd"),
    ("tayga", "tayga"),
    ("ufw", "ufw"),
];

/// Panics with a message that names those of `programs` that this machine lacks.
pub(crate) fn need(programs: &[&str]) {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/lib/systemd", "/usr/lib/polkit-1"];
    for program in programs {
        let is_there = places.iter().any(|place| Path::new(place).join(program).exists());
        let package = PROGRAMS.iter().find(|(name, _)| name == program).map(|(_, package)| *package);
        assert!(
            is_there,
            "'{program}' is missing, and this test needs it: apt-get install {}",
            package.unwrap_or(program)
        );
    }
}
