//! Each failure prints one line with the error, its location and the remedy, and has an exit code
//! that scripts can use.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::bare::PORT;
use crate::daemon::{Daemon, Launch, field};
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder, NO_TUN_NODE};
use crate::waiting::Finished;

const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 69;
const NO_PRIVILEGE: i32 = 77;
const CONFIGURATION: i32 = 78;

/// Panics unless the run ended with one of `codes` and one line on standard error that contains
/// every needle.
fn fails_with(run: &Finished, codes: &[i32], needles: &[&str]) {
    assert!(codes.contains(&run.code()), "exit code {codes:?} expected: {run:?}");
    // The warning that the wire is not encrypted is not part of the error; nothing else may be
    // printed.
    let lines: Vec<&str> =
        run.stderr.lines().filter(|line| !line.contains("plain mode is not encrypted")).collect();
    let [line] = lines.as_slice() else { panic!("one line expected: {run:?}") };
    assert!(line.starts_with("wontun: "), "the line does not say who speaks: {line}");
    for needle in needles {
        assert!(line.contains(needle), "no {needle:?} in: {line}");
    }
}

fn server_fails(args: &[&str], codes: &[i32], needles: &[&str]) {
    let lab = Lab::new(2);
    fails_with(&Launch::plain(lab.server(), args).run(), codes, needles);
}

