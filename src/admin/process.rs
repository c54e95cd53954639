//! `wontun-admin`: the process that serves the page.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ROLE;
use super::app::App;
use super::http::{Hosts, HttpListener, HttpServer, Source};
use super::messages::{FromAdmin, ToAdmin};
use crate::net::random::SystemRandom;
use crate::net::timer::{now, unix_now};
use crate::process::{self, Channel, ChannelError, format_error_chain};
use crate::resolver::messages::ErrorMessage;
use crate::sandbox::Sandbox;
use crate::uapi::StatusReader;
use wontun_proto::time::Instant;

/// The process's end of the channel.
type HelperChannel = Channel<ToAdmin, FromAdmin>;

/// Time that the process is idle for each time that it was busy: a flood of requests takes at most
/// half of a core from the tunnel.
const IDLE_RATIO: u32 = 1;
/// Minimum length of an idle period; shorter ones are added up.
const MIN_IDLE: Duration = Duration::from_millis(2);
/// Maximum length of one, since hashing a password takes long.
const MAX_IDLE: Duration = Duration::from_millis(50);

/// Main function of the process: serves the page until the other end of `socket` is closed.
/// Returns the exit code.
pub fn main(socket: OwnedFd) -> u8 {
    let prepared = process::prepare_helper(ROLE).map_err(|error| format_error_chain(&error));
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let start = match channel.receive_until(None) {
        Ok(Some(start)) => start,
        // its parent has ended
        Err(ChannelError::Closed) => return 0,
        _ => return 1,
    };
    let served = prepared.and_then(|()| Server::start(start.0, start.1));
    let (answer, server) = match served {
        Ok(server) => (FromAdmin::Ready, Some(server)),
        Err(text) => (FromAdmin::NotReady(ErrorMessage::cut(text)), None),
    };
    if channel.send_blocking(&answer, Vec::new()).is_err() {
        return 1;
    }
    server.map_or(1, |mut server| server.run(&mut channel))
}

/// The page and its server.
struct Server {
    app: App,
    http: HttpServer,
    /// The state of the tunnel that is being read.
    status: Option<StatusReader>,
}

/// A descriptor that is ready.
enum Event {
    Channel(PollFlags),
    Status,
    Http(Source, PollFlags),
}

