//! The tunnel process: it receives its configuration and descriptors from the supervisor, confines
//! itself and carries packets. It has no capabilities and opens nothing.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, warn};

use super::carry::Carry;
use super::core::{Core, LinkState};
use super::device_queues::DeviceQueues;
use super::error::{DaemonError, system};
use super::plain::{PlainSettings, PlainTunnel};
use super::run::Daemon;
use super::sockets::Sockets;
use super::wireguard::WireGuard;
use crate::control::health::HealthListener;
use crate::exit::ExitCode as _;
use crate::logging::{self, LogFormat, Logging};
use crate::messages::{BaseSocket, FromTunnel, LogConfig, MetricsConfig, ModeConfig, ToTunnel, TunnelConfig};
use crate::metrics::{MetricsListener, MetricsServer};
use crate::net::tun::Tun;
use crate::process::{Channel, ChannelError, prepare_helper};
use crate::sandbox::{FeatureState, Sandbox, SandboxStatus};

/// Timeout in milliseconds for each of the supervisor's messages until the start is complete.
const MESSAGE_TIMEOUT_MS: u16 = 60_000;
/// Timeout for the last log lines: a stopped reader of the log must not delay the exit, which the
/// supervisor waits for.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(10);

/// Configuration and descriptors received from the supervisor until the start is complete.
struct StartSettings {
    start: TunnelConfig,
    health: Option<OwnedFd>,
    metrics: Option<OwnedFd>,
    queues: DeviceQueues,
    sockets: (u16, Vec<BaseSocket>, Vec<OwnedFd>),
    /// To be applied in this order.
    messages: Vec<(ToTunnel, Vec<OwnedFd>)>,
}

/// Flags of the start.
#[derive(Clone, Copy)]
struct StartFlags {
    is_sandboxed: bool,
    /// True if the sessions of another process are to be continued.
    awaits_sessions: bool,
}

type Connection = Channel<ToTunnel, FromTunnel>;

/// Runs the tunnel process, whose supervisor is at the other end of `channel`, and returns its exit
/// code.
pub fn main(channel: OwnedFd) -> u8 {
    let mut logging = None;
    let result = prepare().and_then(|()| start_and_run(channel, &mut logging, init_log));
    let takes_errors = logging.as_ref().is_some_and(Logging::takes_errors);
    let covers_stderr = logging.as_ref().is_some_and(Logging::covers_stderr);
    if let Err(error) = &result
        && takes_errors
    {
        error!("{error}");
    }
    if let Some(logging) = &mut logging {
        logging.flush(LOG_FLUSH_TIMEOUT);
    }
    let Err(error) = result else { return 0 };
    if !covers_stderr && !matches!(error, DaemonError::Stopped) {
        print_error(format!("wontun: {error}"));
    }
    error.exit_code()
}

fn prepare() -> Result<(), DaemonError> {
    prepare_helper("tunnel")?;
    // SIGSYS of a forbidden call must be handled, whatever signal mask the process was started with
    let trap = SigSet::from(Signal::SIGSYS);
    trap.thread_unblock().map_err(|error| system("unblocking a signal")(error.into()))
}

