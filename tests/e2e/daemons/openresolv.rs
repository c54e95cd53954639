//! openresolv: its interface for programs is a command, and wontun runs none. It writes a plain
//! /etc/resolv.conf, which is what is changed, and what it writes meanwhile comes back at the end.

use super::names::{Names, file};
use crate::waiting::eventually;
use crate::wireguard::kill_switch::NEIGHBOUR_V4;
use crate::wireguard::pair::SERVER_V4;

/// The servers of the file, one a line.
fn servers(names: &Names) -> String {
    names.client().shell("grep ^nameserver /etc/resolv.conf || true")
}

#[test]
fn openresolv_writes_a_plain_file_that_the_tunnel_changes() {
    let names = Names::new();
    let client = names.client();
    let (program, library) = (
        file(&["openresolv/sbin/resolvconf", "openresolv/usr/sbin/resolvconf"]),
        file(&["openresolv/lib/resolvconf", "openresolv/usr/lib/resolvconf"]),
    );
    client.shell(&format!(
        "mount -t overlay -o lowerdir={}:/usr/lib none /usr/lib",
        library.parent().unwrap().display()
    ));
    // as a DHCP client does at each renewal
    let renew = |search: &str| {
        client.shell(&format!(
            "printf 'search {search}\\nnameserver {NEIGHBOUR_V4}\\n' | {} -a eth0.dhcp",
            program.display()
        ));
    };
    let (tunnel, local) = (format!("nameserver {SERVER_V4}\n"), format!("nameserver {NEIGHBOUR_V4}\n"));
    renew("one.example");
    assert_eq!(servers(&names), local);
    let daemon = names.launch(&[]).spawn();
    daemon.wait_for("name servers applied");
    assert_eq!(servers(&names), tunnel, "{}", daemon.lines().join("\n"));
    renew("two.example");
    eventually("the tunnel's name server is back", || servers(&names) == tunnel);
    assert!(names.get_address("dns", "www.example.com").contains("203.0.113.1"));
    assert_eq!(daemon.stop().status.code(), Some(0));
    assert_eq!(servers(&names), local);
    assert!(client.shell("cat /etc/resolv.conf").contains("search two.example"));
}
