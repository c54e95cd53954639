//! Resolves host names in a separate process.
//!
//! `getaddrinfo` blocks for as long as a name server is silent, and with a static glibc it loads
//! foreign code into the process. So a helper ([`crate::process`]) answers one request after the
//! other. A client sends a request, continues, and is woken by the answer.
//!
//! The helper forks a process for each request, which reads the system's files as they are then:
//! Landlock identifies files by their inodes, and files in /etc are replaced by new ones. The
//! helper itself runs no foreign code.
//!
//! A tunnel with the default route has a mark for datagrams that must not be routed into it, which
//! queries for the names of its own peers need. The system's resolver cannot mark its sockets, and
//! a process without privileges may not. So such a request is sent along with marked sockets
//! (`marked_sockets`), and the helper queries the name servers itself (`stub`), before it tries the
//! system's resolver. A name server on this host does not mark its queries either: its upstream
//! servers are queried instead (`system_files`). The system's resolver may also ask the name
//! servers behind the tunnel, once `DNS =` is applied: the helper then queries the others itself,
//! too.
//!
//! The process runs as another user. If only root may read /etc/resolv.conf, it gets a descriptor
//! of it.
//!
//! Each side parses the other's messages ([`messages`]) as untrusted input.

mod marked_sockets;
pub mod messages;
mod stub;
mod system_files;

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::config::TunName;
use crate::process::{
    self, Channel, ChannelError, Child, Nursery, NurseryError, format_error_chain, stop_helper,
};
use crate::sandbox::Sandbox;
use messages::{Addresses, ErrorMessage, FromResolver, QueryHost, ToResolver};
use wontun_sys::process as system;

pub(crate) use messages::{MAX_HOST, MAX_SERVERS, NameServers, Servers, TunnelServers};

/// Opens /etc/resolv.conf for [`Resolver::request`], and warns if only root may read it.
pub(crate) fn open_resolv_conf() -> Option<File> {
    system_files::open_resolv_conf()
}

/// Returns true if all name servers of this host, and the given ones, are on this host, and their
/// upstream servers are unknown. Those of the tunnel `tunnel` itself do not count.
pub(crate) fn has_only_local_servers(given: &[IpAddr], tunnel: &TunName) -> bool {
    let previous = system_files::previous_resolv_conf(tunnel.as_str(), None);
    system_files::ResolvConf::read(given, &[], previous.as_deref()).is_local_only
}

/// Returns the name servers of this host, as /etc/resolv.conf lists them now.
pub(crate) fn system_servers() -> Vec<SocketAddr> {
    system_files::ResolvConf::read(&[], &[], None).servers
}

/// Role of the helper.
const ROLE: &str = "resolver";

/// Reason why the resolver process cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolverError {
    /// The helper cannot be started.
    #[error(transparent)]
    Nursery(#[from] NurseryError),
    /// The start message cannot be sent.
    #[error("the resolver process cannot be started: {0}")]
    Channel(#[from] ChannelError),
}

/// Reason why a name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The system's resolver failed, or got no answer.
    #[error("{0}")]
    Failed(String),
    /// The name exists, but has no address.
    #[error("the name has no address")]
    NoAddress,
}

/// Handle of a resolver process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Resolver {
    channel: ClientChannel,
    child: Pid,
}

impl Resolver {
    /// Starts the process without waiting for it: requests may be sent at once, and if it cannot
    /// confine itself, [`Self::poll_answer`] returns the error.
    ///
    /// # Errors
    /// [`ResolverError`].
    pub(crate) fn start(
        nursery: &mut Nursery,
        is_sandboxed: bool,
        stderr: BorrowedFd<'_>,
    ) -> Result<Self, ResolverError> {
        let Child { pid: child, socket } = nursery.spawn(ROLE, stderr)?;
        let channel = Channel::new(socket).map_err(ChannelError::from)?;
        let resolver = Self { channel: ClientChannel(channel), child };
        resolver.channel.0.try_send(&ToResolver::Start { is_sandboxed }, &[])?;
        Ok(resolver)
    }

    /// Requests the addresses of `host`: a name, or a literal address without brackets. Answers
    /// come in the order of the requests. Of `servers` the first are queried before those of the
    /// system, and those behind the tunnel after them. Queries to name servers carry `mark`, if
    /// there is one; only if they are not answered, the system's resolver is used, which marks
    /// nothing. `resolv_conf` is used if the process may not open that file itself. The name
    /// servers that `tunnel` has written into that file are not used.
    ///
    /// # Errors
    /// `InvalidInput` for a host that is empty, longer than [`MAX_HOST`] bytes or contains a NUL;
    /// `WouldBlock` if too many requests are pending; an error of creating marked sockets;
    /// otherwise the process is gone.
    pub(crate) fn request(
        &self,
        host: &str,
        port: u16,
        mark: Option<NonZeroU32>,
        servers: &Servers,
        resolv_conf: Option<&File>,
        tunnel: Option<&TunName>,
    ) -> io::Result<()> {
        self.channel.request(host, port, mark, servers, resolv_conf, tunnel)
    }

