//! Hand-overs that do not happen: the running process continues.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::sync::Arc;

use super::flow::Flow;
use super::impostor::{Impostor, SESSIONS};
use super::{launch_successor, write};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::eventually;
use crate::wireguard::capture::Capture;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::pair::{Outer, Pair, Plan, SERVER_V4};

/// A user that is neither root nor wontun's.
const OTHER_USER: u32 = 4321;
const AS_OTHER_USER: &str =
    "setpriv --reuid 4321 --regid 4321 --clear-groups --inh-caps +net_admin --ambient-caps +net_admin";

/// Starts a server and a client, with a session between them.
fn connected() -> Pair {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    let pair = plan.start(Implementation::ConfigFile, Implementation::ConfigFile);
    pair.client.ping(SERVER_V4);
    pair
}

#[test]
fn a_process_that_ends_with_the_sessions_leaves_the_tunnel_to_the_one_before() {
    let pair = connected();
    let (server, client) = (&pair.plan.server_site, &pair.plan.client_site);
    let capture = Capture::start(client);
    let flow = Flow::start(client, server, SocketAddr::new(SERVER_V4.parse().unwrap(), 7777));
    for turn in 0..3 {
        let impostor = Impostor::connect(server);
        impostor.ask(2, "wg0").unwrap();
        impostor.freeze();
        let (number, rest) = impostor.receive().unwrap();
        assert_eq!((number, rest[0]), (SESSIONS, 0), "with sessions");
        // as kill -9 of a process that has the sessions
        drop(impostor);
        pair.server.daemon.wait_for_more("this one continues", turn);
        pair.client.ping(SERVER_V4);
    }
    let tally = flow.stop();
    assert_eq!((tally.lost, tally.repeated), (0, 0), "{tally:?}");
    let initiations = capture.stop().iter().filter(|frame| frame.kind() == Some(1)).count();
    assert_eq!(initiations, 0, "with the same sessions");
    let metrics = pair.server.daemon.count("the tunnel was handed over");
    assert_eq!(metrics, 0);
}

#[test]
fn what_is_asked_out_of_order_or_in_another_version_is_refused() {
    let pair = connected();
    let server = &pair.plan.server_site;
    let reason = Impostor::connect(server).ask(3, "wg0").unwrap_err();
    assert!(reason.contains("expects version 3") && reason.contains("has version 2"), "{reason}");
    let reason = Impostor::connect(server).ask(2, "wg1").unwrap_err();
    assert!(reason.contains("another tunnel"), "{reason}");
    let impostor = Impostor::connect(server);
    impostor.freeze();
    assert_eq!(impostor.receive().unwrap().0, 0, "refused");
    assert_eq!(impostor.receive(), None, "and closed");
    let impostor = Impostor::connect(server);
    impostor.send_nonsense();
    while impostor.receive().is_some() {}
    pair.client.ping(SERVER_V4);
}

#[test]
fn another_user_gets_no_tunnel_and_is_not_trusted_with_one() {
    let pair = connected();
    let (server, client) = (&Arc::clone(&pair.plan.server_site), &Arc::clone(&pair.plan.client_site));
    // a process of another user asks that of root
    let file = write(server, &pair.plan.server);
    chown(&file, Some(OTHER_USER), None).unwrap();
    let config = ["--config", file.to_str().unwrap(), "--take-over"];
    let refused = server.launch(BINARY.as_ref(), &config).wrap(AS_OTHER_USER).run();
    assert_eq!(refused.status.code(), Some(69), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--take-over") && refused.stderr.contains("closed"),
        "{}",
        refused.stderr
    );
    pair.server.daemon.wait_for("uid=4321");
    pair.client.ping(SERVER_V4);
    // root asks a process of another user
    let Pair { server: node, client: other, plan } = pair;
    drop(other);
    let file = write(client, &plan.client);
    chown(&file, Some(OTHER_USER), None).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let daemon = client.launch(BINARY.as_ref(), &config).wrap(AS_OTHER_USER).spawn();
    daemon.wait_for(" ready mode=");
    let stopped = launch_successor(client, &[]).wait_exit();
    assert_eq!(stopped.status.code(), Some(77), "{:#?}", stopped.lines);
    assert!(stopped.lines.iter().any(|line| line.contains("belongs to user 4321")), "{:#?}", stopped.lines);
    eventually("the tunnel works", || client.ping_once(SERVER_V4.parse::<std::net::IpAddr>().unwrap(), 56));
    drop(node);
}

#[test]
fn without_a_running_process_the_tunnel_is_started() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    let daemon = launch_successor(&plan.server_site, &[]);
    daemon.wait_for("no process runs this tunnel");
    daemon.wait_for(" ready mode=");
    assert_eq!(daemon.stop().status.code(), Some(0));
}
