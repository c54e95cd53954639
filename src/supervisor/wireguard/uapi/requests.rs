//! Accepts connections, and executes requests.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use tracing::{debug, info, warn};

use super::connections::Client;
use crate::messages::ToTunnel;
use crate::supervisor::context::{Context, StopReason};
use crate::supervisor::mode::Mode as _;
use crate::supervisor::sockets::SocketsError;
use crate::supervisor::wireguard::audit::Audit;
use crate::supervisor::wireguard::change::ChangeError;
use crate::supervisor::wireguard::state::WireGuard;
use crate::uapi::{
    MAX_CONNECTIONS, Request, RequestPoll, ResponseFormat, error_response, file_response, links_response,
    ok_response, reload_refused_response,
};
use wontun_proto::time::Instant;

/// Number of connections accepted per turn.
const BUDGET: usize = 16;
/// Number of requests of one connection handled per turn; a client with more waits for answers.
const MAX_REQUESTS: usize = 1024;
/// Delay before accepting is tried again after a lack of descriptors.
const RETRY: Duration = Duration::from_secs(1);

impl WireGuard {
    /// Accepts connections.
    pub(in crate::supervisor::wireguard) fn accept_uapi(&mut self, now: Instant) {
        self.uapi.retry_at = None;
        for _ in 0..BUDGET {
            let Some(listener) = &self.uapi.listener else { return };
            let stream = match listener.accept() {
                Ok(Some(stream)) => stream,
                Ok(None) => return,
                Err(error) => {
                    // out of descriptors
                    self.uapi.retry_at = Some(now + RETRY);
                    debug!(%error, "cannot accept a connection to the socket for wg(8) yet");
                    return;
                }
            };
            if self.uapi.clients.len() >= MAX_CONNECTIONS
                && let Some((_, oldest)) = self.uapi.clients.pop_first()
            {
                oldest.end();
            }
            let number = self.uapi.next_number();
            self.uapi.clients.insert(number, Client { stream, change: None });
        }
    }

    /// Accepts connections again after a failure, if that is due.
    pub(in crate::supervisor::wireguard) fn handle_uapi_timeout(&mut self, now: Instant) {
        if self.uapi.retry_at.is_some_and(|at| now >= at) {
            self.accept_uapi(now);
        }
    }

    /// Checks whether the socket's file is still there; removing it is how userspace
    /// implementations are told to end, since no client can connect without it.
    pub(in crate::supervisor::wireguard) fn drain_uapi_watch(&mut self, context: &mut Context) {
        let Some(listener) = &mut self.uapi.listener else { return };
        match listener.handle_watch() {
            Ok(true) => {}
            Ok(false) => context.stop = Some(StopReason::SocketRemoved),
            Err(error) => warn!(%error, "cannot watch the socket for wg(8) for its removal"),
        }
    }

    /// Reads from a connection that is ready, and executes its requests.
    pub(in crate::supervisor::wireguard) fn drain_uapi_client(
        &mut self,
        context: &mut Context,
        number: u32,
        events: PollFlags,
    ) {
        // taken out, so that a request can change everything else
        let Some(mut client) = self.uapi.clients.remove(&number) else { return };
        if client.stream.is_awaiting_response() && events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
        {
            return;
        }
        // a read may return several requests
        for _ in 0..MAX_REQUESTS {
            match client.stream.poll_request() {
                Ok(RequestPoll::Blocked | RequestPoll::Again) => {
                    self.uapi.clients.insert(number, client);
                    return;
                }
                Ok(RequestPoll::Request(request)) => {
                    if !self.handle_request(context, number, &mut client, request) {
                        return;
                    }
                }
                Ok(RequestPoll::Rejected(error)) => {
                    warn!(%error, "invalid request to the socket for wg(8), nothing was changed");
                }
                // the client is gone
                Ok(RequestPoll::Closed) | Err(_) => return,
            }
        }
    }

