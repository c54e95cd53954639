//! The file of a client again: with its private key, if that was kept, or without.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::server::{Server, value};

/// Returns the files of the kept keys.
fn kept(server: &Server) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.dir.join("tun0.client-keys"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_clients_file_is_printed_again_with_its_key_only_if_that_was_kept() {
    let server = Server::with_file();
    let daemon = server.serve(&[]);
    let options =
        ["--full-tunnel", "--ipv6", "always", "--mtu", "1380", "--keepalive", "7", "--dns", "9.9.9.9"];
    let phone = server.output(&[&["peer", "add", "phone"][..], &options].concat());
    assert!(!server.dir.join("tun0.client-keys").exists(), "a key is kept unasked");
    // all but the key
    let shown = server.run(&["peer", "show", "phone", "--file"]);
    assert!(shown.code() == 0 && shown.stderr.contains("is not kept here"), "{shown:?}");
    let without =
        |text: &str| text.lines().filter(|line| !line.contains("PrivateKey")).collect::<Vec<_>>().join("\n");
    assert_eq!(without(&shown.stdout), without(&phone));
    assert!(shown.stdout.contains("\n# PrivateKey = the one that belongs to "), "{shown:?}");

    let run = server.run(&["peer", "add", "laptop", "--keep-key"]);
    assert!(run.code() == 0 && run.stderr.contains("can connect as these clients"), "{run:?}");
    let laptop = run.stdout;
    let key = value(&laptop, "PrivateKey");
    assert_eq!(std::fs::metadata(server.dir.join("tun0.client-keys")).unwrap().mode() & 0o7777, 0o700);
    let [file] = &kept(&server)[..] else { panic!("{:?}", kept(&server)) };
    assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(server.output(&["peer", "show", "laptop", "--file"]), laptop);
    // and nowhere else
    let outputs = [
        server.output(&["peer", "show", "laptop"]),
        server.output(&["peer", "list", "--json"]),
        server.text(),
    ];
    assert!(outputs.iter().chain(&daemon.lines()).all(|text| !text.contains(key)), "the key is shown");

    // what the file is made of is changed
    let set = server.run(&["peer", "set", "laptop", "--route", "10.0.0.0/8", "--mtu", "1400"]);
    assert!(set.code() == 0 && set.stderr.contains("peer show laptop --file"), "{set:?}");
    let text = server.output(&["peer", "show", "laptop", "--file"]);
    assert!(value(&text, "AllowedIPs").ends_with(", 10.0.0.0/8") && value(&text, "MTU") == "1400", "{text}");
    // a new endpoint
    let said = server.output(&["init", "--endpoint", "new.example.com"]);
    assert!(
        said.contains("    phone: 'wontun peer show phone --file' prints it, without its private key\n"),
        "{said}"
    );
    assert!(said.contains("    laptop: 'wontun peer show laptop --file' prints it\n"), "{said}");
    assert!(!server.output(&["init", "--endpoint", "new.example.com"]).contains("new file"));
    let text = server.output(&["peer", "show", "laptop", "--file"]);
    assert_eq!((value(&text, "Endpoint"), value(&text, "PrivateKey")), ("new.example.com:51820", key));

    // to a file, and as a code, which is of no use without the key
    let out = server.site.path().join("laptop.conf");
    let show = |name, options: &[&'static str]| {
        let out = out.to_str().unwrap();
        let options = options.iter().map(|option| if *option == "OUT" { out } else { option });
        ["peer", "show", name].into_iter().chain(options).map(str::to_owned).collect::<Vec<_>>()
    };
    let words = |words: &[String]| server.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let run = words(&show("laptop", &["--file", "--out", "OUT"]));
    assert_eq!((run.code(), run.stdout.as_str()), (0, ""), "{run:?}");
    assert_eq!(std::fs::metadata(&out).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
    server.fails(
        &["peer", "show", "laptop", "--file", "--out", out.to_str().unwrap()],
        1,
        "laptop.conf exists",
    );
    let run = words(&show("laptop", &["--file", "--qr"]));
    assert!(run.stdout == text && run.stderr.contains('█'), "{run:?}");
    server.fails(&["peer", "show", "phone", "--file", "--qr"], 1, "a QR code without it is of no use");
    assert_eq!(words(&show("laptop", &["--qr"])).code(), 2);

    // a key goes with its client
    let renewed = server.output(&["peer", "renew", "laptop", "--keep-key"]);
    assert_ne!(value(&renewed, "PrivateKey"), key);
    assert_eq!(kept(&server).len(), 1);
    assert_eq!(server.output(&["peer", "show", "laptop", "--file"]), renewed);
    let run = server.run(&["peer", "renew", "laptop"]);
    assert!(run.stderr.contains("--keep-key would have kept"), "{run:?}");
    assert_eq!(kept(&server), [PathBuf::new(); 0]);
    server.output(&["peer", "add", "tablet", "--keep-key"]);
    assert_eq!(kept(&server).len(), 1);
    server.output(&["peer", "remove", "tablet"]);
    assert_eq!(kept(&server), [PathBuf::new(); 0]);
    // a folder that leads elsewhere is not followed
    std::fs::remove_dir(server.dir.join("tun0.client-keys")).unwrap();
    std::os::unix::fs::symlink("/tmp", server.dir.join("tun0.client-keys")).unwrap();
    server.fails(&["peer", "add", "other", "--keep-key"], 1, "tun0.client-keys");

    // a new endpoint, given to the server itself
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&["--endpoint", "third.example.com"]);
    daemon.wait_for("the endpoint for clients was new.example.com:51820, and is third.example.com:51820 now");
    daemon.wait_for("    phone: 'wontun peer show phone --file' prints it, without its private key");
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&["--endpoint", "third.example.com", "--domain", "vpn"]);
    // renewed as added: the server is the client's name server
    let renewed = server.output(&["peer", "renew", "laptop"]);
    assert!(value(&renewed, "DNS").starts_with("10.8.0.1, fd"), "{renewed}");
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    assert_eq!(stopped.count("need a new file"), 0, "{:#?}", stopped.lines);
}
