//! A client's host with a name server on its network, one behind the tunnel, and one that programs
//! have built in; and all ways to ask for names, with a capture of what leaves the host in clear.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::daemon::Launch;
use crate::mounts::BINARY;
use crate::wireguard::capture::Capture;
use crate::wireguard::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4};
use crate::wireguard::name_server::NameServer;
use crate::wireguard::pair::{PORT, SERVER_V4};
use crate::wireguard::site::Site;

/// A name server that programs have built in.
const BUILT_IN: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// Part of every name that is asked for, which no captured packet may contain.
pub(super) const MARKER: &str = "do-not-leak";

/// The hosts and the name servers. The client has an /etc of its own.
pub(super) struct Names {
    pub(super) stage: Stage,
    /// The name server of the client's network.
    pub(super) local: NameServer,
    /// The one behind the tunnel.
    pub(super) tunnel: NameServer,
    _built_in: NameServer,
}

/// Returns the path of a file of Debian's packages, unpacked by `scripts/resolved.sh`.
pub(super) fn file(places: &[&str]) -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let unpacked =
        std::env::var("WONTUN_RESOLVED").unwrap_or_else(|_| format!("{cache}/wontun-test/resolved"));
    let candidates = places.iter().map(|place| PathBuf::from(format!("{unpacked}/{place}")));
    let mut found = candidates.filter(|path| path.exists());
    found.next().unwrap_or_else(|| panic!("{places:?} is missing: run scripts/resolved.sh"))
}

impl Names {
    pub(super) fn new() -> Self {
        let stage = Stage::new();
        let (client, server) = (stage.client(), &stage.plan.server_site);
        server.ip(&["address", "add", &format!("{BUILT_IN}/32"), "dev", "lo"]);
        stage.router.ip(&["route", "add", &BUILT_IN.to_string(), "via", "192.0.2.1"]);
        let local = NameServer::start(stage.router.host(), NEIGHBOUR_V4, server.v4, false);
        let tunnel = NameServer::start(server.host(), SERVER_V4.parse::<IpAddr>().unwrap(), WORLD_V4, false);
        let built_in = NameServer::start(server.host(), BUILT_IN, WORLD_V4, false);
        client.shell(
            "mkdir /run/etc
             mount -t tmpfs none /run/etc
             mkdir /run/etc/upper /run/etc/work
             mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work none /etc
             rm -f /etc/resolv.conf
             printf '127.0.0.1 localhost\\n' >/etc/hosts",
        );
        Self { stage, local, tunnel, _built_in: built_in }
    }

    pub(super) fn client(&self) -> &Site {
        self.stage.client()
    }

    pub(super) fn conf(&self) -> String {
        let text = self.stage.plan.client.wg_quick();
        text.replacen("[Interface]\n", &format!("[Interface]\nDNS = {SERVER_V4}\n"), 1)
    }

    pub(super) fn launch(&self, arguments: &[&str]) -> Launch<'_> {
        let file = self.client().write("wg0.conf", &self.conf());
        let config = ["--config", file.to_str().unwrap(), "--apply-dns", "auto"];
        self.client().launch(BINARY.as_ref(), &[&config[..], arguments].concat())
    }

    pub(super) fn index(&self, device: &str) -> u32 {
        let line = self.client().ip(&["-o", "link", "show", "dev", device]);
        line.split(':').next().unwrap().parse().unwrap()
    }

    /// Asks for a name by getaddrinfo(3), with a service of nsswitch.conf(5) that is chosen.
    pub(super) fn get_address(&self, service: &str, name: &str) -> String {
        let library = file(&[
            "libnss-resolve/usr/lib/x86_64-linux-gnu/libnss_resolve.so.2",
            "libnss-resolve/usr/lib/aarch64-linux-gnu/libnss_resolve.so.2",
        ]);
        let folder = library.parent().unwrap().display();
        let command =
            format!("LD_LIBRARY_PATH={folder} timeout 9 getent -s hosts:{service} ahosts {name} || true");
        self.client().shell(&command)
    }

    /// Asks for a name as dig(1) does, and returns true if there is an answer within a second.
    fn dig(&self, server: Ipv4Addr, name: &str) -> bool {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let socket = self.client().udp((Ipv4Addr::UNSPECIFIED, 0));
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let server = SocketAddr::from((server, 53));
        // the kill switch may refuse it
        socket.send_to(&query, server).is_ok() && socket.recv_from(&mut [0; 512]).is_ok()
    }

    /// Asks in every way while packets are captured outside. Returns how each was answered, and the
    /// captured packets with a part of a name: of all ways, or those of the system's resolver.
    pub(super) fn ask_all(&self, has_foreign: bool) -> (Vec<bool>, usize) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let round = COUNT.fetch_add(1, Ordering::Relaxed);
        let capture = Capture::of(self.stage.router.host(), |packet| Some(packet.to_vec()));
        let name = |way: &str| format!("{way}{round}.{MARKER}.example.com");
        let world = WORLD_V4.to_string();
        let mut answers = vec![
            self.get_address("resolve", &name("nss")).contains(&world),
            self.get_address("dns", &name("stub")).contains(&world),
        ];
        if has_foreign {
            answers.push(self.dig(NEIGHBOUR_V4, &name("local")));
            answers.push(self.dig(BUILT_IN, &name("built-in")));
        }
        let frames = capture.stop();
        let is_clear = |frame: &&Vec<u8>| frame.windows(MARKER.len()).any(|bytes| bytes == MARKER.as_bytes());
        (answers, frames.iter().filter(is_clear).count())
    }

    pub(super) fn is_tunnelled(&self) -> bool {
        self.client().wg(&["show", "wg0", "endpoints"]).contains(&format!(":{PORT}"))
    }
}
