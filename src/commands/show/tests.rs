//! Tests of `show` against a listener in temporary folders.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use super::*;
use crate::traffic::{Bytes, PeriodTraffic, Traffic};
use crate::uapi::ClientError;
use crate::uapi::{
    InterfaceStatus, PeerStatus, Request, RequestPoll, Response, ResponseFormat, UapiListener,
};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey, Transfer};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wontun-show-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn folders(&self) -> UapiFolders {
        let below = |name| self.0.join(name);
        UapiFolders { standard: below("wireguard"), config: vec![self.0.clone()], fallback: below("wontun") }
    }

    fn socket(&self, folder: &str, name: &str) -> UnixListener {
        std::fs::create_dir_all(self.0.join(folder)).unwrap();
        let path = self.0.join(folder).join(name);
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    /// Leaves a socket whose owner is gone.
    fn stale_socket(&self, folder: &str, name: &str) {
        let listener = self.socket(folder, name);
        // a program that another test is starting may hold a copy of the descriptor for a moment
        rustix::net::shutdown(&listener, Shutdown::Both).unwrap();
        drop(listener);
        let refused = UnixStream::connect(self.0.join(folder).join(name)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tun(name: &str) -> TunName {
    name.parse().unwrap()
}

fn prefix(address: &str, length: u8) -> Prefix {
    Prefix::new(address.parse().unwrap(), length).unwrap()
}

/// Returns the status answer of a tunnel with two peers.
fn status() -> zeroize::Zeroizing<Vec<u8>> {
    let private = PrivateKey::from_bytes(&[0x48; 32]);
    let interface = InterfaceStatus {
        private_key: Some(&private),
        public_key: Some(&private.public_key()),
        listen_port: 51820,
        fwmark: 0xca6c,
        mtu: Some(1420),
        is_up: false,
        repairs: &[("rule", 2), ("route", 0)],
        problems: &["a chain drops".to_owned()],
    };
    let mut answer =
        Response::new(ResponseFormat::Status, &interface, [("replay", 3), ("no_key", 0), ("bad_mac1", 7)]);
    let old = PeerStatus {
        public_key: &PublicKey::from_bytes([1; 32]),
        name: None,
        preshared_key: &PresharedKey::default(),
        endpoint: None,
        last_handshake: Duration::ZERO,
        earlier_handshake: Duration::from_secs(1_596_399_200),
        tx_bytes: 0,
        rx_bytes: 0,
        traffic: None,
        persistent_keepalive: 0,
        has_session: false,
        is_over_quota: false,
    };
    answer.peer(&old, []);
    let bytes = |received, sent| Bytes { received, sent };
    let new = PeerStatus {
        public_key: &PublicKey::from_bytes([2; 32]),
        name: Some(&"Anna's \"phone\"".parse().unwrap()),
        preshared_key: &PresharedKey::from_bytes([9; 32]),
        endpoint: Some("[fe80::1%1]:51820".parse().unwrap()),
        last_handshake: Duration::new(1_600_000_000, 5),
        earlier_handshake: Duration::ZERO,
        tx_bytes: 5 << 20,
        rx_bytes: 100,
        traffic: Some(Traffic {
            total: Transfer { received: 1 << 20, sent: 2 << 20, packets_received: 9, packets_sent: 9 },
            day: PeriodTraffic { number: 9, current: bytes(1024, 2048), previous: bytes(3, 4) },
            month: PeriodTraffic { number: 9, current: bytes(5 << 10, 6 << 10), previous: bytes(7, 8) },
        }),
        persistent_keepalive: 25,
        has_session: true,
        is_over_quota: false,
    };
    answer.peer(&new, [prefix("10.0.0.0", 24), prefix("fd00::", 64)]);
    answer.finish()
}

/// Runs `test` while `listener` answers.
fn while_answering<T>(listener: &UapiListener, test: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut streams = Vec::new();
            while !done.load(Ordering::Relaxed) {
                streams.extend(listener.accept().unwrap());
                for stream in &mut streams {
                    if let Ok(RequestPoll::Request(request)) = stream.poll_request() {
                        assert_eq!(request, Request::Status, "secrets are not asked for");
                        stream.respond(status()).unwrap();
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let result = test();
        done.store(true, Ordering::Relaxed);
        result
    })
}

const HUMAN: &str = "interface: wt0
  public key: MvixV3vTjNnaDIvlv8UqmNp4Tq3gYTKyUExvVUMz+X4=
  private key: (hidden)
  listening port: 51820
  fwmark: 0xca6c
  mtu: 1420
  device: down
  problem: a chain drops
  repairs: 2 rule
  dropped: 7 bad_mac1, 3 replay

peer: Anna's \"phone\"
  public key: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
  state: active
  preshared key: (hidden)
  endpoint: [fe80::1%1]:51820
  allowed ips: 10.0.0.0/24, fd00::/64
  latest handshake: 1 minute, 3 seconds ago
  transfer: 100 B received, 5.00 MiB sent
  today: 1.00 KiB received, 2.00 KiB sent
  yesterday: 3 B received, 4 B sent
  this month: 5.00 KiB received, 6.00 KiB sent
  last month: 7 B received, 8 B sent
  all runs: 1.00 MiB received, 2.00 MiB sent
  persistent keepalive: every 25 seconds

peer: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  state: idle
  allowed ips: (none)
  latest handshake: 41 days, 16 hours, 14 minutes, 23 seconds ago
";

fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.filter_map(|part| part.split_once('m')).map(|(_, text)| text).collect::<String>()
}

#[test]
fn one_by_name_for_people_and_programs() {
    let folder = Folder::new();
    let (listener, _) = UapiListener::open_in(&tun("wt0"), &folder.folders()).unwrap();
    let mut status =
        while_answering(&listener, || client::status_by_name(&folder.folders(), &tun("wt0")).unwrap());
    status.sort();
    let public = PrivateKey::from_bytes(&[0x48; 32]).public_key().to_string();
    let expected = HUMAN.replace("MvixV3vTjNnaDIvlv8UqmNp4Tq3gYTKyUExvVUMz+X4=", &public);
    let statuses = [status];
    assert_eq!(human::format(&statuses, Duration::from_secs(1_600_000_063), false), expected);
    let coloured = human::format(&statuses, Duration::from_secs(1_600_000_063), true);
    assert_eq!(without_colours(&coloured), expected);
    assert!(
        coloured.contains("\u{1b}[1m\u{1b}[33mpeer\u{1b}[0m: ")
            && coloured.contains("\u{1b}[1mendpoint\u{1b}[0m: ")
    );
    let version = env!("CARGO_PKG_VERSION");
    let json = format!(
        r#"{{"tunnels":[{{"name":"wt0","version":"{version}","public_key":"{public}","listen_port":51820,"fwmark":51820,"mtu":1420,"up":false,"dropped":{{"bad_mac1":7,"replay":3}},"repairs":{{"rule":2}},"problems":["a chain drops"],"peers":[{{"name":"Anna's \"phone\"","public_key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","has_preshared_key":true,"has_session":true,"state":"active","endpoint":"[fe80::1%1]:51820","allowed_ips":["10.0.0.0/24","fd00::/64"],"latest_handshake":1600000000,"received_bytes":100,"sent_bytes":5242880,"traffic":{{"total":{{"received_bytes":1048576,"sent_bytes":2097152}},"month":{{"received_bytes":5120,"sent_bytes":6144}},"previous_month":{{"received_bytes":7,"sent_bytes":8}},"day":{{"received_bytes":1024,"sent_bytes":2048}},"previous_day":{{"received_bytes":3,"sent_bytes":4}}}},"persistent_keepalive":25}},{{"name":null,"public_key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","has_preshared_key":false,"has_session":false,"state":"idle","endpoint":null,"allowed_ips":[],"latest_handshake":1596399200,"received_bytes":0,"sent_bytes":0,"traffic":null,"persistent_keepalive":null}}]}}]}}"#
    );
    assert_eq!(tunnels_to_json(&statuses), format!("{json}\n"));
}

#[test]
fn all_that_run_wherever_they_are() {
    let folder = Folder::new();
    let folders = folder.folders();
    let only = |folder: &Path| UapiFolders {
        standard: folder.to_owned(),
        config: Vec::new(),
        fallback: folder.to_owned(),
    };
    let config = folders.config[0].clone();
    let listeners = [
        UapiListener::open_in(&tun("b"), &only(&folders.standard)).unwrap().0,
        UapiListener::open_in(&tun("c"), &only(&config)).unwrap().0,
        UapiListener::open_in(&tun("a"), &only(&folders.fallback)).unwrap().0,
    ];
    // a stale socket, one of another kind, a regular file, and another program's in the user's
    // folder
    folder.stale_socket("wireguard", "stale.sock");
    std::fs::write(folders.standard.join("file.sock"), "").unwrap();
    let _others = folder.socket(".", "docker.sock");
    let foreign = folder.socket("wireguard", "foreign.sock");
    let hangs_up = thread::spawn(move || {
        let (mut stream, _) = foreign.accept().unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
    });
    let (statuses, error) = while_answering(&listeners[0], || {
        while_answering(&listeners[1], || while_answering(&listeners[2], || client::status_of_all(&folders)))
    });
    assert!(error.is_none(), "{error:?}");
    let mut names: Vec<_> = statuses.iter().map(|status| status.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    hangs_up.join().unwrap();
}

#[test]
fn nobody_there() {
    let folder = Folder::new();
    let options = ShowOptions { name: None, folders: folder.folders(), json: false };
    assert!(matches!(show(&options), Err(CommandError::NoneRunning)));
    folder.stale_socket("wireguard", "wt0.sock");
    assert!(matches!(show(&options), Err(CommandError::NoneRunning)));
    let options = ShowOptions { name: Some(tun("wt0")), ..options };
    let error = show(&options).unwrap_err();
    assert!(matches!(error, CommandError::Client(ClientError::NotRunning(_))));
    assert_eq!(
        error.to_string(),
        "tunnel wt0 is not running: start it, or name one that 'wontun show' lists"
    );
}

#[test]
fn one_that_hangs_is_found_out_in_two_seconds() {
    let folder = Folder::new();
    let _silent = folder.socket("wireguard", "wt0.sock");
    let begin = Instant::now();
    let error = client::status_by_name(&folder.folders(), &tun("wt0")).unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error}");
    // not only by the limit of a whole answer, ten seconds
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&begin.elapsed()));
}

/// Names, versions and reasons of a hostile process never move a cursor; invalid names are dropped.
#[test]
fn no_escape_sequence_gets_through() {
    let folder = Folder::new();
    let listener = folder.socket("wontun", "wt0.sock");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        let key = "01".repeat(32);
        let answer = format!(
            "version=1\u{1b}[2J\ndrop_\u{1b}[2Jx=1\ndrop_replay=2\npublic_key={key}\nname=\u{1b}[31mred\n\
             public_key={key}\nname=\u{9b}31m\nerrno=0\n\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let statuses = [client::status_by_name(&folder.folders(), &tun("wt0")).unwrap()];
    server.join().unwrap();
    for text in [human::format(&statuses, Duration::ZERO, false), tunnels_to_json(&statuses)] {
        assert!(text.contains("replay"), "{text}");
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    }
    assert!(statuses[0].peers.iter().all(|peer| peer.name.is_none()));
}

#[test]
fn an_answer_without_end_is_given_up() {
    let folder = Folder::new();
    let listener = folder.socket("wontun", "wt0.sock");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let line = [&[b'x'; 1 << 20][..], b"\n"].concat();
        let mut written = 0;
        while stream.write_all(&line).is_ok() {
            written += line.len();
        }
        written
    });
    let error = client::status_by_name(&folder.folders(), &tun("wt0")).unwrap_err();
    assert!(matches!(error, ClientError::Foreign(_)), "{error}");
    assert!(server.join().unwrap() < 80 << 20);
}

#[test]
fn whoever_answers_something_else_is_told_apart() {
    for (answer, part) in [
        ("", "not a wontun tunnel"),
        ("errno=-22\n\n", "not a wontun tunnel"),
        ("version=1\n\n", "not a wontun tunnel"),
        ("version=1\nmtu=x\nerrno=0\n\n", "sent an invalid status (mtu)"),
        ("version=1\nendpoint\u{1b}=\nmtu=-1\n", "sent an invalid status (mtu)"),
        ("public_key=00\n", "sent an invalid status (public_key)"),
        ("version=1\nerrno=-5\n\n", "reports error -5"),
    ] {
        let folder = Folder::new();
        let listener = folder.socket("wontun", "wt0.sock");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = client::status_by_name(&folder.folders(), &tun("wt0")).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{answer:?}: {error}");
        server.join().unwrap();
    }
}