/// Writes one line about a failure to standard error, in a thread that is abandoned if the reader
/// blocks.
fn print_error(line: String) {
    let (done, written) = mpsc::channel();
    let writer = thread::Builder::new().spawn(move || {
        let _ = writeln!(io::stderr(), "{line}");
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = written.recv_timeout(LOG_FLUSH_TIMEOUT);
    }
}

fn init_log(LogConfig { to_journald, is_json, covers_stderr, level }: LogConfig) -> Option<Logging> {
    let format = if is_json { LogFormat::Json } else { LogFormat::Text };
    Some(logging::init_with(to_journald, covers_stderr, format, level_filter(level)))
}

/// Starts the tunnel as the supervisor requests and runs it. `init` sets up logging of the process.
fn start_and_run(
    channel: OwnedFd,
    logging: &mut Option<Logging>,
    init: fn(LogConfig) -> Option<Logging>,
) -> Result<(), DaemonError> {
    let mut channel = Channel::new(channel).map_err(system("opening the supervisor's socket"))?;
    let settings = receive(&mut channel, |log| *logging = init(log))?;
    let logging = logging.as_mut();
    let StartSettings { start, health, metrics, queues, sockets, messages } = settings;
    let TunnelConfig { tun, index, link, clamps_mss, user, mode, .. } = start;
    let health = health.map(|socket| HealthListener::from_fd(socket, user));
    let flags = StartFlags { is_sandboxed: start.is_sandboxed, awaits_sessions: start.awaits_sessions };
    let metrics = start.metrics.zip(metrics);
    let metrics = metrics.map(|(settings, socket)| serve_metrics(settings, socket)).transpose()?;
    let has_handshakes = matches!(mode, ModeConfig::WireGuard { .. });
    let link = LinkState::new(index, link);
    let core = Core::open(tun, queues.workers(), has_handshakes, link, channel, health)?;
    let (port, sockets, descriptors) = sockets;
    match mode {
        ModeConfig::WireGuard { reports_endpoints } => {
            let sockets = Sockets::new(port, sockets, descriptors)?;
            let shows_addresses = start.log.shows_addresses();
            let device = Daemon::<WireGuard>::wireguard(
                core,
                queues,
                sockets,
                reports_endpoints,
                shows_addresses,
                clamps_mss,
            )?;
            run(device, messages, metrics, flags, logging)
        }
        ModeConfig::Plain { is_client, server, name, keepalive } => {
            let sockets = Sockets::new(port, sockets, descriptors)?;
            let settings = PlainSettings { is_client, server: server.map(Into::into), name, keepalive };
            let device = Daemon::<PlainTunnel>::plain(core, queues, sockets, settings, clamps_mss)?;
            run(device, messages, metrics, flags, logging)
        }
    }
}

fn serve_metrics(settings: MetricsConfig, socket: OwnedFd) -> Result<MetricsServer, DaemonError> {
    let hosts = settings.hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>();
    let listener = MetricsListener::from_fd(socket, settings.address);
    Ok(MetricsServer::new(listener, hosts.map_err(|_| DaemonError::UnexpectedMessage)?)?)
}

/// Receives configuration and descriptors until the start is complete.
fn receive(channel: &mut Connection, init: impl FnOnce(LogConfig)) -> Result<StartSettings, DaemonError> {
    let (ToTunnel::Start(start), descriptors) = next_message(channel)? else {
        return Err(DaemonError::UnexpectedMessage);
    };
    init(start.log);
    let mut descriptors = descriptors.into_iter();
    let health =
        if start.has_health { Some(descriptors.next().ok_or(DaemonError::UnexpectedMessage)?) } else { None };
    let metrics = if start.metrics.is_some() {
        Some(descriptors.next().ok_or(DaemonError::UnexpectedMessage)?)
    } else {
        None
    };
    let (mut tuns, mut messages) = (Vec::new(), Vec::new());
    let mut sockets: Option<(u16, Vec<BaseSocket>, Vec<OwnedFd>)> = None;
    loop {
        let (message, descriptors) = next_message(channel)?;
        match message {
            ToTunnel::Start(_) => return Err(DaemonError::UnexpectedMessage),
            ToTunnel::Queues(queues) if queues.len() == descriptors.len() => {
                let queues = descriptors.into_iter().zip(queues);
                tuns.extend(queues.map(|(descriptor, queue)| Tun::from_parts(descriptor, queue)));
            }
            ToTunnel::Queues(_) => return Err(DaemonError::UnexpectedMessage),
            ToTunnel::Sockets { port, sockets: described } if sockets.is_none() => {
                sockets = Some((port, described, descriptors));
            }
            ToTunnel::MoreSockets(described) if sockets.is_some() => {
                if let Some((_, all, all_descriptors)) = &mut sockets {
                    all.extend(described);
                    all_descriptors.extend(descriptors);
                }
            }
            ToTunnel::Run => break,
            ToTunnel::Stop => return Err(DaemonError::Stopped),
            message => messages.push((message, descriptors)),
        }
    }
    let sockets = sockets.ok_or(DaemonError::UnexpectedMessage)?;
    let queues = DeviceQueues::new(tuns).filter(|queues| queues.workers() == usize::from(start.workers));
    let queues = queues.ok_or(DaemonError::UnexpectedMessage)?;
    Ok(StartSettings { start: *start, health, metrics, queues, sockets, messages })
}

/// Waits for the next message.
fn next_message(channel: &mut Connection) -> Result<(ToTunnel, Vec<OwnedFd>), DaemonError> {
    loop {
        match channel.receive() {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => {}
            Err(ChannelError::Closed) => return Err(DaemonError::Stopped),
            Err(error) => return Err(error.into()),
        }
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(MESSAGE_TIMEOUT_MS)) {
            Ok(0) => return Err(DaemonError::SupervisorTimeout),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(system("waiting for the supervisor")(error.into())),
        }
    }
}

