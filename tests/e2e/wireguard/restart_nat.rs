//! The restart of a server behind a NAT that publishes its port, as Docker does: greetings leave
//! from the port that clients know only if the published port is the server's own.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::implementation::Implementation::ConfigFile;
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use super::restart::{GREETING, greets_nobody, start, wait_for_state};
use super::site::Site;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::waiting::{eventually, holds_within};

/// Time within which a client is back: without a greeting it needs 15 s.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Time for which the router keeps a silent UDP flow.
const MEMORY: Duration = Duration::from_secs(1);

/// A server whose port 51820 is published as another one.
struct Published {
    site: Arc<Site>,
    client: Node,
    _router: Site,
}

impl Published {
    /// Publishes the server's port as `port`, connects a client, and kills the server. The router
    /// forgets flows as Docker does when it replaces a container. `comment` is a line of the
    /// server's file.
    fn killed(port: u16, comment: &str) -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let router = Site::new(&lab, 2);
        router.shell(&format!(
            "nft 'table ip nat {{
                chain in {{ type nat hook prerouting priority -100; iifname right udp dport {port} dnat to 192.0.2.1:{PORT}; }}
                chain out {{ type nat hook postrouting priority 100; oifname right masquerade; }}; }}'
            cd /proc/sys/net/netfilter
            for timeout in nf_conntrack_udp_timeout nf_conntrack_udp_timeout_stream; do echo {} >$timeout; done",
            MEMORY.as_secs()
        ));
        let mut plan = Plan::between(&lab, [0, 1], Outer::V4);
        plan.client.peers[0].endpoint = Some(format!("198.51.100.254:{port}"));
        let file = plan.server.wg_quick().replace("[Interface]\n", &format!("[Interface]\n{comment}\n"));
        plan.server_site.write("wg0.conf", &file);
        let daemon = start(&plan.server_site, &[]);
        let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
        client.ping(SERVER_V4);
        wait_for_state(&plan.server_site, 1);
        daemon.signal(Signal::SIGKILL);
        daemon.wait_exit();
        Self::forget_flows();
        Self { site: plan.server_site, client, _router: router }
    }

    fn start(&self) -> Daemon {
        start(&self.site, &[])
    }

    /// Waits until the router uses no flow any more. It may list one for longer.
    fn forget_flows() {
        sleep(MEMORY + Duration::from_millis(500));
    }

    /// Returns the address at which the client has the server.
    fn server_of_client(&self) -> String {
        self.client.only_peer().endpoint
    }

    fn reaches(&self, limit: Duration) -> bool {
        holds_within(limit, || self.client.site.ping_once([10, 9, 0, 1], 56))
    }
}

#[test]
fn clients_of_the_same_port_are_back_at_once_and_stay() {
    let published = Published::killed(PORT, "");
    let daemon = published.start();
    daemon.wait_for(GREETING);
    // a ping before the greeting is answered is lost
    assert!(published.reaches(BACK_WITHIN));
    assert_eq!(published.server_of_client(), format!("198.51.100.254:{PORT}"));
    Published::forget_flows();
    assert!(published.reaches(BACK_WITHIN));
}

/// The control: the client follows to the mapping of the greeting, and is lost when that ends.
#[test]
fn clients_of_another_port_would_be_lost() {
    let published = Published::killed(PORT + 1, "");
    let _daemon = published.start();
    eventually("the client follows", || published.server_of_client() == format!("198.51.100.254:{PORT}"));
    Published::forget_flows();
    assert!(!published.reaches(Duration::from_secs(1)));
}

#[test]
fn clients_of_another_port_are_not_greeted_if_the_file_says_so() {
    let published = Published::killed(PORT + 1, "# ClientEndpoint = 198.51.100.254:51821");
    let daemon = published.start();
    daemon.wait_for("clients connect to port 51821");
    assert_eq!(published.server_of_client(), "198.51.100.254:51821");
    assert_eq!(daemon.count("clients connect to port 51821"), 1, "{:?}", daemon.lines());
    greets_nobody(&daemon.stop());
}