#[test]
fn usage_errors_exit_2_and_name_the_option() {
    let lab = Lab::new(2);
    for (args, needle) in [
        (&["--mtu", "many"][..], "--mtu"),
        (&["--listen-port", "70000"], "--listen-port"),
        (&["--keepalive", "often"], "--keepalive"),
        (&["--log-level", "loud"], "--log-level"),
        (&["--log-target", "printer"], "--log-target"),
        (&["--nonsense"], "--nonsense"),
        (&["--port", "1"], "--port"),
        (&["interface", "wg0", "surplus"], "surplus"),
        (&["wg0"], "'wontun interface wg0'"),
        (&["up"], "'wontun --config FILE'"),
        (&["helth"], "'health'"),
        (&["--mtu"], "--mtu"),
    ] {
        fails_with(&Launch::new(lab.server(), args).run(), &[USAGE], &[needle]);
    }
    // Nothing was done beyond parsing the command line.
    assert!(!lab.server().has_device("tun"));
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    let lab = Lab::new(2);
    for (args, needle) in [
        (&["--address", "10.8.0.1/33"][..], "10.8.0.1/33"),
        (&["--address", "fd00:8::1/129"], "fd00:8::1/129"),
        (&["--address", "10.8.0/24"], "10.8.0/24"),
        (&["--peer", "192.0.2.1:0"], "192.0.2.1:0"),
        (&["--peer", ":19988"], ":19988"),
        (&["--peer", "2001:db8::1:x"], "2001:db8::1:x"),
        (&["--listen", "nowhere"], "nowhere"),
    ] {
        fails_with(&Launch::plain(lab.server(), args).run(), &[USAGE, CONFIGURATION], &[needle]);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let lab = Lab::new(2);
    let help = Launch::new(lab.server(), &["--help"]).run();
    assert_eq!(help.code(), 0);
    for option in
        ["--peer", "--tun", "--address", "--mtu", "--listen-port", "--keepalive", "WONTUN_PEER", "health"]
    {
        assert!(help.stdout.contains(option), "{option} is not in the help");
    }
    let version = Launch::new(lab.server(), &["--version"]).run();
    let line = version.stdout.lines().next();
    assert_eq!((version.code(), line), (0, Some(concat!("wontun ", env!("CARGO_PKG_VERSION")))));
    assert!(version.stdout.contains("\ntarget: "), "{}", version.stdout);
    let genkey = Launch::new(lab.server(), &["genkey", "--help"]).run();
    assert_eq!((genkey.code(), genkey.stdout.contains("--kill-switch")), (0, false), "{}", genkey.stdout);
    let bash = Launch::new(lab.server(), &["completions", "bash"]).run();
    assert_eq!((bash.code(), bash.stdout.contains("--full-tunnel")), (0, true), "{bash:?}");
}

#[test]
fn an_error_names_the_variable_or_option_and_the_help_of_the_command() {
    let lab = Lab::new(2);
    let run = Launch::plain(lab.server(), &[]).env("WONTUN_MTU", "many").run();
    fails_with(&run, &[USAGE], &["WONTUN_MTU=many: expected ", "; see wontun plain --help"]);
    let run = Launch::new(lab.server(), &["--mtu", "1400", "genkey"]).run();
    fails_with(&run, &[USAGE], &["--mtu does not apply to 'wontun genkey'", "; see wontun genkey --help"]);
    // a variable is for all commands of a container: those that have no use for it ignore it
    let run = Launch::new(lab.server(), &["genkey"]).env("WONTUN_MTU", "many").run();
    assert_eq!((run.code(), run.stderr.as_str()), (0, ""), "{run:?}");
}

#[test]
fn an_mtu_that_cannot_work_is_refused() {
    server_fails(&["--mtu", "67"], &[CONFIGURATION], &["--mtu", "67", "68"]);
    server_fails(&["--mtu", "65508"], &[CONFIGURATION], &["65508", "65507"]);
    server_fails(&["--mtu", "0"], &[USAGE, CONFIGURATION], &["mtu"]);
}

#[test]
fn an_mtu_below_1280_is_refused_with_an_inner_ipv6_address_and_only_then() {
    server_fails(&["--mtu", "1279", "--address", "fd00:8::1/64"], &[CONFIGURATION], &["1279", "1280"]);
    let lab = Lab::new(2);
    let _server = Daemon::server(lab.server(), &["--mtu", "1279"]);
    assert_eq!(lab.server().mtu("tun0"), 1279);
}

#[test]
fn bad_device_names_are_refused() {
    let lab = Lab::new(2);
    for name in ["sixteen-bytes-xx", "tun/0", "tun%d", ".", "..", "tun 0", "tun\t0", ""] {
        let run = Launch::plain(lab.server(), &["--tun", name]).run();
        fails_with(&run, &[USAGE, CONFIGURATION], &["tun"]);
    }
    assert!(!lab.server().has_device("tun"), "and nothing was made");
    let _server = Daemon::server(lab.server(), &["--tun", "fifteen-bytes-x"]);
    assert_eq!(lab.server().mtu("fifteen-bytes-x"), 1472);
}

#[test]
fn without_net_admin_it_says_how_to_get_it() {
    let lab = Lab::new(2);
    let without = "setpriv --bounding-set -net_admin --inh-caps -net_admin";
    let run = Launch::plain(lab.server(), &[]).wrap(without).run();
    fails_with(&run, &[NO_PRIVILEGE], &["CAP_NET_ADMIN", "setcap"]);
}

/// On an ordinary host only root may open the node; a setcap binary under an ordinary user gets
/// this error.
#[test]
fn without_permission_on_the_tun_node_it_names_its_mode() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let copy = folder.install(Path::new(BINARY), Some("cap_net_admin=ep"));
    let node = "mount -t tmpfs none /dev/net; mknod -m 640 /dev/net/tun c 10 200;";
    let as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let run = Launch::plain(lab.server(), &[]).prepare(node).wrap(as_nobody).binary(&copy).run();
    fails_with(&run, &[NO_PRIVILEGE], &["/dev/net/tun", "640"]);
}

#[test]
fn a_port_below_1024_needs_a_capability_that_is_named() {
    let lab = Lab::new(2);
    let bounded = "setpriv --bounding-set -all,+net_admin --inh-caps -all";
    let run = Launch::plain(lab.server(), &["--listen-port", "80"]).wrap(bounded).run();
    fails_with(&run, &[NO_PRIVILEGE], &["80", "1024"]);
}

#[test]
fn without_a_tun_node_it_says_where_one_comes_from() {
    let lab = Lab::new(2);
    let run = Launch::plain(lab.server(), &[]).prepare(NO_TUN_NODE).run();
    fails_with(&run, &[UNAVAILABLE], &["/dev/net/tun", "--device"]);
}

