//! systemd-resolved: `DNS =` of a full tunnel's client. No name leaves the host outside of the
//! tunnel's encryption, and what other programs do to the link's settings is undone.

use std::net::IpAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::names::{MARKER, Names, file};
use super::need;
use super::program::{Program, start_dbus};
use crate::daemon::Daemon;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish, holds_within};
use crate::wireguard::kill_switch::{NEIGHBOUR_V4, WORLD_V4};
use crate::wireguard::pair::{PORT, SERVER_V4};

/// Longest time for a repair, on a busy machine.
const REPAIR: Duration = Duration::from_secs(10);

/// A client's host with systemd-resolved, which asks the name server of the local network.
struct Lab {
    names: Names,
    _dbus: Program,
    resolved: Option<Program>,
}

impl Deref for Lab {
    type Target = Names;

    fn deref(&self) -> &Names {
        &self.names
    }
}

fn program() -> PathBuf {
    file(&[
        "systemd-resolved/lib/systemd/systemd-resolved",
        "systemd-resolved/usr/lib/systemd/systemd-resolved",
    ])
}

impl Lab {
    fn new() -> Self {
        need(&["dbus-daemon"]);
        let names = Names::new();
        names.client().shell(
            "mkdir -p /run/systemd/resolve
             getent passwd systemd-resolve >/dev/null ||
                 echo 'systemd-resolve:x:64001:64001::/:/usr/sbin/nologin' >>/etc/passwd
             getent group systemd-resolve >/dev/null || echo 'systemd-resolve:x:64001:' >>/etc/group
             echo 'wontun:x:64002:64002::/:/usr/sbin/nologin' >>/etc/passwd
             echo 'wontun:x:64002:' >>/etc/group
             ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
             sed -i '/^hosts:/d' /etc/nsswitch.conf
             echo 'hosts: files resolve [!UNAVAIL=return] dns' >>/etc/nsswitch.conf
             chown systemd-resolve:systemd-resolve /run/systemd/resolve
             mount -o remount,bind,ro /sys",
        );
        let dbus = start_dbus(names.client());
        let mut lab = Self { names, _dbus: dbus, resolved: None };
        lab.start_resolved();
        lab
    }

    fn start_resolved(&mut self) {
        let path = program();
        let mut resolved = Program::start(self.client(), path.to_str().unwrap(), &[]);
        resolved.wait_until("resolved answers", || self.link("eth0").contains("Protocols"));
        self.resolved = Some(resolved);
        let eth0 = self.index("eth0");
        let [a, b, c, d] = NEIGHBOUR_V4.octets();
        self.call(&format!("SetDNS 'a(iay)' 1 2 4 {a} {b} {c} {d}"), eth0);
        self.call("SetDefaultRoute b true", eth0);
    }

    fn stop_resolved(&mut self) {
        self.resolved.take().unwrap().stop();
    }

    /// Calls a method of a link as another program does.
    fn call(&self, method: &str, index: u32) {
        // one digit: the path would have it escaped
        assert!(index < 10);
        self.client().shell(&format!(
            "busctl call org.freedesktop.resolve1 /org/freedesktop/resolve1/link/_3{index} \
             org.freedesktop.resolve1.Link {method}"
        ));
    }

    /// Returns what `resolvectl` says of a link.
    fn link(&self, device: &str) -> String {
        let path = file(&["systemd-resolved/usr/bin/resolvectl"]);
        let mut command = self.client().command(path.to_str().unwrap());
        finish(command.args(["--no-pager", "status", device]), TIMEOUT).stdout
    }

    fn is_applied(&self) -> bool {
        let text = self.link("wg0");
        text.contains(&format!("DNS Servers: {SERVER_V4}\n"))
            && text.contains("DNS Domain: ~.")
            && text.contains("+DefaultRoute")
    }

    fn start(&self, arguments: &[&str]) -> Daemon {
        self.started(self.launch(arguments).spawn())
    }

    fn started(&self, daemon: Daemon) -> Daemon {
        daemon.wait_for(" ready mode=");
        assert!(
            holds_within(REPAIR, || self.is_applied()),
            "{}\n{}",
            self.link("wg0"),
            daemon.lines().join("\n")
        );
        daemon
    }
}

