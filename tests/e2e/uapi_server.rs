//! A tunnel's control socket without a tunnel: the listening end in an edge-triggered loop, with a
//! model of an interface that applies the requests.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use wontun::config::TunName;
use wontun::uapi::{
    Changes, InterfaceStatus, MAX_CONNECTIONS, PeerStatus, Request, RequestPoll, Response, ResponseFormat,
    UapiConnection, UapiListener, UapiWarning, error_response, ok_response,
};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

use crate::requirements;

/// Runs `test` with its own empty /run, and without network devices.
pub(crate) fn with_own_run(test: impl FnOnce() + Send) {
    requirements::check();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
            let none: Option<&Path> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The part of an interface that requests set.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) private_key: Option<PrivateKey>,
    pub(crate) listen_port: u16,
    pub(crate) fwmark: u32,
    pub(crate) peers: Vec<PeerModel>,
}

#[derive(Debug)]
pub(crate) struct PeerModel {
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: PresharedKey,
    pub(crate) endpoint: Option<std::net::SocketAddr>,
    pub(crate) persistent_keepalive: u16,
    pub(crate) allowed_ips: Vec<Prefix>,
    pub(crate) last_handshake: Duration,
    pub(crate) transfer: (u64, u64),
}

impl Model {
    fn apply(&mut self, changes: &Changes) {
        if let Some(key) = &changes.private_key {
            self.private_key.clone_from(key);
        }
        self.listen_port = changes.listen_port.unwrap_or(self.listen_port);
        self.fwmark = changes.fwmark.unwrap_or(self.fwmark);
        if changes.replace_peers {
            self.peers.clear();
        }
        for change in &changes.peers {
            let place = self.peers.iter().position(|peer| peer.public_key == change.public_key);
            if change.remove {
                place.map(|place| self.peers.remove(place));
                continue;
            }
            if change.update_only && place.is_none() {
                continue;
            }
            let place = place.unwrap_or_else(|| {
                self.peers.push(PeerModel {
                    public_key: change.public_key,
                    preshared_key: PresharedKey::default(),
                    endpoint: None,
                    persistent_keepalive: 0,
                    allowed_ips: Vec::new(),
                    last_handshake: Duration::ZERO,
                    transfer: (0, 0),
                });
                self.peers.len() - 1
            });
            for allowed_ip in &change.allowed_ips {
                let others = self.peers.iter_mut().enumerate().filter(|(other, _)| *other != place);
                others.for_each(|(_, other)| other.allowed_ips.retain(|prefix| *prefix != allowed_ip.prefix));
            }
            let peer = &mut self.peers[place];
            if let Some(key) = &change.preshared_key {
                peer.preshared_key.clone_from(key);
            }
            peer.endpoint = change.endpoint.or(peer.endpoint);
            peer.persistent_keepalive = change.persistent_keepalive.unwrap_or(peer.persistent_keepalive);
            if change.replace_allowed_ips {
                peer.allowed_ips.clear();
            }
            for allowed_ip in &change.allowed_ips {
                if allowed_ip.remove || change.allowed_ips.len() < 100 {
                    peer.allowed_ips.retain(|prefix| *prefix != allowed_ip.prefix);
                }
                if !allowed_ip.remove {
                    peer.allowed_ips.push(allowed_ip.prefix);
                }
            }
        }
    }

    fn answer(&self, report: ResponseFormat) -> Response {
        let public_key = self.private_key.as_ref().map(PrivateKey::public_key);
        let interface = InterfaceStatus {
            private_key: self.private_key.as_ref(),
            public_key: public_key.as_ref(),
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            mtu: Some(1420),
            is_up: true,
            repairs: &[],
            problems: &[],
        };
        let mut answer = Response::new(report, &interface, [("replay", 3)]);
        for peer in &self.peers {
            let status = PeerStatus {
                public_key: &peer.public_key,
                name: None,
                preshared_key: &peer.preshared_key,
                endpoint: peer.endpoint,
                last_handshake: peer.last_handshake,
                earlier_handshake: Duration::ZERO,
                tx_bytes: peer.transfer.0,
                rx_bytes: peer.transfer.1,
                traffic: None,
                persistent_keepalive: peer.persistent_keepalive,
                has_session: !peer.last_handshake.is_zero(),
                is_over_quota: false,
            };
            answer.peer(&status, peer.allowed_ips.iter().copied());
        }
        answer
    }
}

