//! Commands find the file of a running server without --dir.

use std::path::Path;
use std::process::Command;

use super::server::Server;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, finish};

/// Runs `wontun args…` without the directory.
fn run(server: &Server, args: &[&str]) -> Finished {
    let mut command: Command = server.site.command(BINARY);
    finish(command.args(args).env_remove("WONTUN_DIR"), TIMEOUT)
}

#[test]
fn a_running_server_says_where_its_file_is() {
    let server = Server::alone();
    // the usual folders are empty, whatever the machine has
    server.site.shell("mkdir -p /etc/wontun /var/lib/wontun; mount -t tmpfs none /etc/wontun; mount -t tmpfs none /var/lib/wontun");
    let absent = run(&server, &["peer", "list"]);
    assert_eq!(absent.code(), 78, "{absent:?}");
    assert!(
        absent.stderr.contains("no server tun0 is running") && absent.stderr.contains("--dir"),
        "{absent:?}"
    );
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    let added = run(&server, &["peer", "add", "phone"]);
    assert_eq!((added.code(), added.stderr.as_str()), (0, ""), "{added:?}");
    assert!(server.text().contains("# Name = phone"));
    assert!(run(&server, &["peer", "ls"]).stdout.contains("phone"));
    assert_eq!(run(&server, &["peer", "list", "--tun", "tun7"]).code(), 78, "another name is another server");
    assert!(daemon.stop().status.success());
    assert_eq!(run(&server, &["peer", "list"]).code(), 78);
    // a server that does not run is found in the usual folders
    server.site.shell(&format!("cp {} /var/lib/wontun/tun0.conf", server.file().display()));
    assert!(run(&server, &["peer", "list"]).stdout.contains("phone"));
}

#[test]
fn of_several_servers_one_must_be_named() {
    let server = Server::alone();
    server.site.shell("mkdir -p /etc/wontun /var/lib/wontun; mount -t tmpfs none /etc/wontun; mount -t tmpfs none /var/lib/wontun");
    let mut daemons = Vec::new();
    for (name, port) in [("wg7", "51827"), ("wg8", "51828")] {
        server.output(&[
            "init",
            "--tun",
            name,
            "--endpoint",
            &format!("192.0.2.1:{port}"),
            "--subnet",
            &format!("10.{}.0.0/24", &port[3..]),
        ]);
        let file = server.dir.join(format!("{name}.conf"));
        let daemon = server.site.launch(Path::new(BINARY), &["--config", file.to_str().unwrap()]).spawn();
        daemon.wait_for(" ready mode=");
        daemons.push(daemon);
        let found = run(&server, &["peer", "list"]);
        if name == "wg7" {
            assert_eq!(found.code(), 0, "the only server: {found:?}");
        } else {
            assert_eq!(found.code(), 2, "{found:?}");
            assert!(found.stderr.contains("wg7, wg8") && found.stderr.contains("--tun NAME"), "{found:?}");
        }
    }
    assert_eq!(run(&server, &["peer", "add", "phone", "--tun", "wg8"]).code(), 0);
    assert!(std::fs::read_to_string(server.dir.join("wg8.conf")).unwrap().contains("# Name = phone"));
}