/// Before the tunnel, names are seen on the link outside; the capture misses none of them.
#[test]
fn no_name_leaves_a_locked_client_in_clear() {
    let lab = Lab::new();
    let (_, seen) = lab.ask_all(true);
    assert!(seen >= 6, "the capture has {seen} packets of the names asked without a tunnel");
    let daemon = lab.start(&["--kill-switch"]);
    assert!(lab.is_tunnelled());
    let (asked, _) = lab.tunnel.query_counts();
    let (local, _) = lab.local.query_counts();
    let (answers, seen) = lab.ask_all(true);
    println!("FIGURE resolved, kill switch: {seen} packets with a name in clear, answered: {answers:?}");
    assert_eq!((seen, answers), (0, vec![true, true, false, true]), "{}", daemon.lines().join("\n"));
    assert!(lab.tunnel.query_counts().0 >= asked + 2 && lab.local.query_counts().0 == local);
    assert_eq!(daemon.stop().status.code(), Some(0));
    // the device is gone, and its settings with it
    assert!(lab.get_address("resolve", &format!("after.{MARKER}.example.com")).contains("192.0.2.1"));
}

/// Without the kill switch: none of programs that use the system's resolver. resolved, started
/// again, and other programs that change the settings change nothing about that.
#[test]
fn no_name_of_the_systems_resolver_leaves_a_client_in_clear() {
    let mut lab = Lab::new();
    lab.call("SetDomains 'a(sb)' 1 lan.example false", lab.index("eth0"));
    let daemon = lab.start(&[]);
    daemon.wait_for("names below lan.example are asked of other name servers");
    let check = |lab: &Lab, what: &str| {
        assert!(holds_within(REPAIR, || lab.is_applied()), "{what}: {}", lab.link("wg0"));
        let (answers, seen) = lab.ask_all(false);
        println!("FIGURE resolved, {what}: {seen} packets with a name in clear");
        assert_eq!((seen, answers), (0, vec![true; 2]), "{what}: {}", daemon.lines().join("\n"));
    };
    check(&lab, "no kill switch");
    let restored = daemon.count("systemd-resolved were changed by another program");
    lab.call("Revert", lab.index("wg0"));
    eventually("the settings are restored", || {
        daemon.count("systemd-resolved were changed by another program") > restored
    });
    check(&lab, "reverted by another program");
    lab.stop_resolved();
    lab.client().shell("rm -rf /run/systemd/resolve/*");
    lab.start_resolved();
    check(&lab, "resolved restarted without its state");
    assert_eq!(daemon.stop().status.code(), Some(0));
}

