//! Effects of the commands on files, and their output.

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::thread;

use super::server::{Server, value};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, finish};
use crate::wireguard::site::Site;

#[test]
fn init_makes_a_key_once() {
    let server = Server::alone();
    let said = server.output(&["init"]);
    for part in ["tun0.conf: created", "10.8.0.1/24, fd", "51820", "--endpoint HOST"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let text = server.text();
    assert!(!said.contains(value(&text, "PrivateKey")), "{said}");
    let addresses: Vec<_> = server.read().configuration().interface.addresses.clone();
    assert_eq!(addresses[0].to_string(), "10.8.0.1/24");
    let v6 = addresses[1].to_string();
    assert!(v6.starts_with("fd") && v6.ends_with("::1/64"), "a unique local /64: {v6}");
    assert_eq!(std::fs::metadata(server.file()).unwrap().mode() & 0o7777, 0o600);
    // again, and with an endpoint: the key stays
    assert!(server.output(&["init"]).contains("is unchanged"));
    assert_eq!(server.text(), text);
    let said = server.output(&["init", "--endpoint", "vpn.example.com"]);
    assert!(said.contains("vpn.example.com:51820"), "{said}");
    assert_eq!(server.text().replace("# ClientEndpoint = vpn.example.com:51820\n", ""), text);
    let other = Server::alone();
    other.output(&["init"]);
    assert_ne!(value(&other.text(), "PrivateKey"), value(&text, "PrivateKey"));
    assert_ne!(other.read().configuration().interface.addresses[1].to_string(), v6);
}

#[test]
fn what_cannot_be_is_refused_in_one_line_and_changes_nothing() {
    let server = Server::alone();
    server.fails(&["peer", "list"], 78, "--dir");
    server.fails(&["peer", "add", "phone"], 78, "--dir");
    assert!(!server.dir.exists());
    server.fails(&["init", "--subnet", "192.0.2.0/25"], 78, "overlaps 192.0.2.1/24 of eth0");
    server.fails(&["init", "--subnet", "10.8.0.1/24"], 2, "10.8.0.0/24");
    server.fails(&["init", "--subnet", "10.1.0.0/24,10.2.0.0/24"], 2, "of the same address family");
    server.fails(&["init", "--endpoint", "two words"], 2, "two words");
    server.fails(&["init", "--listen-port", "0"], 2, "--listen-port");
    server.fails(&["init", "--dns", "9.9.9"], 2, "'9.9.9'");
    assert!(!server.dir.exists());
    server.output(&["init"]);
    server.fails(&["peer", "add", "phone"], 78, "init --endpoint HOST[:PORT]");
    server.output(&["init", "--endpoint", "192.0.2.1"]);
    server.fails(&["init", "--subnet", "10.9.0.0/24"], 78, "Address = 10.8.0.1/24");
    server.fails(&["serve", "--listen-port", "1"], 78, "ListenPort = 51820");
    server.fails(&["peer", "remove", "phone"], 1, "there is none yet");
    for name in ["phone", "tablet"] {
        server.output(&["peer", "add", name]);
    }
    server.fails(&["peer", "add", "phone"], 1, "there is a peer 'phone' already");
    server.fails(&["peer", "rename", "phone", "tablet"], 1, "there is a peer 'tablet' already");
    for command in ["remove", "show"] {
        server.fails(&["peer", command, "phon"], 1, "known: phone, tablet");
    }
    server.fails(&["peer", "rename", "phon", "x"], 1, "known: phone, tablet");
    for name in ["", "a\nb", "a\u{1b}b", " a", &"x".repeat(65)] {
        server.fails(&["peer", "add", name], 2, "NAME");
        server.fails(&["peer", "rename", "phone", name], 2, "NAME");
    }
    let key = server.key_of("phone");
    server.fails(&["peer", "add", "third", "--public-key", &key], 1, "the peer phone has that");
    let own = server.read().public_key().to_string();
    server.fails(&["peer", "add", "third", "--public-key", &own], 1, "the public key of this server");
    server.fails(&["peer", "add", "third", "--public-key", &key, "--qr"], 2, "--public-key");
    // text that may be a private key is not repeated
    let said = server.fails(&["peer", "add", "third", "--public-key", "abcdef"], 2, "44 characters");
    assert!(!said.contains("abcdef"), "{said}");
    server.fails(&["peer", "add", "third", "--dns", "x"], 2, "not a name server");
    let svg = server.site.write("a.svg", "mine");
    server.fails(&["peer", "add", "third", "--qr-file", svg.to_str().unwrap()], 1, "exists");
    assert_eq!(std::fs::read_to_string(&svg).unwrap(), "mine");
    server.fails(&["peer", "add", "third", "--qr-file", "/nowhere/a.svg"], 1, "/nowhere/a.svg");
    std::fs::write(server.file(), server.text().replace("ListenPort = 51820", "ListenPort = many")).unwrap();
    for command in [&["peer", "list"][..], &["peer", "remove", "phone"], &["init"], &["serve"]] {
        server.fails(command, 78, "ListenPort: found 'many'");
    }
}

#[test]
fn a_full_subnet_is_told() {
    let server = Server::alone();
    server.output(&["init", "--endpoint", "192.0.2.1", "--subnet", "10.8.0.0/30"]);
    server.output(&["peer", "add", "phone"]);
    server.fails(&["peer", "add", "tablet"], 1, "all addresses of 10.8.0.0/30 are in use");
    server.output(&["peer", "remove", "phone"]);
    let text = server.output(&["peer", "add", "tablet"]);
    assert_eq!(value(&text, "Address"), "10.8.0.2/32");
    assert_eq!(value(&text, "AllowedIPs"), "10.8.0.0/30");
}

#[test]
fn peers_come_and_go_and_the_file_is_as_before() {
    let server = Server::with_file();
    std::fs::write(server.file(), format!("{}\n# by hand\n", server.text())).unwrap();
    let before = server.text();
    let phone = server.output(&["peer", "add", "phone"]);
    let full = ["--full-tunnel", "--ipv6", "always", "--dns", "10.8.0.1"];
    let laptop = server.output(&[&["peer", "add", "Anna's laptop"][..], &full].concat());
    assert!(value(&phone, "Address").starts_with("10.8.0.2/32, fd"));
    assert!(value(&laptop, "Address").starts_with("10.8.0.3/32, fd"));
    assert!(value(&phone, "AllowedIPs").starts_with("10.8.0.0/24, fd"));
    assert_eq!(value(&laptop, "AllowedIPs"), "0.0.0.0/0, ::/0");
    assert_eq!(value(&laptop, "DNS"), "10.8.0.1");
    assert_eq!(value(&phone, "Endpoint"), "vpn.example.com:51820");
    assert_eq!(value(&phone, "PublicKey"), server.read().public_key().to_string());
    assert_ne!(value(&phone, "PresharedKey"), value(&laptop, "PresharedKey"));
    let list = server.output(&["peer", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("phone ") && lines[2].contains(" 10.8.0.3, "), "{list}");
    server.output(&["peer", "rename", "phone", "büro"]);
    let key = server.key_of("büro");
    for name in ["büro", &key] {
        let shown = server.output(&["peer", "show", name]);
        for part in ["peer: büro", &key, "preshared key: (hidden)", "10.8.0.2/32"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
    for text in [&server.text(), &list] {
        for client in [&phone, &laptop] {
            assert!(!text.contains(value(client, "PrivateKey")), "a client's private key in:\n{text}");
        }
    }
    server.output(&["peer", "remove", &key]);
    server.output(&["peer", "remove", "Anna's laptop"]);
    assert_eq!(server.text(), before);
    let names: Vec<_> =
        std::fs::read_dir(&server.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

#[test]
fn a_client_may_keep_its_key_to_itself() {
    let server = Server::with_file();
    let keys = crate::wireguard::settings::Keys::new();
    let text = server.output(&["peer", "add", "phone", "--public-key", &keys.public]);
    assert!(text.contains(&format!("# PrivateKey = the one that belongs to {}\n", keys.public)), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("PrivateKey")), "{text}");
    assert_eq!(server.key_of("phone"), keys.public);
}

/// Debian's wg-quick and wg read the files: they ignore names and comments.
#[test]
fn wg_and_wg_quick_read_both_files() {
    let server = Server::with_file();
    let client = server.output(&["peer", "add", "a = b # [Peer]", "--full-tunnel"]);
    server.output(&["peer", "add", "tablet"]);
    let site = &server.site;
    let daemon = site.launch(std::path::Path::new(BINARY), &["-f", "wg0"]).spawn();
    crate::waiting::eventually("wg finds the tunnel", || site.try_wg(&["show", "wg0"]).status.success());
    let loaded = |file: &std::path::Path| {
        site.shell(&format!(
            "wg-quick strip {} >stripped; wg setconf wg0 stripped; rm stripped",
            file.display()
        ));
        site.wg(&["showconf", "wg0"])
    };
    let shown = loaded(&server.file());
    let file = server.read();
    assert_eq!(value(&shown, "PrivateKey"), value(&server.text(), "PrivateKey"));
    assert_eq!(shown.matches("[Peer]").count(), 2);
    for peer in file.peers() {
        assert!(shown.contains(&format!("PublicKey = {}\n", peer.peer.public_key)), "{shown}");
        let networks: Vec<_> = peer.peer.allowed_ips.iter().map(ToString::to_string).collect();
        assert!(shown.contains(&format!("AllowedIPs = {}\n", networks.join(", "))), "{shown}");
    }
    let client = client.replace("vpn.example.com", "192.0.2.77");
    let shown = loaded(&site.write("client.conf", &client));
    for key in ["PrivateKey", "PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"] {
        assert_eq!(value(&shown, key), value(&client, key));
    }
    drop(daemon);
}

#[test]
fn many_at_once_get_an_address_each() {
    let server = Server::with_file();
    let texts: Vec<String> = thread::scope(|scope| {
        let add = |number: usize| server.output(&["peer", "add", &format!("peer {number}")]);
        let all: Vec<_> = (0..12).map(|number| scope.spawn(move || add(number))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let addresses: HashSet<_> = texts.iter().map(|text| value(text, "Address")).collect();
    assert_eq!(addresses.len(), 12);
    let file = server.read();
    assert_eq!(file.peers().count(), 12);
    for number in 0..12 {
        file.find(&format!("peer {number}")).unwrap();
    }
}

#[test]
fn a_server_without_a_port_of_its_own_is_warned_of() {
    let server = Server::with_file();
    std::fs::write(server.file(), server.text().replace("ListenPort = 51820\n", "")).unwrap();
    let run = server.run(&["peer", "add", "phone"]);
    assert!(run.code() == 0 && run.stderr.contains("has no ListenPort"), "{run:?}");
}

/// The private key of a client whose file was not delivered would be lost.
#[test]
fn a_peer_whose_file_does_not_get_out_is_taken_back() {
    let server = Server::with_file();
    let before = server.text();
    let svg = server.dir.join("phone.svg");
    let script = format!("exec {BINARY} peer add phone --qr-file {} >/dev/full", svg.display());
    let mut command = server.site.command("sh");
    let run = finish(command.args(["-c", &script]).env("WONTUN_DIR", &server.dir), TIMEOUT);
    assert_eq!(run.code(), 1, "{run:?}");
    assert!(run.stderr.contains("the peer was removed again"), "{run:?}");
    assert_eq!(server.text(), before);
    assert!(!svg.exists());
}

/// Returns the modules of the QR code on a terminal, as text.
fn decoded(terminal: &str) -> String {
    const SCALE: usize = 4;
    let mut rows: Vec<Vec<bool>> = Vec::new();
    for line in terminal.lines().filter_map(|line| line.strip_prefix("\u{1b}[38;5;16;48;5;231m")) {
        let line = line.strip_suffix("\u{1b}[0m").unwrap();
        rows.push(line.chars().map(|c| "█▀".contains(c)).collect());
        rows.push(line.chars().map(|c| "█▄".contains(c)).collect());
    }
    assert!(rows[0].len() <= 80, "a terminal's line has 80 columns, this {}", rows[0].len());
    let pixel = |x: usize, y: usize| if rows[y / SCALE][x / SCALE] { 0 } else { 255 };
    let (width, height) = (rows[0].len() * SCALE, rows.len() * SCALE);
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width, height, pixel);
    picture.detect_grids()[0].decode().unwrap().1
}

#[test]
fn the_qr_code_is_the_very_file() {
    let server = Server::with_file();
    let svg = server.dir.join("phone.svg");
    let args = ["peer", "add", "phone", "--full-tunnel", "--qr", "--qr-file", svg.to_str().unwrap()];
    let run = server.run(&args);
    assert_eq!(run.code(), 0, "{run:?}");
    assert_eq!(decoded(&run.stderr), run.stdout);
    assert_eq!(std::fs::metadata(&svg).unwrap().mode() & 0o7777, 0o600);
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    server.site.shell(&format!(
        "python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' {}/phone.svg",
        server.dir.display()
    ));
}

#[test]
fn a_file_that_all_may_read_is_warned_of_before_a_key_goes_there() {
    let server = Server::with_file();
    let script = format!("umask 022; exec {BINARY} peer add phone >{}/phone.conf", server.dir.display());
    let mut command = server.site.command("sh");
    let run = finish(command.args(["-c", &script]).env("WONTUN_DIR", &server.dir), TIMEOUT);
    assert!(run.code() == 0 && run.stderr.contains("set the umask to 077"), "{run:?}");
}

#[test]
fn owner_and_mode_stay_and_new_files_are_the_folders_owners() {
    let server = Server::alone();
    std::fs::create_dir(&server.dir).unwrap();
    std::os::unix::fs::chown(&server.dir, Some(65534), Some(65533)).unwrap();
    server.output(&["init", "--endpoint", "192.0.2.1"]);
    let of = |name: &str| {
        let file = std::fs::metadata(server.dir.join(name)).unwrap();
        (file.uid(), file.gid(), file.mode() & 0o7777)
    };
    assert_eq!(of("tun0.conf"), (65534, 65533, 0o600));
    assert_eq!(of(".tun0.conf.lock"), (65534, 65533, 0o600));
    std::os::unix::fs::chown(server.file(), Some(65532), Some(65531)).unwrap();
    std::fs::set_permissions(server.file(), PermissionsExt::from_mode(0o640)).unwrap();
    server.output(&["peer", "add", "phone"]);
    assert_eq!(of("tun0.conf"), (65532, 65531, 0o640));
    // a user who may not change the file's owner changes nothing
    let script = format!("chmod 777 {0}; chmod 666 {0}/.tun0.conf.lock {0}/tun0.conf", server.dir.display());
    server.site.shell(&script);
    let before = server.text();
    let copy = server.site.path().join("wontun");
    server.site.shell(&format!("install -m 755 {BINARY} {}", copy.display()));
    let mut command = server.site.command("setpriv");
    command.args(["--reuid", "65530", "--regid", "65530", "--clear-groups"]).arg(copy);
    let run = finish(command.args(["peer", "add", "tablet"]).env("WONTUN_DIR", &server.dir), TIMEOUT);
    assert!(run.code() == 77 && run.stderr.contains("belongs to user 65532"), "{run:?}");
    assert_eq!(server.text(), before);
}

#[test]
fn another_tunnel_has_another_file() {
    let lab = Arc::new(Lab::new(1));
    let server = Server { dir: "unused".into(), site: Arc::new(Site::new(&lab, 0)) };
    let dir = server.site.path().join("elsewhere");
    let at = |args: &[&str]| {
        let more = ["--dir", dir.to_str().unwrap(), "--tun", "wg7"];
        let run = finish(server.site.command(BINARY).args(args).args(more), TIMEOUT);
        assert_eq!(run.code(), 0, "{run:?}");
        run.stdout
    };
    at(&["init", "--endpoint", "[2001:db8::1]:443", "--subnet", "fd77::/64"]);
    let text = at(&["peer", "add", "phone"]);
    assert_eq!(value(&text, "Endpoint"), "[2001:db8::1]:443");
    assert_eq!(value(&text, "Address"), "fd77::2/128");
    let file = std::fs::read_to_string(dir.join("wg7.conf")).unwrap();
    assert_eq!(value(&file, "ListenPort"), "443");
}
