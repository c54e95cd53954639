//! Directories that cause errors: full, read-only, unreadable.

use std::sync::Arc;

use super::server::{Server, client, value};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, finish};

/// Returns the file's text as seen in the site's own mount namespace.
fn text(server: &Server) -> String {
    server.site.shell(&format!("cat {}", server.file().display()))
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let server = Server::alone();
    std::fs::create_dir(&server.dir).unwrap();
    let dir = server.dir.display();
    // two pages: one for the file, one for the next
    server.site.shell(&format!("mount -t tmpfs -o size=8k,mode=700 none {dir}"));
    server.output(&["init", "--endpoint", "192.0.2.1"]);
    let before = text(&server);
    server.site.shell(&format!("head -c 4096 /dev/zero >{dir}/filler"));
    let run = server.run(&["peer", "add", "phone"]);
    assert!(run.code() == 1 && run.stderr.contains("free some space"), "{run:?}");
    assert_eq!(run.stdout, "", "a file for a client that the server does not know");
    assert_eq!(text(&server), before);
    server.site.shell(&format!("rm {dir}/filler"));
    server.output(&["peer", "add", "phone"]);
    assert_eq!(server.site.shell(&format!("ls -A {dir}")), ".tun0.conf.lock\ntun0.conf\n");
}

#[test]
fn a_read_only_folder_serves_and_is_not_changed() {
    let server = Server::with_file();
    let dir = server.dir.display();
    server.site.shell(&format!("mount --bind {dir} {dir}; mount -o remount,bind,ro {dir}"));
    let run = server.run(&["peer", "add", "phone"]);
    assert!(run.code() == 1 && run.stderr.contains("mount its folder writable"), "{run:?}");
    assert_eq!(server.run(&["init"]).code(), 0, "there is nothing to write");
    assert_eq!(server.run(&["init", "--endpoint", "192.0.2.1"]).code(), 1);
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    assert_eq!(daemon.count("client settings in"), 1, "{:?}", daemon.lines());
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&["--endpoint", "vpn.example.com:51820"]);
    assert_eq!(daemon.count("client settings in"), 0, "{:?}", daemon.lines());
}

#[test]
fn whoever_may_not_is_told_who_may() {
    let server = Server::with_file();
    let copy = server.site.path().join("wontun");
    server.site.shell(&format!("install -m 755 {BINARY} {}", copy.display()));
    let as_nobody = |args: &[&str]| {
        let mut command = server.site.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy).args(args);
        finish(command.env("WONTUN_DIR", &server.dir), TIMEOUT)
    };
    for args in [&["peer", "list"][..], &["peer", "add", "phone"], &["init"]] {
        let run = as_nobody(args);
        assert!(run.code() == 77 && run.stderr.contains("as root or as the folder's owner"), "{run:?}");
    }
}

/// A single mounted file cannot be replaced by another: the error says so, and names the
/// alternative.
#[test]
fn a_file_that_is_a_mount_point_is_told() {
    let server = Server::with_file();
    let file = server.file();
    server.site.shell(&format!("mount --bind {0} {0}", file.display()));
    let run = server.run(&["peer", "add", "phone"]);
    assert!(run.code() == 1 && run.stderr.contains("mount its folder instead"), "{run:?}");
    assert!(!text(&server).contains("phone"));
}

/// As in a container: one capability, and only the directory is writable, with the control socket
/// in it.
#[test]
fn a_container_with_one_volume_is_enough() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    std::fs::create_dir(&server.dir).unwrap();
    server.site.shell(&format!(
        "mount -t tmpfs -o mode=755 none {}; mount -o remount,bind,ro /; mount -o remount,ro /run",
        server.dir.display()
    ));
    let bounded = "setpriv --bounding-set -all,+net_admin --inh-caps -all";
    let daemon = server.launch(&["--endpoint", "192.0.2.1"]).wrap(bounded).spawn();
    daemon.wait_for(" ready mode=");
    let mut command = server.site.command("setpriv");
    command.args(["--bounding-set", "-all,+net_admin", "--inh-caps", "-all", BINARY, "peer", "add", "phone"]);
    let added = finish(command.env("WONTUN_DIR", &server.dir), TIMEOUT);
    assert_eq!((added.code(), added.stderr.as_str()), (0, ""), "{added:?}");
    let (phone, _phone) = client(&lab, 1, &added.stdout);
    phone.ping([10, 8, 0, 1]);
    assert!(text(&server).contains(&value(&added.stdout, "Address")[..11]));
    assert!(daemon.stop().status.success());
    let left = server.site.shell(&format!("ls -A {}", server.dir.display()));
    assert_eq!(left, ".tun0.conf.lock\ntun0.conf\ntun0.state\n");
}