    /// Returns the next answer, at most [`MAX_ADDRESSES`] addresses in order of preference; `None`
    /// if there is none yet (then the descriptor becomes readable later, also with edge-triggered
    /// epoll).
    ///
    /// # Errors
    /// The process has ended (`UnexpectedEof`), could not confine itself, or sent an invalid
    /// message. The resolver cannot be used any more: its descriptor should be removed from the
    /// epoll, and another one may be started.
    pub(crate) fn poll_answer(&mut self) -> io::Result<Option<Result<Vec<SocketAddr>, ResolveError>>> {
        self.channel.poll_answer()
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.0.as_fd()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // it may be waiting for a name server
        stop_helper(self.child, &self.channel.0);
    }
}

/// The client's end of the channel.
#[derive(Debug)]
struct ClientChannel(Channel<FromResolver, ToResolver>);
/// The resolver process's end of the channel.
type HelperChannel = Channel<ToResolver, FromResolver>;

impl ClientChannel {
    fn request(
        &self,
        host: &str,
        port: u16,
        mark: Option<NonZeroU32>,
        servers: &Servers,
        resolv_conf: Option<&File>,
        tunnel: Option<&TunName>,
    ) -> io::Result<()> {
        let host = QueryHost::try_from(host.to_owned()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a host name has 1 to {MAX_HOST} bytes and no NUL, this one has {}", host.len()),
            )
        })?;
        let is_empty = servers.first.as_slice().is_empty() && servers.behind.as_slice().is_empty();
        let has_servers = mark.is_some() || !is_empty;
        let mut descriptors = if has_servers { marked_sockets::open(mark)? } else { Vec::new() };
        if let Some(file) = resolv_conf {
            descriptors.push(file.try_clone()?.into());
        }
        let servers = servers.clone();
        let tunnel = tunnel.and_then(|tunnel| QueryHost::try_from(tunnel.as_str().to_owned()).ok());
        self.0
            .try_send(&ToResolver::LookUp { host, port, servers, tunnel }, &descriptors)
            .map_err(into_io_error)
    }

    fn poll_answer(&mut self) -> io::Result<Option<Result<Vec<SocketAddr>, ResolveError>>> {
        loop {
            let Some((message, _)) = self.0.receive().map_err(into_io_error)? else { return Ok(None) };
            return Ok(Some(match message {
                FromResolver::Ready => continue,
                FromResolver::NotReady(text) => {
                    let text = text.into_string();
                    return Err(io::Error::other(format!("the resolver process did not start: {text}")));
                }
                FromResolver::Failed(text) => Err(ResolveError::Failed(text.into_string())),
                FromResolver::Addresses(addresses) => match addresses.into_vec() {
                    addresses if addresses.is_empty() => Err(ResolveError::NoAddress),
                    addresses => Ok(addresses),
                },
            }));
        }
    }
}

fn into_io_error(error: ChannelError) -> io::Error {
    match error {
        ChannelError::System(error) => error,
        ChannelError::Closed => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the resolver process has ended")
        }
        error => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the resolver process sent an invalid message: {error}"),
        ),
    }
}

/// Main function of the resolver process: answers requests on `socket` until its other end is
/// closed. Returns the exit code.
pub fn main(socket: OwnedFd) -> u8 {
    run(socket, process::prepare_helper(ROLE).map_err(|error| format_error_chain(&error)))
}