/// State that the tests read and set.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) model: Model,
    /// All requested changes.
    pub(crate) changes: Vec<Changes>,
    /// Requests that could not be parsed.
    pub(crate) refused: Vec<String>,
    /// The errno that answers every `set=1` instead of its execution.
    pub(crate) errno: Option<i32>,
}

/// The reason for the loop's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Stopped,
    /// The socket's file was removed.
    Removed,
}

pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    pub(crate) warning: Option<UapiWarning>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<End>>,
}

const LISTENER: u64 = 0;
const WATCH: u64 = 1;
const STOP: u64 = 2;
const FIRST_STREAM: u64 = 3;

impl Server {
    /// Opens the socket of `tun` at its usual path, in the namespaces of the calling thread.
    pub(crate) fn new(tun: &str, config_folder: Option<&Path>) -> Self {
        let tun: TunName = tun.parse().unwrap();
        let (listener, warning) = UapiListener::open(&tun, config_folder).unwrap();
        let state = Arc::<Mutex<State>>::default();
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap());
        let thread = thread::spawn({
            let (state, stop) = (state.clone(), stop.clone());
            move || serve(listener, &state, &stop)
        });
        Self { state, warning, stop, thread: Some(thread) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the loop to end by itself.
    pub(crate) fn wait(mut self) -> End {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.write(1).unwrap();
            // the test has noticed any failure of that thread
            let _ = thread.join();
        }
    }
}

fn serve(mut listener: UapiListener, state: &Mutex<State>, stop: &EventFd) -> End {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let add = |fd: &dyn AsFd, edges, token| epoll.add(fd.as_fd(), EpollEvent::new(edges, token)).unwrap();
    let input = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    let both = input | EpollFlags::EPOLLOUT;
    add(&listener, input, LISTENER);
    add(&listener.watch().unwrap(), input, WATCH);
    add(stop, input, STOP);
    let mut streams: Vec<(u64, UapiConnection)> = Vec::new();
    let mut ready: Vec<u64> = Vec::new();
    let mut next = FIRST_STREAM;
    loop {
        let mut events = [EpollEvent::empty(); 16];
        let timeout = if ready.is_empty() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
        let count = epoll.wait(&mut events, timeout).unwrap();
        ready.extend(events[..count].iter().map(EpollEvent::data));
        ready.sort_unstable();
        ready.dedup();
        for token in std::mem::take(&mut ready) {
            match token {
                LISTENER => {
                    while let Some(stream) = listener.accept().unwrap() {
                        if streams.len() == MAX_CONNECTIONS {
                            streams.remove(0);
                        }
                        add(&stream, both, next);
                        streams.push((next, stream));
                        next += 1;
                    }
                }
                WATCH => {
                    if !listener.handle_watch().unwrap() {
                        return End::Removed;
                    }
                }
                STOP => return End::Stopped,
                token => {
                    let Some(place) = streams.iter().position(|(number, _)| *number == token) else {
                        continue;
                    };
                    let state = &mut state.lock().unwrap_or_else(PoisonError::into_inner);
                    match handle(&mut streams[place].1, state) {
                        Turn::Over => {}
                        Turn::Another => ready.push(token),
                        Turn::End => drop(streams.remove(place)),
                    }
                }
            }
        }
    }
}

enum Turn {
    Over,
    Another,
    End,
}

fn handle(stream: &mut UapiConnection, state: &mut State) -> Turn {
    let request = match stream.poll_request() {
        Ok(RequestPoll::Request(request)) => request,
        Ok(RequestPoll::Rejected(error)) => {
            state.refused.push(error.to_string());
            return Turn::Another;
        }
        Ok(RequestPoll::Again) => return Turn::Another,
        Ok(RequestPoll::Blocked) => return Turn::Over,
        Ok(RequestPoll::Closed) | Err(_) => return Turn::End,
    };
    let answer = match request {
        Request::Get => state.model.answer(ResponseFormat::Get).finish(),
        Request::Status => state.model.answer(ResponseFormat::Status).finish(),
        Request::File | Request::Reload | Request::AdminLink(_) | Request::AdminTokens => error_response(-2),
        Request::Set(changes) => match state.errno {
            Some(errno) => error_response(errno),
            None => {
                state.model.apply(&changes);
                state.changes.push(changes);
                ok_response()
            }
        },
    };
    if stream.respond(answer).is_ok() { Turn::Another } else { Turn::End }
}