/// The endpoint has a name. While the tunnel is up, and resolved asks its server for all names, the
/// name is found past it: the server behind the tunnel says something else.
#[test]
fn an_endpoints_name_is_found_past_the_tunnel() {
    let mut lab = Lab::new();
    lab.names.stage.plan.client.peers[0].endpoint = Some(format!("vpn.example.com:{PORT}"));
    let endpoint = format!("{}:{PORT}", lab.names.stage.plan.server_site.v4);
    let up = |lab: &Lab| {
        eventually("the tunnel is up", || lab.client().ping_once(SERVER_V4.parse::<IpAddr>().unwrap(), 56))
    };
    for (allowed, options) in [("0.0.0.0/0", &["--kill-switch"][..]), ("10.9.0.0/24", &[])] {
        lab.names.stage.plan.client.peers[0].allowed = vec![allowed.to_owned()];
        let daemon = lab.start(options);
        up(&lab);
        let (asked, behind) = (lab.local.query_counts().0, lab.tunnel.query_counts().0);
        lab.client().write("wg0.conf", &lab.conf().replace("vpn.example.com", "other.example.com"));
        daemon.signal(Signal::SIGHUP);
        eventually("the name is asked for outside", || lab.local.query_counts().0 > asked);
        up(&lab);
        assert!(lab.client().wg(&["show", "wg0", "endpoints"]).contains(&endpoint));
        assert_eq!(lab.tunnel.query_counts().0, behind, "the tunnel's server was asked for the endpoint");
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// As the unit runs it: a user with CAP_NET_ADMIN alone, whom the packages' polkit rule allows it.
#[test]
fn the_services_user_is_allowed_by_polkit() {
    need(&["polkitd"]);
    let lab = Lab::new();
    let client = lab.client();
    let actions = file(&["systemd-resolved/usr/share/polkit-1/actions"]);
    let rule = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/systemd/50-wontun.rules");
    client.shell(&format!(
        "mount -t overlay -o lowerdir={}:/usr/share/polkit-1/actions none /usr/share/polkit-1/actions
         mkdir /run/rules
         install -m 644 {rule} /run/rules/50-wontun.rules
         mount --bind /run/rules /usr/share/polkit-1/rules.d",
        actions.display()
    ));
    let _polkit = Program::start(client, "/usr/lib/polkit-1/polkitd", &["--no-debug"]);
    let user =
        "setpriv --reuid 64002 --regid 64002 --clear-groups --inh-caps +net_admin --ambient-caps +net_admin";
    let file = client.write("wg0.conf", &lab.conf());
    client.shell(&format!(
        "chmod 644 {file}; install -m 755 {BINARY} /run/wontun; install -d -o 64002 /run/wireguard",
        file = file.display()
    ));
    let launch = || {
        let config = ["--config", file.to_str().unwrap(), "--apply-dns", "auto"];
        client.launch("/run/wontun".as_ref(), &config).wrap(user)
    };
    let daemon = lab.started(launch().spawn());
    let (answers, seen) = lab.ask_all(false);
    assert_eq!((seen, answers), (0, vec![true; 2]), "{}", daemon.lines().join("\n"));
    let names = client.shell("ps -o comm= -u 64002");
    assert!(names.contains("wontun-dns") && !names.contains("wontun-dns-set"), "{names}");
    daemon.stop();
    // without the rule: a warning that names it, and a tunnel
    client.shell("rm /run/rules/50-wontun.rules; sleep 0.3");
    let daemon = launch().spawn();
    daemon.wait_for(" ready mode=");
    daemon.wait_for("50-wontun.rules");
    assert!(!lab.is_applied());
    eventually("the tunnel is up", || client.ping_once(WORLD_V4, 56));
}

const UPLINK: &str = "[connection]
id=uplink
type=ethernet
interface-name=eth0
autoconnect=false
[ipv4]
method=manual
address1=198.51.100.2/24,198.51.100.254
dns=198.51.100.254;
[ipv6]
method=disabled
";
const MANAGER: &str = "[main]
plugins=keyfile
dns=systemd-resolved
rc-manager=unmanaged
no-auto-default=*
";
/// A file of networkd that takes the tunnel's device, and its name servers with it.
const TAKES_DEVICE: &str = "[Match]
Name=wg0
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
";

/// NetworkManager, which tells resolved the name servers of its connections, and networkd, which
/// takes the device: resolved then refuses changes but by networkd.
#[test]
fn managers_of_the_network_do_not_take_the_name_servers_away() {
    need(&["NetworkManager", "systemd-networkd"]);
    let lab = Lab::new();
    let client = lab.client();
    let (uplink, manager) = (client.write("uplink", UPLINK), client.write("manager", MANAGER));
    client.shell(&format!(
        "mount -t tmpfs none /var/lib/NetworkManager
         rm -rf /etc/NetworkManager/*
         install -D -m 600 {} /etc/NetworkManager/system-connections/uplink.nmconnection
         install -m 644 {} /etc/NetworkManager/NetworkManager.conf",
        uplink.display(),
        manager.display()
    ));
    let daemon = lab.start(&[]);
    let check = |what: &str| {
        eventually(what, || lab.is_applied());
        let (answers, seen) = lab.ask_all(false);
        assert_eq!((seen, answers), (0, vec![true; 2]), "{what}: {}", daemon.lines().join("\n"));
    };
    let mut manager = Program::start(client, "NetworkManager", &["--no-daemon"]);
    manager.wait_until("NetworkManager has started up", || {
        let status = finish(client.command("nmcli").args(["--terse", "device"]), TIMEOUT);
        status.stdout.contains("eth0:") && status.stdout.contains("wg0:")
    });
    client.shell("nmcli connection up uplink; nmcli device set wg0 managed yes");
    check("NetworkManager has set the uplink's name servers");
    manager.stop();
    let file = client.write("wg0.network", TAKES_DEVICE);
    client.shell(&format!("install -D -m 644 {} /run/systemd/network/wg0.network", file.display()));
    // NetworkManager may have changed them: the log then has the next line ten seconds later only
    if daemon.count("systemd-resolved were changed by another program") > 0 {
        std::thread::sleep(Duration::from_secs(11));
    }
    let restored = daemon.count("systemd-resolved were changed by another program");
    let mut networkd = Program::start(client, "/lib/systemd/systemd-networkd", &[]);
    networkd.wait_until("networkd has the tunnel's device", || {
        daemon.count("systemd-resolved were changed by another program") > restored
    });
    check("networkd has the tunnel's device");
    networkd.stop();
    check("networkd has ended");
}