/// Runs the resolver process after its preparation, which may have failed.
fn run(socket: OwnedFd, prepared: Result<(), String>) -> u8 {
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let is_sandboxed = match channel.receive_until(None) {
        Ok(Some((ToResolver::Start { is_sandboxed }, _))) => is_sandboxed,
        // its parent has ended
        Err(ChannelError::Closed) => return 0,
        _ => return 1,
    };
    let confined = prepared.and_then(|()| {
        if is_sandboxed {
            Sandbox::for_resolver()
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        Ok(())
    });
    if let Err(text) = confined {
        let _ = channel.send_blocking(&FromResolver::NotReady(ErrorMessage::cut(text)), Vec::new());
        return 1;
    }
    if channel.send_blocking(&FromResolver::Ready, Vec::new()).is_err() {
        return 1;
    }
    system::ignore_child_exits();
    serve(channel, |channel, request, descriptors| {
        answer_in_child(channel, is_sandboxed, &request, &descriptors)
    })
}

/// Answers requests with `answer` until the other end is closed, or `answer` finds that it is.
/// Returns the exit code.
fn serve(
    mut channel: HelperChannel,
    answer: impl Fn(&HelperChannel, ToResolver, Vec<OwnedFd>) -> Option<FromResolver>,
) -> u8 {
    loop {
        let (request, descriptors) = match channel.receive_until(None) {
            Ok(Some(request)) => request,
            Ok(None) => continue,
            Err(ChannelError::Closed) => return 0,
            Err(_) => return 1,
        };
        let Some(answer) = answer(&channel, request, descriptors) else { return 0 };
        if channel.send_blocking(&answer, Vec::new()).is_err() {
            return 1;
        }
    }
}

/// Answers one request.
fn answer(request: ToResolver, descriptors: Vec<OwnedFd>) -> FromResolver {
    match request {
        ToResolver::LookUp { host, port, servers, tunnel } => {
            look_up(host.as_str(), port, &servers, tunnel.as_ref().map(QueryHost::as_str), descriptors)
        }
        ToResolver::Start { .. } => failed("the resolver process was asked to start again"),
    }
}

fn failed(text: impl Into<String>) -> FromResolver {
    FromResolver::Failed(ErrorMessage::cut(text.into()))
}

/// Answers one request in a process of its own. Returns `None` once the other end of `asked` is
/// closed; then that process ends with this one.
fn answer_in_child(
    asked: &HelperChannel,
    is_sandboxed: bool,
    request: &ToResolver,
    descriptors: &[OwnedFd],
) -> Option<FromResolver> {
    let cannot =
        |error: &dyn std::error::Error| Some(failed(format!("the name cannot be looked up: {error}")));
    let (ours, theirs) = match process::pair() {
        Ok(pair) => pair,
        Err(error) => return cannot(&error),
    };
    let mut ours: Channel<FromResolver, ToResolver> = match Channel::new(ours) {
        Ok(channel) => channel,
        Err(error) => return cannot(&error),
    };
    // sent before the fork, so that the request is there when the process starts
    if let Err(error) = ours.try_send(request, descriptors) {
        return cannot(&error);
    }
    if let Err(error) = system::fork(theirs, is_sandboxed, look_up_process) {
        return cannot(&error);
    }
    loop {
        match ours.receive() {
            Ok(None) => {}
            Ok(Some((answer @ (FromResolver::Addresses(_) | FromResolver::Failed(_)), _))) => {
                return Some(answer);
            }
            Ok(Some(_)) | Err(ChannelError::Codec(_)) => {
                return Some(failed("the look-up gave a malformed answer"));
            }
            Err(ChannelError::Closed) => return Some(failed("the look-up ended without an answer")),
            Err(error) => return cannot(&error),
        }
        let mut ends =
            [PollFd::new(asked.as_fd(), PollFlags::empty()), PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ends, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(error) => return cannot(&error),
            Ok(_) => {}
        }
        if ends[0].any() == Some(true) {
            return None;
        }
    }
}

/// Main function of the process that answers one request. Returns its exit code.
fn look_up_process(socket: OwnedFd, is_sandboxed: bool) -> i32 {
    let confined = prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string()).and_then(|()| {
        if is_sandboxed {
            Sandbox::for_look_up()
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        Ok(())
    });
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let answer = match (confined, channel.receive_until(None)) {
        (Ok(()), Ok(Some((request, descriptors)))) => answer(request, descriptors),
        (Err(text), _) => failed(text),
        _ => return 1,
    };
    i32::from(channel.send_blocking(&answer, Vec::new()).is_err())
}

/// Queries the name servers, `servers` first, if there are sockets; otherwise, or if that fails,
/// uses the system's resolver. The latter is impossible if this process may not read resolv.conf,
/// and useless if that has the name servers of `tunnel`, which are behind the tunnel.
fn look_up(
    host: &str,
    port: u16,
    servers: &Servers,
    tunnel: Option<&str>,
    descriptors: Vec<OwnedFd>,
) -> FromResolver {
    let (mut sockets, resolv_conf) = system_files::take_resolv_conf(descriptors);
    let previous =
        tunnel.and_then(|tunnel| system_files::previous_resolv_conf(tunnel, resolv_conf.as_deref()));
    let has_own_servers = previous.is_some();
    let resolv_conf = previous.or(resolv_conf);
    if sockets.is_empty() && resolv_conf.is_some() {
        sockets = marked_sockets::open(None).unwrap_or_default();
    }
    if sockets.is_empty() || !stub::is_for_dns(host) {
        return system_lookup(host, port).unwrap_or_else(failed);
    }
    stub::look_up(host, servers, sockets, resolv_conf.as_deref())
        .map(|found| found.into_iter().map(|address| SocketAddr::new(address, port)))
        .map(|found| FromResolver::Addresses(Addresses::first_of(found)))
        .or_else(|error| {
            if has_own_servers {
                return Err(error);
            }
            system_lookup(host, port).map_err(|text| format!("{error}; {text}"))
        })
        .unwrap_or_else(failed)
}

/// Uses the system's resolver, which reads /etc/hosts, /etc/nsswitch.conf and /etc/resolv.conf as
/// they are now.
fn system_lookup(host: &str, port: u16) -> Result<FromResolver, String> {
    let found = (host, port).to_socket_addrs().map_err(|error| error.to_string())?;
    Ok(FromResolver::Addresses(Addresses::first_of(found)))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn ends() -> (ClientChannel, HelperChannel) {
        let (ours, theirs) = process::pair().unwrap();
        (ClientChannel(Channel::new(ours).unwrap()), Channel::new(theirs).unwrap())
    }

    /// Returns a thread that serves like the helper, and the other end. (The helper forks, which
    /// needs a single-threaded process; a test harness is none.)
    fn served() -> (ClientChannel, thread::JoinHandle<u8>) {
        let (ours, theirs) = ends();
        (ours, thread::spawn(move || serve(theirs, |_, request, sockets| Some(answer(request, sockets)))))
    }

    fn wait(channel: &mut ClientChannel) -> io::Result<Result<Vec<SocketAddr>, ResolveError>> {
        for _ in 0..3000 {
            if let Some(answer) = channel.poll_answer()? {
                return Ok(answer);
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("no answer");
    }

    #[test]
    fn literals_and_localhost_are_answered_in_order() {
        let (mut channel, thread) = served();
        assert!(channel.poll_answer().unwrap().is_none());
        channel.request("192.0.2.7", 19988, None, &Servers::default(), None, None).unwrap();
        channel.request("2001:db8::7", 1, None, &Servers::default(), None, None).unwrap();
        channel.request("localhost", 65535, None, &Servers::default(), None, None).unwrap();
        assert_eq!(wait(&mut channel).unwrap().unwrap(), ["192.0.2.7:19988".parse().unwrap()]);
        assert_eq!(wait(&mut channel).unwrap().unwrap(), ["[2001:db8::7]:1".parse().unwrap()]);
        let localhost = wait(&mut channel).unwrap().unwrap();
        assert!(!localhost.is_empty() && localhost.iter().all(|a| a.ip().is_loopback() && a.port() == 65535));
        assert!(channel.poll_answer().unwrap().is_none());
        drop(channel);
        assert_eq!(thread.join().unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_a_host_is_refused_or_answered() {
        let (mut channel, thread) = served();
        for host in ["", "a\0b", &"a".repeat(MAX_HOST + 1)] {
            assert_eq!(
                channel.request(host, 1, None, &Servers::default(), None, None).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
        // A label longer than 63 bytes fails without a query to any server.
        channel.request(&"a".repeat(MAX_HOST), 1, None, &Servers::default(), None, None).unwrap();
        assert!(matches!(wait(&mut channel).unwrap(), Err(ResolveError::Failed(_))));
        channel.0.try_send(&ToResolver::Start { is_sandboxed: true }, &[]).unwrap();
        assert!(matches!(wait(&mut channel).unwrap(), Err(ResolveError::Failed(_))));
        drop(channel);
        assert_eq!(thread.join().unwrap(), 0);
    }

    #[test]
    fn what_is_no_request_ends_the_helper() {
        for garbage in [&b"x"[..], &[0xff; 3], &[0; 400], &[1; 60_000]] {
            let (mut channel, thread) = served();
            nix::unistd::write(channel.0.as_fd(), garbage).unwrap();
            assert_eq!(thread.join().unwrap(), 1);
            assert_eq!(wait(&mut channel).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(channel.request("localhost", 1, None, &Servers::default(), None, None).is_err());
        }
    }

    #[test]
    fn a_helper_that_cannot_start_or_is_mad_is_an_error() {
        let (mut channel, mut theirs) = ends();
        theirs.send(&FromResolver::Ready, Vec::new()).unwrap();
        theirs.send(&FromResolver::Addresses(Addresses::first_of([])), Vec::new()).unwrap();
        assert_eq!(wait(&mut channel).unwrap(), Err(ResolveError::NoAddress));
        theirs.send(&FromResolver::NotReady(ErrorMessage::cut("no memory".to_owned())), Vec::new()).unwrap();
        assert!(wait(&mut channel).unwrap_err().to_string().contains("did not start: no memory"));
        for mad in [&b"y"[..], &[0; 1000]] {
            nix::unistd::write(theirs.as_fd(), mad).unwrap();
            assert_eq!(wait(&mut channel).unwrap_err().kind(), io::ErrorKind::InvalidData, "{mad:?}");
        }
    }

    #[test]
    fn too_many_requests_do_not_block() {
        let (channel, _theirs) = ends();
        let refused = (0..100_000)
            .find_map(|_| channel.request("127.0.0.1", 1, None, &Servers::default(), None, None).err())
            .unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
