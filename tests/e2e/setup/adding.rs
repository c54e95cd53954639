//! `wontun peer add`: chosen addresses, networks behind a client, several clients, files of their
//! own.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use super::server::{Server, client, value};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::streams::Connection;
use crate::terminal::Terminal;

/// A host of the network behind the router.
const PRINTER: [u8; 4] = [192, 168, 50, 2];

/// Makes host `index` a router, with host `behind` on a LAN behind it.
fn lan(lab: &Arc<Lab>, index: usize, behind: usize) {
    let (router, host) = (lab.host(index), lab.host(behind));
    host.ip(&["link", "delete", "eth0"]);
    router.ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", host.name()]);
    for (at, device, number) in [(router, "lan0", 1), (host, "eth0", 2)] {
        at.ip(&["address", "add", &format!("192.168.50.{number}/24"), "dev", device]);
        at.ip(&["link", "set", device, "up"]);
    }
    host.ip(&["route", "add", "default", "via", "192.168.50.1"]);
    router.shell("echo 1 >/proc/sys/net/ipv4/ip_forward");
}

#[test]
fn a_network_behind_a_client_is_reached_from_another_one() {
    let lab = Arc::new(Lab::new(4));
    lan(&lab, 2, 3);
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    let added = server.run(&["peer", "add", "router", "--site", "192.168.50.0/24", "--address", "10.8.0.9"]);
    assert_eq!(added.code(), 0, "{added:?}");
    assert!(added.stderr.contains("--route 192.168.50.0/24"), "{added:?}");
    assert!(value(&added.stdout, "Address").starts_with("10.8.0.9/32, fd"), "{added:?}");
    assert!(!value(&added.stdout, "AllowedIPs").contains("192.168.50"), "{added:?}");
    let phone = server.output(&[
        "peer",
        "add",
        "phone",
        "--route",
        "192.168.50.0/24",
        "--mtu",
        "1380",
        "--keepalive",
        "7",
        "--note",
        "Anna, room 5",
    ]);
    assert!(value(&phone, "AllowedIPs").ends_with(", 192.168.50.0/24"), "{phone}");
    assert_eq!(value(&phone, "PersistentKeepalive"), "7");
    let (_router, _router_tunnel) = client(&lab, 2, &added.stdout);
    let (phone, _phone_tunnel) = client(&lab, 1, &phone);
    assert_eq!(phone.host().mtu("wg0"), 1380);
    phone.ping(PRINTER);
    Connection::open(lab.host(3), (PRINTER, 80), &phone).exchange(300_000);
    // the host on the LAN reaches the phone, whose address it sees
    lab.host(3).ping([10, 8, 0, 2]);

    // over a restart, and until the router is removed
    assert!(daemon.stop().status.success());
    let _daemon = server.serve(&[]);
    phone.ping(PRINTER);
    assert!(server.text().contains("# Note = Anna, room 5\n"), "{}", server.text());

    // changed later, with the checks of a new client
    for (wrong, part) in [
        (["router", "--route", "192.168.50.0/25"], "which is behind this very peer"),
        (["router", "--address", "10.8.0.2"], "10.8.0.2 is in use by phone"),
        (["router", "--site", "10.8.0.0/25"], "part of the VPN's network"),
        (["router", "--mtu", "576"], "at least 1280"),
    ] {
        server.fails(&[&["peer", "set"], &wrong[..]].concat(), 1, part);
    }
    let set = server.run(&["peer", "set", "router", "--site", "none"]);
    assert_eq!((set.code(), set.stderr.as_str()), (0, ""), "{set:?}");
    assert!(!phone.ping_once(PRINTER, 56), "a network that is no longer behind a peer is reached");
    assert!(!server.site.shell("ip route").contains("192.168.50"));
    let set = server.run(&["peer", "set", "router", "--site", "192.168.50.0/24,192.168.51.0/24"]);
    assert!(set.code() == 0 && set.stderr.contains("--route 192.168.50.0/24,192.168.51.0/24"), "{set:?}");
    phone.ping(PRINTER);
    let set = server.run(&["peer", "set", "router", "--address", "10.8.0.77"]);
    assert!(set.stderr.contains("needs a new file"), "{set:?}");
    assert!(
        value(&server.output(&["peer", "show", "router", "--file"]), "Address")
            .starts_with("10.8.0.77/32, fd"),
        "the other family's address stays"
    );
    phone.ping(PRINTER);

    server.output(&["peer", "remove", "router"]);
    assert!(!phone.ping_once(PRINTER, 56), "a network behind a peer that was removed is reached");
    assert!(!server.site.shell("ip route").contains("192.168.50"));
}

