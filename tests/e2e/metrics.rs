//! `--metrics`: the metrics are correct, and slow or aggressive scrapers cannot affect the tunnel.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, Launch};
use crate::lab::{Host, Lab, heavy, unanswered};
use crate::mounts::BINARY;
use crate::process::has_only_net_admin;
use crate::streams::Connection;
use crate::tunnel::{CLIENT_V4, Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, finish, holds_within};
use crate::wireguard::memory::{resident_kilobytes, resident_of_one, with_idle_peers};
use crate::wireguard::pair::{self, Outer};
use crate::wireguard::site::Site;
use crate::workers::lab::threads;

const PORT: u16 = 9586;
const GET: &[u8] = b"GET /metrics HTTP/1.0\r\nHost: 192.0.2.1:9586\r\n\r\n";

/// The scraped metrics: the value of each name with its labels, as they are written.
#[derive(Debug)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub(crate) fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {self:#?}"))
    }

    /// Returns all series of a name, as labels and values.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(series, number)| {
            let labels = series.strip_prefix(name).filter(|labels| labels.starts_with('{'))?;
            Some((labels, *number))
        })
    }
}

/// Scrapes as Prometheus does, from `host`.
fn try_scrape(host: &Host, address: SocketAddr) -> std::io::Result<String> {
    let mut stream = host.inside(|| TcpStream::connect_timeout(&address, TIMEOUT))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(GET)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn scrape(host: &Host, address: SocketAddr) -> Scrape {
    let answer = try_scrape(host, address).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.map(|line| {
        let (series, number) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), number.parse().unwrap())
    });
    Scrape(numbers.collect())
}

/// Starts a tunnel whose server exports metrics on its outer address.
fn start(mode: Mode, lab: &Arc<Lab>) -> (Tunnel, SocketAddr) {
    let address = SocketAddr::from((lab.server().v4, PORT));
    let mut plan = Plan::new(mode);
    plan.server = plan.server.args(&format!("--workers 2 --metrics {address}"));
    (plan.start_on(lab), address)
}

#[test]
fn values_move_with_traffic_and_are_true() {
    for mode in Mode::BOTH {
        let lab = Arc::new(Lab::new(2));
        let (tunnel, address) = start(mode, &lab);
        let before = scrape(lab.client(), address);
        assert_eq!(before.get("wontun_device_up"), 1.0);
        assert_eq!(before.get("wontun_workers"), 2.0);
        assert_eq!(before.get("wontun_peers"), 1.0);
        tunnel.connect(SERVER_V4).exchange(3_000_000);
        let totals = |scrape: &Scrape| {
            ["transmit_packets", "transmit_bytes", "receive_packets", "receive_bytes"]
                .map(|name| scrape.get(&format!("wontun_{name}_total")) as u64)
        };
        let mut seen = None;
        let is_true = holds_within(TIMEOUT, || {
            let now = scrape(lab.client(), address);
            let summary = tunnel.server.summary();
            let said = [summary.tx_packets, summary.tx_bytes, summary.rx_packets, summary.rx_bytes];
            let is_true = totals(&now) == said && summary.rx_bytes > 3_000_000;
            seen = Some((now, summary));
            is_true
        });
        let (now, summary) = seen.unwrap();
        assert!(is_true, "{mode:?}: {:?} is told of {summary:?}", totals(&now));
        assert!(totals(&now)[1] >= totals(&before)[1] + 3_000_000, "{now:#?}");
        let resident = resident_of_one(tunnel.server.tunnel_pid()) as f64 * 1024.0;
        let told = now.get("process_resident_memory_bytes");
        assert!((told - resident).abs() < resident / 4.0, "{told} bytes told, {resident} resident");
        assert!(now.get("process_cpu_seconds_total") > 0.0);
        assert!(now.get("wontun_device_queue_drops_total") >= 0.0, "the device is in the list");
        let buffers: Vec<_> = now.all("wontun_socket_receive_buffer_bytes").collect();
        assert_eq!(buffers.len(), 2, "{buffers:?}");
        assert!(buffers.iter().all(|(_, bytes)| *bytes >= 1e6), "{buffers:?}");
        if mode == Mode::Plain {
            assert!(now.get("wontun_plain_peer_silence_seconds") < 60.0);
            assert!(!now.0.keys().any(|name| name.starts_with("wontun_peer_")));
            continue;
        }
        let keys = tunnel.server_site.wg(&["show", "tun0", "transfer"]);
        let [key, received, sent] = keys.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{keys}") };
        let of = |name: &str| now.get(&format!("wontun_peer_{name}{{public_key=\"{key}\",name=\"\"}}"));
        let [received, sent] = [received, sent].map(|bytes| bytes.parse::<f64>().unwrap());
        // a keepalive may be sent or received in between
        assert!((0.0..=64.0).contains(&(received - of("receive_bytes_total"))), "{received} {now:#?}");
        assert!((0.0..=64.0).contains(&(sent - of("transmit_bytes_total"))), "{sent} {now:#?}");
        assert_eq!(of("receive_packets_total"), summary.rx_packets as f64);
        assert_eq!(of("transmit_packets_total"), summary.tx_packets as f64);
        assert_eq!(of("has_session"), 1.0);
        assert!(of("handshake_age_seconds") < 60.0);
    }
}