const fn level_filter(level: u8) -> LevelFilter {
    match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// Applies the supervisor's messages, confines this process and carries packets until the end.
fn run<M: Carry>(
    mut device: Daemon<M>,
    messages: Vec<(ToTunnel, Vec<OwnedFd>)>,
    metrics: Option<MetricsServer>,
    StartFlags { is_sandboxed, awaits_sessions }: StartFlags,
    logging: Option<&mut Logging>,
) -> Result<(), DaemonError> {
    for (message, descriptors) in messages {
        device.apply(message, descriptors)?;
    }
    if let Some(metrics) = metrics {
        device.set_metrics(metrics);
    }
    let sandbox = if is_sandboxed { Some(Sandbox::for_tunnel()?) } else { None };
    if let Some(logging) = logging {
        let of_log = sandbox.as_ref().map(|sandbox| sandbox.for_log(logging.is_journald())).transpose()?;
        logging.start_writer(of_log).map_err(system("starting the thread that writes the log"))?;
    }
    if let Some(sandbox) = sandbox {
        let SandboxStatus { seccomp, landlock } = sandbox.engage()?;
        if let FeatureState::Forbidden(_) = seccomp {
            warn!(%seccomp, %landlock, "the sandbox of the tunnel process is incomplete: allow seccomp(2) in the outer sandbox");
        } else {
            debug!(%seccomp, %landlock, "sandbox of the tunnel process");
        }
    }
    device.report_ready();
    if awaits_sessions {
        device.await_sessions()?;
    }
    device.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TunName;
    use crate::messages::{DeviceState, HostState, Queue, SocketRole, Status};
    use crate::net::udp::UdpSocket;
    use crate::process::pair;
    use crate::uapi::Changes;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::os::unix::net::UnixDatagram;
    use wontun_proto::wireguard::PrivateKey;

    type Supervisor = Channel<FromTunnel, ToTunnel>;

    fn start(mode: ModeConfig) -> ToTunnel {
        ToTunnel::Start(Box::new(TunnelConfig {
            tun: TunName::default(),
            index: 7,
            link: DeviceState { mtu: 1420, is_up: true, is_in_other_netns: false },
            workers: 1,
            clamps_mss: false,
            offload: false,
            awaits_sessions: false,
            is_sandboxed: false,
            user: 0,
            log: LogConfig { to_journald: false, is_json: false, covers_stderr: false, level: 0 },
            has_health: false,
            metrics: None,
            mode,
        }))
    }

    /// Sends a datagram socket as the only queue of a tun.
    fn send_queue(supervisor: &mut Supervisor, queue: UnixDatagram) {
        supervisor.send(&ToTunnel::Queues(vec![Queue::SOCKET]), vec![queue.into()]).unwrap();
    }

    /// Sends everything that a tunnel process needs, with a datagram socket as a tun.
    fn hand_over(supervisor: &mut Supervisor, start: ToTunnel, descriptors: Vec<OwnedFd>) -> UnixDatagram {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        supervisor.send(&start, descriptors).unwrap();
        send_queue(supervisor, near);
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let sockets = vec![BaseSocket {
            worker: 0,
            role: SocketRole::Data,
            address: "127.0.0.1".parse().unwrap(),
            has_gso: false,
        }];
        supervisor.send(&ToTunnel::Sockets { port, sockets }, vec![socket.into_fd()]).unwrap();
        far
    }

    /// Returns the next message, skipping requests for sockets and reports of paths.
    fn next_message_from(supervisor: &mut Supervisor) -> FromTunnel {
        loop {
            match supervisor.receive().unwrap() {
                None | Some((FromTunnel::NeedSockets { .. } | FromTunnel::Path { .. }, _)) => {}
                Some((message, _)) => return message,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns a supervisor, and a tunnel process as a thread without logging.
    fn tunnel() -> (Supervisor, thread::JoinHandle<Result<(), DaemonError>>) {
        let (near, far) = pair().unwrap();
        (Channel::new(near).unwrap(), thread::spawn(|| start_and_run(far, &mut None, |_| None)))
    }

    #[test]
    fn a_tunnel_says_that_it_is_ready_answers_and_ends_with_its_supervisor() {
        for ends_in_order in [true, false] {
            let (mut supervisor, process) = tunnel();
            let _tun = hand_over(
                &mut supervisor,
                start(ModeConfig::WireGuard { reports_endpoints: true }),
                Vec::new(),
            );
            supervisor.send(&ToTunnel::Run, Vec::new()).unwrap();
            assert!(matches!(next_message_from(&mut supervisor), FromTunnel::Ready));
            supervisor.send(&ToTunnel::Probe(5), Vec::new()).unwrap();
            let none = Status::WireGuard { connected: 0, peers: 0, handshake: None };
            let FromTunnel::Alive { probe: 5, status } = next_message_from(&mut supervisor) else {
                panic!("not alive")
            };
            assert_eq!(status, none);
            if ends_in_order {
                supervisor.send(&ToTunnel::Stop, Vec::new()).unwrap();
                assert!(process.join().unwrap().is_ok());
            } else {
                drop(supervisor);
                let result = process.join().unwrap();
                assert!(matches!(result, Err(DaemonError::Supervisor(ChannelError::Closed))), "{result:?}");
            }
        }
    }

    #[test]
    fn a_supervisor_that_hangs_is_noticed() {
        use crate::control::health;
        let (mut supervisor, process) = tunnel();
        let tun: TunName = format!("tp{}", std::process::id() % 1_000_000).parse().unwrap();
        let health = HealthListener::open(&tun).unwrap().into_fd();
        let ToTunnel::Start(mut start) = start(ModeConfig::WireGuard { reports_endpoints: false }) else {
            panic!("another message")
        };
        (start.tun, start.has_health) = (tun.clone(), true);
        start.user = nix::unistd::geteuid().as_raw();
        let _tun = hand_over(&mut supervisor, ToTunnel::Start(start), vec![health]);
        supervisor.send(&ToTunnel::Run, Vec::new()).unwrap();
        assert!(matches!(next_message_from(&mut supervisor), FromTunnel::Ready));
        // on a busy machine an answer may come too late
        let is_well = (0..10).any(|_| {
            let client = thread::spawn({
                let tun = tun.clone();
                move || health::ask(&tun, None)
            });
            let FromTunnel::Probe(number) = next_message_from(&mut supervisor) else { panic!("no probe") };
            supervisor.send(&ToTunnel::Alive(number), Vec::new()).unwrap();
            client
                .join()
                .unwrap()
                .is_ok_and(|health| health.line.ends_with("is up and its event loop responds"))
        });
        assert!(is_well);
        let failure = Some("the routes are missing".to_owned());
        let is_reported = (0..10).any(|_| {
            let client = thread::spawn({
                let tun = tun.clone();
                move || health::ask(&tun, None)
            });
            let FromTunnel::Probe(probe) = next_message_from(&mut supervisor) else { panic!("no probe") };
            let host = HostState { failure: failure.clone(), ..HostState::default() };
            supervisor.send(&ToTunnel::HostState(Box::new(host)), Vec::new()).unwrap();
            supervisor.send(&ToTunnel::Alive(probe), Vec::new()).unwrap();
            client.join().unwrap().is_err_and(|error| error.to_string() == "the routes are missing")
        });
        assert!(is_reported);
        let silence = format!("the supervisor of {tun} has not answered for 1 s");
        let is_noticed = (0..10)
            .any(|_| health::ask(&tun, None).is_err_and(|error| error.to_string().starts_with(&silence)));
        assert!(is_noticed);
        supervisor.send(&ToTunnel::Stop, Vec::new()).unwrap();
        process.join().unwrap().unwrap();
    }

    #[test]
    fn a_plain_server_has_its_candidate_looked_at() {
        let (mut supervisor, process) = tunnel();
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mode = ModeConfig::Plain {
            is_client: false,
            server: None,
            name: None,
            keepalive: Duration::from_secs(25),
        };
        supervisor.send(&start(mode), Vec::new()).unwrap();
        send_queue(&mut supervisor, near);
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = socket.local_addr().unwrap();
        let sockets =
            vec![BaseSocket { worker: 0, role: SocketRole::Data, address: server.ip(), has_gso: false }];
        supervisor.send(&ToTunnel::Sockets { port: server.port(), sockets }, vec![socket.into_fd()]).unwrap();
        let spares = (0..3).map(|_| UdpSocket::unbound(true).unwrap().into_fd()).collect();
        supervisor.send(&ToTunnel::SpareSockets { ipv4: 3, ipv6: 0 }, spares).unwrap();
        supervisor.send(&ToTunnel::Run, Vec::new()).unwrap();
        assert!(matches!(next_message_from(&mut supervisor), FromTunnel::Ready));
        let client = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        client.send_to(b"hello?", server).unwrap();
        let FromTunnel::CheckCandidate(address) = next_message_from(&mut supervisor) else {
            panic!("no candidate")
        };
        assert_eq!(address, client.local_addr().unwrap().ip());
        supervisor.send(&ToTunnel::CandidateChecked { address, is_usable: true }, Vec::new()).unwrap();
        assert!(matches!(next_message_from(&mut supervisor), FromTunnel::OuterFamily { is_ipv4: true }));
        let mut packet = [0; 20];
        (packet[0], packet[3], packet[8]) = (0x45, 20, 64);
        far.send(&packet).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut datagram = [0; 64];
        let (length, from) = client.recv_from(&mut datagram).unwrap();
        assert_eq!((&datagram[..length], from), (&packet[..], server));
        supervisor.send(&ToTunnel::Probe(1), Vec::new()).unwrap();
        let FromTunnel::Alive { probe: 1, status } = next_message_from(&mut supervisor) else {
            panic!("not alive")
        };
        assert_eq!(status, Status::PlainServer { has_client: true });
        supervisor.send(&ToTunnel::Stop, Vec::new()).unwrap();
        process.join().unwrap().unwrap();
    }

    #[test]
    fn sessions_that_cannot_be_read_are_left_out() {
        let (mut supervisor, process) = tunnel();
        let ToTunnel::Start(mut settings) = start(ModeConfig::WireGuard { reports_endpoints: true }) else {
            panic!("no start")
        };
        settings.awaits_sessions = true;
        let _tun = hand_over(&mut supervisor, ToTunnel::Start(settings), Vec::new());
        let private_key = Some(Some(PrivateKey::from_bytes(&[7; 32])));
        let changes = Changes { private_key, ..Changes::default() };
        supervisor.send(&ToTunnel::Change { number: Some(1), changes }, Vec::new()).unwrap();
        supervisor.send(&ToTunnel::Run, Vec::new()).unwrap();
        assert!(matches!(next_message_from(&mut supervisor), FromTunnel::Changed(1)));
        assert!(matches!(next_message_from(&mut supervisor), FromTunnel::Ready));
        let long = [&[0xff; 4][..], &[7; 100]].concat();
        let truncated = [&20_u32.to_le_bytes()[..], b"wontunHO"].concat();
        let other = [&20_u32.to_le_bytes()[..], b"wontunHO", &[9; 20]].concat();
        for (bytes, reason) in [
            (&b""[..], "damaged"),
            (&[0; 8], "not the sessions"),
            (&long, "damaged"),
            (&truncated, "damaged"),
            (&other, "format 2313"),
        ] {
            let file = memfd_create("garbage", MemfdFlags::CLOEXEC).unwrap();
            rustix::io::write(&file, bytes).unwrap();
            supervisor.send(&ToTunnel::Import(Vec::new()), vec![file]).unwrap();
            let FromTunnel::Imported(Err(error)) = next_message_from(&mut supervisor) else {
                panic!("imported {bytes:?}")
            };
            assert!(error.contains(reason), "{error}");
        }
        // it starts without
        supervisor.send(&ToTunnel::Proceed, Vec::new()).unwrap();
        supervisor.send(&ToTunnel::Probe(1), Vec::new()).unwrap();
        assert!(matches!(next_message_from(&mut supervisor), FromTunnel::Alive { probe: 1, .. }));
        supervisor.send(&ToTunnel::Stop, Vec::new()).unwrap();
        process.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_not_expected_at_the_start_is_refused() {
        let (mut supervisor, process) = tunnel();
        supervisor.send(&ToTunnel::Run, Vec::new()).unwrap();
        assert!(matches!(process.join().unwrap(), Err(DaemonError::UnexpectedMessage)));
        let (mut supervisor, process) = tunnel();
        supervisor.send(&start(ModeConfig::WireGuard { reports_endpoints: false }), Vec::new()).unwrap();
        supervisor.send(&ToTunnel::Queues(vec![Queue::SOCKET]), Vec::new()).unwrap();
        assert!(matches!(process.join().unwrap(), Err(DaemonError::UnexpectedMessage)));
        let (mut supervisor, process) = tunnel();
        let _tun =
            hand_over(&mut supervisor, start(ModeConfig::WireGuard { reports_endpoints: false }), Vec::new());
        drop(supervisor);
        assert!(matches!(process.join().unwrap(), Err(DaemonError::Stopped)));
    }
}