#[test]
fn a_device_name_that_is_taken_is_named() {
    let lab = Lab::new(2);
    let _first = Daemon::server(lab.server(), &[]);
    let run = Launch::plain(lab.server(), &["--listen-port", "20000"]).run();
    fails_with(&run, &[UNAVAILABLE], &["tun0", "--tun"]);
    // A device of another kind cannot be used either.
    lab.client().ip(&["link", "add", "tun0", "type", "bridge"]);
    let run = Launch::plain(lab.client(), &[]).run();
    fails_with(&run, &[UNAVAILABLE], &["tun0", "--tun"]);
}

/// A persistent device that an administrator prepared (or an earlier program left) is used.
#[test]
fn a_persistent_tun_of_that_name_is_used() {
    let lab = Lab::new(2);
    lab.server().ip(&["tuntap", "add", "tun0", "mode", "tun"]);
    lab.server().ip(&["address", "add", "10.8.0.1/24", "dev", "tun0"]);
    let _server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(crate::bare::INNER_SERVER);
}

#[test]
fn a_port_in_use_is_named() {
    let lab = Lab::new(2);
    let _first = Daemon::server(lab.server(), &[]);
    let run = Launch::plain(lab.server(), &["--tun", "tun1"]).run();
    fails_with(&run, &[UNAVAILABLE], &["19988", "--listen-port"]);
    assert!(!lab.server().has_device("tun1"), "its device is gone with it");
}

/// Only a client's default port may be replaced by another.
#[test]
fn an_explicit_client_port_that_is_taken_is_an_error() {
    let lab = Lab::new(2);
    let _taken = lab.client().udp((Ipv4Addr::UNSPECIFIED, PORT));
    let run = Launch::new(lab.client(), &["--peer", "192.0.2.1:19988", "--listen-port", "19988"]).run();
    fails_with(&run, &[UNAVAILABLE], &["19988", "--listen-port"]);
}

#[test]
fn an_address_that_is_not_ours_cannot_be_listened_on() {
    server_fails(&["--listen", "192.0.2.99"], &[UNAVAILABLE], &["192.0.2.99", "--listen"]);
    server_fails(&["--listen", "2001:db8::99"], &[UNAVAILABLE], &["2001:db8::99", "--listen"]);
}

#[test]
fn every_option_is_an_environment_variable() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &["--listen-port", "4500"]);
    let client = Launch::new(lab.client(), &[])
        .env("WONTUN_PEER", "192.0.2.1:4500")
        .env("WONTUN_TUN", "wt9")
        .env("WONTUN_ADDRESS", "10.8.0.9/24,fd00:8::9/64")
        .env("WONTUN_MTU", "1300")
        .env("WONTUN_LISTEN", "192.0.2.2")
        .env("WONTUN_LISTEN_PORT", "4501")
        .env("WONTUN_KEEPALIVE", "7")
        .env("WONTUN_LOG_LEVEL", "debug")
        .env("WONTUN_LOG_TARGET", "stderr")
        .spawn();
    let ready = client.wait_ready();
    for (key, value) in [("role", "client"), ("tun", "wt9"), ("mtu", "1300"), ("port", "4501")] {
        assert_eq!(field(&ready, key), Some(value), "{ready}");
    }
    let addresses = lab.client().ip(&["-o", "address", "show", "dev", "wt9"]);
    assert!(addresses.contains("10.8.0.9/24") && addresses.contains("fd00:8::9/64"), "{addresses}");
    server.wait_for("peer connected");
    lab.client().ping(crate::bare::INNER_SERVER);
    assert_eq!(client.count("did you mean"), 0);
}