#[test]
fn drops_are_counted_by_reason() {
    const JUNK: usize = 100;
    for (mode, reason) in [(Mode::Plain, "stranger"), (Mode::WireGuard, "no_message")] {
        let lab = Arc::new(Lab::new(2));
        let (_tunnel, address) = start(mode, &lab);
        let series = format!("wontun_drops_total{{reason=\"{reason}\"}}");
        assert_eq!(scrape(lab.client(), address).get(&series), 0.0);
        let socket = lab.client().udp((Ipv4Addr::UNSPECIFIED, 0));
        for _ in 0..JUNK {
            socket.send_to(b"whatever this is", (lab.server().v4, mode.port())).unwrap();
        }
        let count = || scrape(lab.client(), address).get(&series) as usize;
        assert!(holds_within(TIMEOUT, || count() == JUNK), "{mode:?}: {} of {JUNK}", count());
    }
}

/// `# Name = …` of the file as it was last read, also after a change.
#[test]
fn peers_have_the_names_of_the_file() {
    let lab = Arc::new(Lab::new(2));
    let (tunnel, address) = start(Mode::WireGuard, &lab);
    let file = tunnel.server_site.path().join("tun0.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    for (name, label) in [("phone", "phone"), ("Ann's \"old\" \\ phone", "Ann's \\\"old\\\" \\\\ phone")] {
        let named = text.replace("[Peer]", &format!("[Peer]\n# Name = {name}"));
        assert_ne!(named, text);
        tunnel.server_site.write("tun0.conf", &named);
        tunnel.server.signal(Signal::SIGHUP);
        let end = format!(",name=\"{label}\"}}");
        eventually("the name is told", || {
            let now = scrape(lab.client(), address);
            now.all("wontun_peer_has_session").all(|(labels, _)| labels.ends_with(&end))
        });
    }
}

/// Pings without a pause. Returns the numbers of the lost packets, and the longest round trip in
/// milliseconds.
fn ping(site: &Site, address: Ipv4Addr, count: u32) -> (Vec<u32>, f64) {
    let mut ping = site.command("ping");
    let (with_last, address) = ((count + 1).to_string(), address.to_string());
    ping.args(["-n", "-c", &with_last, "-i", "0.02", "-W", "2", &address]);
    let finished = finish(&mut ping, TIMEOUT * 2);
    // rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms
    let rtt = finished.stdout.lines().find_map(|line| line.strip_prefix("rtt ")?.split_once(" = "));
    let (_, rtt) = rtt.unwrap_or_else(|| panic!("{finished:?}"));
    (unanswered(&finished.stdout, count), rtt.split('/').nth(2).unwrap().parse().unwrap())
}