    /// Executes a request. Returns true if the connection stays open.
    fn handle_request(
        &mut self,
        context: &mut Context,
        number: u32,
        client: &mut Client,
        request: Request,
    ) -> bool {
        let report = match request {
            Request::Get => ResponseFormat::Get,
            Request::Status => ResponseFormat::Status,
            Request::File => {
                let response = match self.source.absolute_path() {
                    Some(path) => file_response(path),
                    None => error_response(-(Errno::ENOENT as i32)),
                };
                return client.stream.respond(response).is_ok();
            }
            Request::AdminLink(owner) => {
                return self.request_link(number, owner)
                    || client.stream.respond(error_response(-(Errno::ENOENT as i32))).is_ok();
            }
            Request::AdminTokens => {
                return self.request_tokens(number)
                    || client.stream.respond(error_response(-(Errno::ENOENT as i32))).is_ok();
            }
            Request::Reload => {
                return match context.reload(self) {
                    Ok(change) => {
                        client.change = Some(change);
                        true
                    }
                    Err(reason) => client.stream.respond(reload_refused_response(&reason)).is_ok(),
                };
            }
            Request::Set(mut changes) => {
                self.refuse_excluded(&mut changes);
                let audit = Audit::new(self, Some(&changes));
                match self.change(context, changes) {
                    Ok(change) => {
                        let differences = audit.finish(self);
                        info!(peers = self.peers.len(), "changed by a command: {differences}");
                        self.admin.handle_command();
                        client.change = Some(change);
                        return true;
                    }
                    Err(error) => {
                        warn!(%error, "cannot apply a change by wg(8), nothing was changed");
                        return client.stream.respond(error_response(errno(&error))).is_ok();
                    }
                }
            }
        };
        match client.stream.as_fd().try_clone_to_owned() {
            Ok(descriptor) => {
                if report == ResponseFormat::Status {
                    self.count_denied();
                    context.send_host(self);
                }
                context.tunnel.send_with(&ToTunnel::Answer { client: number, report }, vec![descriptor]);
                true
            }
            Err(_) => client.stream.respond(error_response(-(Errno::EMFILE as i32))).is_ok(),
        }
    }

    /// Answers a client that waits for links to the admin page; without links the page is not
    /// served.
    pub(in crate::supervisor::wireguard) fn respond_with_links(
        &mut self,
        context: &mut Context,
        number: u32,
        links: Option<(&[String], Option<&str>)>,
    ) {
        let Some(client) = self.uapi.clients.get_mut(&number) else { return };
        let response = links.map_or_else(
            || error_response(-(Errno::ENOENT as i32)),
            |(links, fingerprint)| links_response(links, fingerprint),
        );
        if client.stream.respond(response).is_err() {
            self.uapi.clients.remove(&number);
            return;
        }
        self.drain_uapi_client(context, number, PollFlags::empty());
    }

    /// Answers a client that waits for changed tokens of the API, with the reason if they are not
    /// in force.
    pub(in crate::supervisor::wireguard) fn respond_about_tokens(
        &mut self,
        context: &mut Context,
        number: u32,
        error: Option<&str>,
    ) {
        let Some(client) = self.uapi.clients.get_mut(&number) else { return };
        if client.stream.respond(error.map_or_else(ok_response, reload_refused_response)).is_err() {
            self.uapi.clients.remove(&number);
            return;
        }
        self.drain_uapi_client(context, number, PollFlags::empty());
    }

    /// Handles an answer that the tunnel process has written, or whose client is gone.
    pub(in crate::supervisor::wireguard) fn handle_response_sent(
        &mut self,
        context: &mut Context,
        number: u32,
    ) {
        if let Some(client) = self.uapi.clients.get_mut(&number).filter(|client| client.change.is_none()) {
            client.stream.handle_response_sent();
            // another request may have been read already
            self.drain_uapi_client(context, number, PollFlags::empty());
        }
    }

    /// Handles the acknowledgement of changes up to `change`: answers the clients that requested
    /// them.
    pub(in crate::supervisor::wireguard) fn handle_changed(&mut self, context: &mut Context, change: u32) {
        let is_done = |client: &Client| client.change.is_some_and(|own| own <= change);
        let numbers: Vec<_> = self
            .uapi
            .clients
            .iter()
            .filter(|(_, client)| is_done(client))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let Some(client) = self.uapi.clients.get_mut(&number) else { continue };
            client.change = None;
            if client.stream.respond(ok_response()).is_err() {
                self.uapi.clients.remove(&number);
                continue;
            }
            self.drain_uapi_client(context, number, PollFlags::empty());
        }
    }
}

/// Returns the errno of the answer: negative, as in wireguard-go.
fn errno(error: &ChangeError) -> i32 {
    let errno = match error {
        ChangeError::Sockets(SocketsError::PortInUse(_)) => Errno::EADDRINUSE,
        ChangeError::Sockets(SocketsError::PortPrivileged(_)) => Errno::EACCES,
        ChangeError::KillSwitch(error) if error.kind() == io::ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ChangeError::Sockets(_) | ChangeError::System(_) | ChangeError::KillSwitch(_) => Errno::EIO,
    };
    -(errno as i32)
}
