//! A full tunnel of one address family: the other family bypasses it, and the log says so and names
//! the networks to add.

use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::wireguard::settings::Keys;
use crate::wireguard::site::Site;

const WORLD_V4: &str = "203.0.113.9";
const WORLD_V6: &str = "2001:db8:77::9";

/// Writes a client's file, whose peer has these allowed IPs.
fn write(site: &Site, keys: &Keys, allowed: &str) -> String {
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.9.0.2/32, fd00:9::2/128\n[Peer]\nPublicKey = {}\n\
         Endpoint = 192.0.2.2:51820\nAllowedIPs = {allowed}\n",
        keys.private,
        Keys::new().public
    );
    site.write("tun0.conf", &text).to_str().unwrap().to_owned()
}

fn start(site: &Site, arguments: &[&str]) -> Daemon {
    let daemon = site.launch(Path::new(BINARY), arguments).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

fn goes_into_the_tunnel(site: &Site, address: &str) -> bool {
    site.ip(&["route", "get", address]).contains("dev tun0")
}

#[test]
fn a_full_tunnel_of_one_family_warns_that_the_other_goes_past_it() {
    let site = Site::new(&Arc::new(Lab::new(2)), 0);
    site.ip(&["route", "add", "default", "via", "192.0.2.2"]);
    site.ip(&["route", "add", "default", "via", "2001:db8::2"]);
    let keys = Keys::new();
    for (allowed, inside, outside, add) in [
        ("0.0.0.0/0", WORLD_V4, WORLD_V6, "add ::/0"),
        ("::/1, 8000::/1", WORLD_V6, WORLD_V4, "add 0.0.0.0/0"),
    ] {
        let file = write(&site, &keys, allowed);
        let daemon = start(&site, &["--config", &file]);
        assert!(goes_into_the_tunnel(&site, inside) && !goes_into_the_tunnel(&site, outside));
        let warning = daemon.wait_for("bypasses it");
        assert!(warning.contains("WARN") && warning.contains(add), "{warning}");
        // the networks named in the log fix it
        write(&site, &keys, "0.0.0.0/0, ::/0");
        daemon.signal(Signal::SIGHUP);
        crate::waiting::eventually("both families go into the tunnel", || {
            goes_into_the_tunnel(&site, WORLD_V4) && goes_into_the_tunnel(&site, WORLD_V6)
        });
        // and it is reported again when they are removed
        write(&site, &keys, allowed);
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_more("bypasses it", 1);
        assert_eq!(daemon.stop().lines.iter().filter(|line| line.contains("bypasses it")).count(), 2);
    }
    // nothing bypasses a kill switch, and a tunnel of some networks is not a full one
    for arguments in [&["--kill-switch"][..], &[]] {
        let file = write(&site, &keys, if arguments.is_empty() { "10.0.0.0/8" } else { "0.0.0.0/0" });
        let daemon = start(&site, &[&["--config", &file], arguments].concat());
        assert_eq!(daemon.count("bypasses it"), 0, "{:?}", daemon.lines());
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}