/// Starts a tunnel with the configuration `text`.
fn start_with(site: &Site, text: &str, args: &[&str]) -> Daemon {
    let file = site.write("tun0.conf", text);
    let daemon =
        site.launch(BINARY.as_ref(), &[&["--config", file.to_str().unwrap()], args].concat()).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

#[test]
fn ten_thousand_peers_are_told_of_while_the_tunnel_works() {
    const PEERS: usize = 10_000;
    let _guard = heavy();
    let mut plan = pair::Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    plan.server = with_idle_peers(&plan.server, PEERS as u64);
    let address = SocketAddr::from((plan.server_site.v4, PORT));
    let text = plan.server.wg_quick();
    let server =
        start_with(&plan.server_site, &text, &["--metrics", &address.to_string(), "--log-level", "debug"]);
    let client = start_with(&plan.client_site, &plan.client.wg_quick(), &[]);
    plan.client_site.ping(SERVER_V4);
    let quiet = ping(&plan.client_site, SERVER_V4, 100);
    let before = resident_kilobytes(server.pid());
    let ended = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut times = Vec::new();
            while !ended.load(Ordering::Relaxed) || times.is_empty() {
                let start = Instant::now();
                let now = scrape(plan.client_site.host(), address);
                times.push(start.elapsed());
                assert_eq!(now.get("wontun_peers") as usize, PEERS + 1);
                assert_eq!(now.all("wontun_peer_receive_bytes_total").count(), PEERS + 1);
                assert_eq!(now.all("wontun_peer_handshake_age_seconds").count(), 1);
            }
            times
        });
        let busy = {
            let _end = SetAtEnd(&ended);
            ping(&plan.client_site, SERVER_V4, 200)
        };
        let times = scraper.join().unwrap();
        eprintln!("{} scrapes of {PEERS} peers, the longest took {:?}", times.len(), times.iter().max());
        let looks: Vec<u64> = server
            .lines()
            .iter()
            .filter_map(|line| line.split_once("longest_lock_us=")?.1.split(' ').next()?.parse().ok())
            .collect();
        eprintln!("the longest times that a look at them had the lock, in µs: {looks:?}");
        busy
    });
    let after = resident_kilobytes(server.pid());
    eprintln!(
        "pings lost and the longest in ms: quiet {quiet:?}, scraped {busy:?}; resident {before} kB, then {after} kB"
    );
    assert!(quiet.0.is_empty() && busy.0.is_empty(), "pings were lost");
    assert!(after < before + 8 * 1024, "{before} kB became {after} kB");
    drop(client);
}

/// Starts to open a connection without waiting: it may be open, in progress, or refused.
fn begin_to_connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None).unwrap();
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::EINPROGRESS)),
    }
    socket.into()
}

/// Opens a thousand connections at once: silent ones, requests sent byte by byte, requests without
/// end, and answers that nobody reads. Returns the number of connections.
fn abuse(host: &Host, address: SocketAddr, ended: &AtomicBool) -> usize {
    let waits = |error: std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::NotConnected)
    };
    host.inside(|| {
        let mut silent: Vec<_> = (0..1000).map(|_| begin_to_connect(address)).collect();
        let mut others: Vec<_> = (0..30).map(|_| begin_to_connect(address)).collect();
        let mut made = silent.len() + others.len();
        while !ended.load(Ordering::Relaxed) {
            for (number, stream) in others.iter_mut().enumerate() {
                let written = match number % 3 {
                    0 => stream.write(b"G"),
                    1 => stream.write(&[b'a'; 64 * 1024]),
                    _ => stream.write(GET).inspect(|_| drop(stream.shutdown(Shutdown::Write))),
                };
                // a connection that was closed is opened again
                if !written.map_or_else(waits, |_| true) {
                    (*stream, made) = (begin_to_connect(address), made + 1);
                }
            }
            silent.drain(..20);
            silent.extend((0..20).map(|_| begin_to_connect(address)));
            made += 20;
            thread::sleep(Duration::from_millis(20));
        }
        made
    })
}

#[test]
fn hostile_scrapers_do_not_disturb_the_tunnel() {
    let _guard = heavy();
    for mode in Mode::BOTH {
        let lab = Arc::new(Lab::new(2));
        let (tunnel, address) = start(mode, &lab);
        let connection = Connection::open(&tunnel.server_site, (SERVER_V4, 0), &tunnel.client_site);
        let quiet = ping(&tunnel.client_site, SERVER_V4, 100);
        // the tunnel's own load while it carries much
        connection.say_hello();
        tunnel.connect(SERVER_V4).exchange(50_000_000);
        let before = resident_kilobytes(tunnel.server.pid());
        let ended = AtomicBool::new(false);
        let (busy, made) = thread::scope(|scope| {
            let abuser = scope.spawn(|| abuse(lab.client(), address, &ended));
            let busy = {
                let _end = SetAtEnd(&ended);
                tunnel.connect(SERVER_V4).exchange(50_000_000);
                ping(&tunnel.client_site, SERVER_V4, 200)
            };
            (busy, abuser.join().unwrap())
        });
        let after = resident_kilobytes(tunnel.server.pid());
        eprintln!(
            "{mode:?}: {made} connections; pings lost and the longest in ms: quiet {quiet:?}, abused {busy:?}; \
             resident {before} kB, then {after} kB"
        );
        assert!(made > 1000, "{made} connections");
        assert!(busy.0.is_empty(), "pings were lost");
        assert!(after < before + 2048, "{before} kB became {after} kB");
        eventually("metrics are told again", || try_scrape(lab.client(), address).is_ok());
        assert_eq!(tunnel.server.stop().status.code(), Some(0));
    }
}

