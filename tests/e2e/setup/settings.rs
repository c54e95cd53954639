//! Settings of peers, which the running server reads again when a command has changed them.

use super::server::Server;

#[test]
fn a_changed_setting_is_in_the_file_and_the_running_server_has_read_it() {
    let server = Server::with_file();
    server.output(&["peer", "add", "phone"]);
    // no error without a tunnel
    let set = server.run(&["peer", "set", "phone", "--note", "Anna, room 5"]);
    assert!(set.code() == 0 && set.stderr.contains("has the settings when it starts"), "{set:?}");
    assert!(server.text().contains("# Note = Anna, room 5\n"));
    server.fails(&["peer", "set", "phone"], 2, "--note");
    server.fails(&["peer", "set", "phone", "--note", "a\u{202e}b"], 2, "visible characters");
    let limits = ["--rate-up=20Mbit", "--rate-down=1.5Gbit", "--quota=100GB/month", "--over=rate"];
    server.output(&[&["peer", "set", "phone"][..], &limits].concat());
    let comments = "# RateUp = 20Mbit\n# RateDown = 1500Mbit\n# Quota = 100GB/month\n# OverQuota = 1Mbit\n";
    assert!(server.text().contains(comments), "{}", server.text());
    server.output(&["peer", "set", "phone", "--rate-up=none", "--rate-down=none", "--quota=none"]);
    assert!(!["Rate", "Quota"].iter().any(|key| server.text().contains(key)), "{}", server.text());
    server.fails(&["peer", "set", "phone", "--rate-up", "20"], 2, "such as 20Mbit");
    server.fails(&["peer", "set", "phone", "--quota", "1GB"], 2, "such as 100GB/month");
    server.fails(&["peer", "set", "tablet", "--note", "x"], 1, "there is no peer 'tablet'");

    let daemon = server.serve(&["--ignore-hooks"]);
    server.output(&["peer", "set", "phone", "--note", "Anna, room 6"]);
    daemon.wait_for("reloaded the configuration");
    // nothing is written or read again for what is so already
    server.output(&["peer", "set", "phone", "--note", "Anna, room 6"]);
    server.output(&["peer", "set", "phone", "--note", ""]);
    assert!(!server.text().contains("Note"));
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    let reloads = stopped.lines.iter().filter(|line| line.contains("reloaded the configuration"));
    assert_eq!(reloads.count(), 2, "{stopped:?}");

    // the tunnel's error reaches the command
    let daemon = server.serve(&[]);
    std::fs::write(server.file(), server.text().replace("[Interface]\n", "[Interface]\nPostUp = true\n"))
        .unwrap();
    let set = server.run(&["peer", "set", "phone", "--note", "Anna"]);
    assert!(set.code() == 1 && set.stderr.contains("was changed, but the running tunnel was not"), "{set:?}");
    assert!(set.stderr.contains("tun0 refused it") && set.stderr.contains("PostUp"), "{set:?}");
    daemon.wait_for("cannot reload the configuration, nothing was changed");
}