#[test]
fn no_configure_is_an_environment_variable_too() {
    let lab = Lab::new(2);
    for (value, addresses) in [("true", 0), ("false", 1)] {
        let server = Launch::plain(lab.server(), &[]).env("WONTUN_NO_CONFIGURE", value).spawn();
        server.wait_ready();
        let shown = lab.server().ip(&["-4", "-o", "address", "show", "dev", "tun0"]);
        assert_eq!(shown.lines().count(), addresses, "WONTUN_NO_CONFIGURE={value}: {shown}");
        server.stop();
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_bad_values_name_the_variable() {
    let lab = Lab::new(2);
    let server = Launch::plain(lab.server(), &["--mtu", "1400"]).env("WONTUN_MTU", "1300").spawn();
    server.wait_ready();
    assert_eq!(lab.server().mtu("tun0"), 1400);
    let run = Launch::plain(lab.client(), &[]).env("WONTUN_MTU", "many").run();
    fails_with(&run, &[USAGE], &["many"]);
}

#[test]
fn an_unknown_variable_is_a_warning_that_names_the_nearest_option() {
    let lab = Lab::new(2);
    let server = Launch::plain(lab.server(), &[]).env("WONTUN_MTUU", "1300").spawn();
    server.wait_ready();
    let warning = server.wait_for("WONTUN_MTUU");
    let without = warning.replace("WONTUN_MTUU", "");
    assert!(warning.contains("WARN") && without.contains("WONTUN_MTU"), "{warning}");
    assert_eq!(server.count("WONTUN_MTUU"), 1);
    assert_eq!(lab.server().mtu("tun0"), 1472, "it has no effect");
}

/// Compose files pass an unset option as an empty variable.
#[test]
fn an_empty_variable_is_none() {
    let lab = Lab::new(2);
    let names =
        ["PEER", "TUN", "ADDRESS", "MTU", "LISTEN", "LISTEN_PORT", "KEEPALIVE", "LOG_LEVEL", "LOG_TARGET"];
    let launch = |args| {
        names
            .iter()
            .fold(Launch::new(lab.server(), args), |launch, name| launch.env(&format!("WONTUN_{name}"), ""))
    };
    let server = launch(&["plain"]).spawn();
    let ready = server.wait_ready();
    assert_eq!(field(&ready, "role"), Some("server"), "{ready}");
    assert_eq!(field(&ready, "mtu"), Some("1472"), "{ready}");
    assert_eq!(launch(&["health"]).run().code(), 0);
}

#[test]
fn addresses_to_listen_on_that_overlap_are_named() {
    server_fails(
        &["--listen", "0.0.0.0", "--listen", "192.0.2.1"],
        &[78],
        &["--listen 192.0.2.1", "covered"],
    );
    server_fails(&["--listen", "::1", "--listen", "::1"], &[78], &["--listen ::1", "covered"]);
}

/// The variables that Kubernetes injects for a service called `wontun`.
#[test]
fn variables_of_a_kubernetes_service_are_ignored_in_silence() {
    let lab = Lab::new(2);
    let server = Launch::plain(lab.server(), &[])
        .env("WONTUN_SERVICE_HOST", "10.0.0.1")
        .env("WONTUN_SERVICE_PORT", "19988")
        .env("WONTUN_SERVICE_PORT_VPN", "19988")
        .env("WONTUN_PORT", "udp://10.0.0.1:19988")
        .env("WONTUN_PORT_19988_UDP", "udp://10.0.0.1:19988")
        .env("WONTUN_PORT_19988_UDP_ADDR", "10.0.0.1")
        .spawn();
    let ready = server.wait_ready();
    assert_eq!(field(&ready, "port"), Some("19988"), "{ready}");
    server.wait_for("plain mode is not encrypted");
    let stopped = server.stop();
    assert_eq!(stopped.count("SERVICE") + stopped.count("_PORT"), 0, "{stopped:?}");
    assert_eq!(stopped.count("WARN"), 1, "only the one about encryption: {stopped:?}");
}

/// A failed start leaves nothing behind that prevents the next one.
#[test]
fn after_a_failed_start_the_next_one_works() {
    let lab = Lab::new(2);
    let taken = lab.server().udp((Ipv4Addr::UNSPECIFIED, PORT));
    fails_with(&Launch::plain(lab.server(), &[]).run(), &[UNAVAILABLE], &["19988"]);
    drop(taken);
    let _server = Daemon::server(lab.server(), &[]);
}