/// The thread that serves scrapers has no capabilities, nor have the other threads.
#[test]
fn the_metrics_thread_has_no_capability() {
    let lab = Arc::new(Lab::new(2));
    let (tunnel, address) = start(Mode::WireGuard, &lab);
    scrape(lab.client(), address);
    assert!(threads(tunnel.server.tunnel_pid()).iter().any(|thread| thread.name == "metrics"));
    assert!(threads(tunnel.server.pid()).iter().all(|thread| thread.name != "metrics"));
    has_only_net_admin(&tunnel.server);
}

/// The shutdown does not wait for scrapers.
#[test]
fn a_stop_does_not_wait_for_a_scraper() {
    let lab = Arc::new(Lab::new(2));
    let (tunnel, address) = start(Mode::Plain, &lab);
    let _silent = lab.client().connect(address);
    scrape(lab.client(), address);
    let stopped = tunnel.server.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert!(stopped.elapsed < Duration::from_secs(1), "{stopped:?}");
}

#[test]
fn nobody_is_told_anything_unless_it_is_asked_for_and_strangers_earn_a_warning() {
    let lab = Lab::new(2);
    let listeners = || {
        let list = lab.server().inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
        // state 0A: listening
        list.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
    };
    let server = Daemon::server(lab.server(), &[]);
    assert_eq!(listeners(), 0);
    server.stop();
    for (address, warns) in [("127.0.0.1:9586", false), ("0.0.0.0:9586", true), ("[::1]:9586", false)] {
        let server = Launch::plain(lab.server(), &[]).env("WONTUN_METRICS", address).spawn();
        server.wait_ready();
        server.wait_for(&format!("http://{address}/metrics"));
        let lines = server.stop().lines;
        let warned = lines.iter().any(|line| line.contains("WARN") && line.contains("can read the metrics"));
        assert_eq!(warned, warns, "{address}: {lines:?}");
    }
}

#[test]
fn an_address_that_cannot_be_is_refused() {
    let lab = Lab::new(2);
    let _taken = lab.server().listen((lab.server().v4, PORT));
    let taken = format!("{}:{PORT}", lab.server().v4);
    for (address, code, part) in [
        (taken.as_str(), 69, "the TCP port is in use"),
        ("198.51.100.1:9586", 69, "not an address of this host"),
        ("9586", 2, "--metrics"),
        ("localhost:9586", 2, "--metrics"),
    ] {
        let run = Launch::plain(lab.server(), &["--metrics", address]).run();
        assert_eq!(run.code(), code, "{address}: {run:?}");
        let line = run.stderr.lines().last().unwrap();
        assert!(line.starts_with("wontun: ") && line.contains(part), "{address}: {run:?}");
    }
}

/// The kill switch lets no answer out outside the tunnel; through it, and on the host itself,
/// metrics are available.
#[test]
fn the_kill_switch_holds_for_metrics_too() {
    let lab = Arc::new(Lab::new(2));
    let mut plan = pair::Plan::new(&lab, Outer::V4);
    plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned()];
    let _server = start_with(&plan.server_site, &plan.server.wg_quick(), &[]);
    let args = ["--kill-switch", "--metrics", "0.0.0.0:9586"];
    let _client = start_with(&plan.client_site, &plan.client.wg_quick(), &args);
    plan.client_site.ping(SERVER_V4);
    let ask = |host: &Host, address: Ipv4Addr| {
        let address = SocketAddr::from((address, PORT));
        host.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(2))).is_ok()
    };
    assert!(ask(plan.client_site.host(), Ipv4Addr::LOCALHOST), "on the host itself");
    assert!(ask(plan.server_site.host(), CLIENT_V4), "through the tunnel");
    assert!(!ask(plan.server_site.host(), lab.client().v4), "past the tunnel");
}