#[test]
fn several_clients_are_added_all_or_none_each_with_a_file() {
    let server = Server::with_file();
    let folder = server.site.path().join("clients");
    let out = folder.to_str().unwrap();
    let printed = server.run(&["peer", "add", "phone", "laptop", "tablet", "--out", out]);
    assert_eq!((printed.code(), printed.stdout.as_str()), (0, ""), "{printed:?}");
    assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    for (number, name) in ["phone", "laptop", "tablet"].into_iter().enumerate() {
        let file = folder.join(format!("{name}.conf"));
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(value(&text, "Address").starts_with(&format!("10.8.0.{}/32, fd", number + 2)), "{text}");
        assert!(!server.text().contains(value(&text, "PrivateKey")));
    }
    // one text, which can be split
    let text = server.output(&["peer", "add", "a", "b"]);
    let parts: Vec<_> = text.split("\n\n# Name = ").collect();
    assert!(parts.len() == 2 && parts[0].starts_with("# Name = a\n[Interface]\n"), "{text}");
    assert!(parts[1].starts_with("b\n[Interface]\n"), "{text}");

    server.fails(&["peer", "add", "x", "phone", "--out", out], 1, "'phone': there is a peer 'phone' already");
    let both = server.run(&["peer", "add", "x", "a", "b"]);
    let lines: Vec<_> = both.stderr.lines().collect();
    assert!(both.code() == 1 && lines.len() == 3 && lines[2].contains("2 errors"), "{both:?}");
    // no file is overwritten, and none is left
    std::fs::write(folder.join("z.conf"), "mine").unwrap();
    server.fails(&["peer", "add", "y", "z", "--out", out], 1, "z.conf exists");
    assert!(!folder.join("y.conf").exists());
    assert_eq!(std::fs::read_to_string(folder.join("z.conf")).unwrap(), "mine");
    server.fails(&["peer", "add", "y", "--out", folder.join("z.conf").to_str().unwrap()], 1, "z.conf exists");
    server.fails(&["peer", "add", "a/b", "c", "--out", out], 1, "'a/b' has a '/'");
    for (option, given) in [("--address", "10.8.0.99"), ("--site", "192.168.5.0/24"), ("--qr-file", "/x.svg")]
    {
        server.fails(
            &["peer", "add", "x", "y", option, given],
            2,
            &format!("{option} belongs to one client"),
        );
    }
    server.fails(&["peer", "add", "x", "--address", "10.9.0.1"], 1, "outside of the server's network");
    server.fails(&["peer", "add", "x", "--site", "0.0.0.0/0"], 1, "default route");
    server.fails(&["peer", "add", "x", "--site", "10.8.0.0/25"], 1, "part of the VPN's network");
    server.fails(&["peer", "add", "x", "--site", "192.168.5.1/24"], 2, "write 192.168.5.0/24");
    server.fails(&["peer", "add", "x", "--mtu", "60"], 2, "--mtu 60");
    // one file, of one client, by its path
    let file = server.site.path().join("x.conf");
    server.output(&["peer", "add", "x", "--out", file.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    // a network of this host
    let added = server.run(&["peer", "add", "near", "--site", "192.0.2.0/25"]);
    assert!(added.stderr.contains("overlaps 192.0.2.1/24 of this host's eth0"), "{added:?}");
}

/// Runs `wontun peer add` on a terminal, answers its question, if any, with `answer`, and returns
/// what it wrote.
fn on_terminal(server: &Server, args: &[&str], answer: Option<&str>) -> String {
    let mut command = server.site.command("setsid");
    command.args(["--ctty", "--wait", BINARY, "peer", "add"]).args(args).env("WONTUN_DIR", &server.dir);
    let mut terminal = Terminal::start(command, 120, 100);
    if let Some(answer) = answer {
        terminal.wait_for("the question", |lines| lines.iter().any(|line| line.ends_with("too? [y/N]")));
        terminal.press(answer);
    }
    let state = terminal.wait_exit();
    assert!(state.status.success(), "{state:?}");
    String::from_utf8_lossy(&state.bytes).into_owned()
}

#[test]
fn a_terminal_shows_the_code_only() {
    let server = Server::with_file();
    let shown = on_terminal(&server, &["phone", "--qr"], Some("\r"));
    assert!(shown.contains('█') && !shown.contains("PrivateKey"), "{shown}");
    let shown = on_terminal(&server, &["watch", "--qr"], Some("y\r"));
    assert!(shown.contains('█') && shown.contains("PrivateKey = "), "{shown}");
    let shown = on_terminal(&server, &["tablet", "--qr", "--text"], None);
    assert!(shown.contains('█') && shown.contains("PrivateKey = ") && !shown.contains("[y/N]"), "{shown}");
    let shown = on_terminal(&server, &["laptop"], None);
    assert!(!shown.contains('█') && shown.contains("PrivateKey = "), "{shown}");
    // elsewhere the file can be redirected as before
    let run = server.run(&["peer", "add", "other", "--qr"]);
    assert!(run.stdout.contains("PrivateKey = ") && run.stderr.contains('█'), "{run:?}");
}

/// Returns a file of `count` clients, whose names begin with `prefix`.
fn list(prefix: &str, count: usize) -> String {
    let row = |number| {
        let network = format!("10.{}.{}.0/24", number / 250, number % 250);
        format!("{prefix} {number},\"floor {number}, left\",{network}\n")
    };
    "name,note,route\n".to_owned() + &(0..count).map(row).collect::<String>()
}

#[test]
fn a_file_of_clients_is_added_whole_or_not_at_all() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon =
        server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--subnet", "10.64.0.0/16,fd64::/64"]);
    let folder = server.site.path().join("clients");
    let out = folder.to_str().unwrap();
    // everything that is wrong at once, and nothing is written
    let wrong =
        "name;address;note;site\nphone;10.64.0.9;a;\nphone;10.9.0.9;b;\nlaptop;10.64.0.300;c;0.0.0.0/0\n";
    let wrong = server.site.write("wrong.csv", wrong);
    let before = server.text();
    let run = server.run(&["peer", "add", "--from", wrong.to_str().unwrap(), "--out", out]);
    assert_eq!((run.code(), run.stdout.as_str()), (1, ""), "{run:?}");
    for (line, part) in [
        ("wrong.csv:3: ", "there is a peer 'phone' already"),
        ("wrong.csv:3: ", "10.9.0.9 is outside"),
        ("wrong.csv:4: ", "address: found '10.64.0.300'"),
        ("wontun: ", "3 errors: nothing was changed"),
    ] {
        assert!(run.stderr.lines().any(|said| said.contains(line) && said.contains(part)), "{part}: {run:?}");
    }
    assert_eq!(server.text(), before);
    assert!(!folder.exists());

    // a thousand, which the running tunnel has at once
    let file = server.site.write("clients.csv", &list("client", 1000));
    let run = server.run(&["peer", "add", "--from", file.to_str().unwrap(), "--out", out, "--mtu", "1400"]);
    assert_eq!((run.code(), run.stdout.as_str(), run.stderr.as_str()), (0, "", ""), "{run:?}");
    assert_eq!(server.site.wg(&["show", "tun0", "peers"]).lines().count(), 1000);
    let text = std::fs::read_to_string(folder.join("client 999.conf")).unwrap();
    assert_eq!(value(&text, "Address"), "10.64.3.233/32, fd64::3e9/128");
    assert_eq!(value(&text, "MTU"), "1400");
    assert!(value(&text, "AllowedIPs").ends_with(", 10.3.249.0/24"), "{text}");
    assert!(server.text().contains(
        "# Name = client 7\n# ClientRoutes = 10.0.7.0/24\n# ClientMTU = 1400\n# Note = floor 7, left\n"
    ));
    let (phone, _phone) = client(&lab, 1, &text);
    phone.ping([10, 64, 0, 1]);
    // JSON from standard input
    let json = "[{\"name\": \"last\", \"address\": \"10.64.9.9\", \"full_tunnel\": true}]";
    let json = server.site.write("last.json", json);
    let added = server.site.shell(&format!(
        "WONTUN_DIR={} {BINARY} peer add --ipv6 always --from - <{}",
        server.dir.display(),
        json.display()
    ));
    assert!(
        value(&added, "Address").starts_with("10.64.9.9/32, ")
            && value(&added, "AllowedIPs") == "0.0.0.0/0, ::/0"
    );
    assert_eq!(daemon.count("reloaded the configuration"), 0);
}