impl Server {
    /// Confines the process, and creates the server.
    fn start(message: ToAdmin, descriptors: Vec<OwnedFd>) -> Result<Self, String> {
        let ToAdmin::Start { tunnel, listeners, names, proxy, certificate, accounts, urls, is_sandboxed } =
            message
        else {
            return Err("the supervisor sent an unexpected message".to_owned());
        };
        let random = SystemRandom::open().map_err(|error| error.to_string())?;
        if is_sandboxed {
            Sandbox::for_admin()
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        let accounts = accounts.parse().map_err(|error| error.to_string())?;
        let tls = certificate.map(|certificate| certificate.server_config()).transpose();
        let tls = tls.map_err(|error| error.to_string())?;
        let addresses = listeners.iter().map(|(address, _)| SocketAddr::from(*address).ip().to_canonical());
        let hosts = Hosts::new(addresses.collect()).with_names(names).with_proxy(proxy);
        let sockets = descriptors.into_iter().map(TcpListener::from).zip(&listeners);
        let listeners = sockets.map(|(socket, (_, exposure))| HttpListener { socket, exposure: *exposure });
        let now = now().map_err(|error| error.to_string())?;
        let app = App::new(tunnel, urls, accounts, random, now);
        Ok(Self { app, http: HttpServer::new(listeners.collect(), hosts, tls), status: None })
    }

    /// Serves until the channel is closed. Returns the exit code.
    fn run(&mut self, channel: &mut HelperChannel) -> u8 {
        let mut idle = Duration::ZERO;
        loop {
            let Ok(events) = self.wait(channel) else { return 1 };
            let Ok(began) = now() else { return 1 };
            for event in events {
                let result = match event {
                    Event::Channel(flags) => self.handle_channel(channel, flags, began),
                    Event::Status => {
                        self.read_status(began);
                        Ok(())
                    }
                    Event::Http(source, flags) => {
                        let Self { app, http, .. } = self;
                        let mut handle = |request: &_, id, from| app.handle(request, id, from, began);
                        http.handle_ready(source, flags, began, &mut handle);
                        Ok(())
                    }
                };
                match result {
                    Ok(()) => {}
                    Err(ChannelError::Closed) => return 0,
                    Err(_) => return 1,
                }
            }
            self.http.handle_timeouts(began);
            self.app.handle_timeout(began);
            match self.send(channel, began) {
                Ok(()) => {}
                Err(ChannelError::Closed) => return 0,
                Err(_) => return 1,
            }
            let Ok(now) = now() else { return 1 };
            idle += now.since(began) * IDLE_RATIO;
            if idle >= MIN_IDLE {
                std::thread::sleep(idle.min(MAX_IDLE));
                idle = Duration::ZERO;
            }
        }
    }

    fn wait(&self, channel: &HelperChannel) -> io::Result<Vec<Event>> {
        let now = now()?;
        let sources = self.http.sources(now);
        let mut descriptors = Vec::with_capacity(sources.len() + 2);
        let writes = if channel.is_behind() { PollFlags::POLLOUT } else { PollFlags::empty() };
        descriptors.push(PollFd::new(channel.as_fd(), PollFlags::POLLIN | writes));
        let status: Option<BorrowedFd<'_>> = self.status.as_ref().map(|status| status.as_fd());
        descriptors.extend(status.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        descriptors.extend(sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)));
        let status_end = self.status.as_ref().map(StatusReader::deadline);
        let deadlines = [self.http.deadline(now), self.app.deadline(), status_end];
        let timeout = deadlines.into_iter().flatten().min().map_or(PollTimeout::NONE, |deadline| {
            let millis = deadline.since(now).as_micros().div_ceil(1000);
            i32::try_from(millis).unwrap_or(i32::MAX).try_into().unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut descriptors, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let mut flags = descriptors.iter().map(|polled| polled.revents().unwrap_or_else(PollFlags::empty));
        let mut events = Vec::new();
        events.extend(flags.next().filter(|flags| !flags.is_empty()).map(Event::Channel));
        if status.is_some() && flags.next().is_some_and(|flags| !flags.is_empty()) {
            events.push(Event::Status);
        }
        let ready = sources.iter().zip(flags).filter(|(_, flags)| !flags.is_empty());
        events.extend(ready.map(|((source, ..), flags)| Event::Http(*source, flags)));
        Ok(events)
    }

    fn handle_channel(
        &mut self,
        channel: &mut HelperChannel,
        flags: PollFlags,
        now: Instant,
    ) -> Result<(), ChannelError> {
        if flags.contains(PollFlags::POLLOUT) {
            channel.flush()?;
        }
        while let Some((message, descriptors)) = channel.receive()? {
            match message {
                ToAdmin::Peers { peers, is_last: _ } => self.app.handle_peers(peers),
                ToAdmin::Status => {
                    match descriptors.into_iter().next().map(|fd| StatusReader::new(fd, now)) {
                        Some(Ok(status)) => {
                            self.status = Some(status);
                            self.read_status(now);
                        }
                        // without a descriptor, the tunnel's state is unknown
                        Some(Err(_)) | None => self.app.handle_status(None, unix_now(), now),
                    }
                }
                ToAdmin::Changed { number, result } => {
                    self.app.handle_changed(number, result, now);
                }
                ToAdmin::Answer { number, result } => self.app.handle_answer(number, result, now),
                ToAdmin::Certificate(certificate) => {
                    // the editor has checked it
                    if let Ok(tls) = certificate.server_config() {
                        self.http.set_tls(tls);
                    }
                }
                ToAdmin::Tokens(tokens) => self.app.set_tokens(&tokens),
                ToAdmin::Accounts(accounts) => {
                    // the editor has checked it
                    if let Ok(accounts) = accounts.parse() {
                        self.app.handle_accounts(accounts);
                    }
                }
                ToAdmin::MakeLink(principal) => {
                    let token = self.app.make_link(principal, now);
                    channel.send(&FromAdmin::Link(token), Vec::new())?;
                }
                ToAdmin::Start { .. } => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
        }
        Ok(())
    }

    fn read_status(&mut self, now: Instant) {
        let Some(status) = &mut self.status else { return };
        match status.read() {
            Ok(None) if now < status.deadline() => {}
            result => {
                self.status = None;
                self.app.handle_status(result.ok().flatten(), unix_now(), now);
                let Self { app, http, .. } = self;
                let events = app.poll_events(now, |id| http.is_streaming(id));
                for (id, event) in events {
                    http.push(id, &event);
                }
            }
        }
    }

    /// Sends what the page has for the supervisor and for browsers.
    fn send(&mut self, channel: &mut HelperChannel, now: Instant) -> Result<(), ChannelError> {
        if self.status.as_ref().is_some_and(|status| status.deadline() <= now) {
            self.read_status(now);
        }
        while let Some(message) = self.app.poll_message() {
            channel.send(&message, Vec::new())?;
        }
        while let Some((id, response)) = self.app.poll_response() {
            self.http.respond(id, &response, now);
        }
        Ok(())
    }
}
