//! Names to addresses, by a process of its own.
//!
//! `getaddrinfo` blocks for as long as a name server is silent, and with a static glibc it loads
//! foreign code into the process. So a child is forked first thing, while the program has one
//! thread; it keeps no capability, becomes nobody where it may, answers one question after the
//! other over a socket of whole messages, and ends with the program. The loop sends a request, goes
//! on, and is woken by the answer.
//!
//! The child forks a process for each question, which reads the system's files as they are then:
//! Landlock names files by their inodes, and files in /etc are replaced by others. The child itself
//! runs no foreign code.
//!
//! A tunnel that has the default route has a mark for what must not go through it, and the questions about its own
//! peers' names are such. The system's resolver cannot be told to mark its sockets, and a process without privileges
//! may not. So a request that needs it brings sockets that are marked already (`marked`), and the child asks the
//! name servers itself (`stub`), before it asks the system.
//!
//! Each side reads the other's messages as if a stranger had sent them (`wire`).

mod files;
mod marked;
mod stub;
mod wire;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::privileges::{self, Identity};
use crate::sandbox::{Confinement, Sandbox};
use crate::sys::process;
use wire::Answer;

pub use wire::{MAX_ADDRESSES, MAX_HOST};

/// How long the child may take to give up its privileges, in milliseconds. It takes less than one.
const START_MILLIS: u16 = 10_000;
/// Time that the child may take to end once its socket has, in milliseconds. It takes less than
/// one.
const END_MILLIS: u32 = 1_000;

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// No socket to talk to the child.
    #[error("the resolver process gets no socket; free file descriptors (ulimit -n)")]
    Socket(#[source] io::Error),
    /// No child.
    #[error("the resolver process cannot be started; free processes (ulimit -u, pids.max)")]
    Fork(#[source] io::Error),
    /// The child did not come up.
    #[error("the resolver process did not start: {0}")]
    Child(String),
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver says no, or got no answer itself.
    #[error("{0}")]
    Failed(String),
    /// It knows the name, but no address of it.
    #[error("the name has no address")]
    NoAddress,
    /// The request did not reach the resolver in one piece.
    #[error("the resolver process could not read the request: this is a fault in wontun, please report it")]
    Malformed,
}

/// The parent's hold on the resolver process. Dropping it ends the process.
#[derive(Debug)]
pub struct Resolver {
    channel: Channel,
    child: Pid,
}

impl Resolver {
    /// Starts the process, and waits the moment until it has given up its privileges.
    ///
    /// Call it before the program's own capability drop and before any thread is started.
    ///
    /// # Errors
    /// [`ResolverError`]; also when the child could not give up every privilege.
    pub fn start(confinement: Confinement) -> Result<Self, ResolverError> {
        let (ours, theirs) = pair().map_err(|error| ResolverError::Socket(error.into()))?;
        let child = process::fork(theirs, confinement, child).map_err(ResolverError::Fork)?;
        let mut resolver = Self { channel: Channel { socket: ours }, child };
        resolver.wait_until_ready()?;
        Ok(resolver)
    }

    /// Asks for the addresses of `host`: a name, or a literal address without brackets. Answers come in the
    /// order of the requests. Questions to name servers carry `mark`, if there is one; only if they are not answered is
    /// the system asked, which marks nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a host that is empty, longer than [`MAX_HOST`] bytes or holds a NUL; `WouldBlock` when
    /// too many requests wait; no marked sockets can be made; otherwise the process is gone.
    pub fn request(&self, host: &str, port: u16, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.channel.request(host, port, mark)
    }

    /// The next answer, at most [`MAX_ADDRESSES`] addresses in the order of preference; `None` while there is
    /// none (then the descriptor becomes readable, also for an edge-triggered epoll).
    ///
    /// # Errors
    /// The process is gone, or talks nonsense. It cannot be started again: the resolver is of no more use, and
    /// its descriptor should leave the epoll.
    pub fn poll_answer(&mut self) -> io::Result<Option<Result<Vec<SocketAddr>, ResolveError>>> {
        self.channel.poll_answer()
    }

    /// The process.
    pub const fn pid(&self) -> Pid {
        self.child
    }

    fn wait_until_ready(&mut self) -> Result<(), ResolverError> {
        let mut ready = [PollFd::new(self.channel.socket.as_fd(), PollFlags::POLLIN)];
        let waited = loop {
            match poll(&mut ready, PollTimeout::from(START_MILLIS)) {
                Err(Errno::EINTR) => {}
                result => break result,
            }
        };
        match waited {
            Ok(0) => return Err(ResolverError::Child(format!("no word from it for {START_MILLIS} ms"))),
            Ok(_) => {}
            Err(error) => return Err(ResolverError::Child(error.to_string())),
        }
        match self.channel.receive() {
            Ok(Some(Answer::Ready)) => Ok(()),
            Ok(Some(Answer::Failed(text))) => Err(ResolverError::Child(text)),
            Ok(_) => Err(ResolverError::Child("it sent something unexpected".to_owned())),
            Err(error) => Err(ResolverError::Child(error.to_string())),
        }
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket.as_fd()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // It may be waiting for a name server. Killed, because it blocks every other signal; and waited for,
        // because the program may be a container's PID 1, or live on.
        if waitpid(self.child, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
            // It has ended, and perhaps another part of the program has collected it: its number may be another's.
            return;
        }
        if kill(self.child, Signal::SIGKILL).is_ok() {
            while waitpid(self.child, None) == Err(Errno::EINTR) {}
            return;
        }
        // It is another user's: it ends at the end of its socket, which it always listens to.
        let _ = shutdown(self.channel.socket.as_raw_fd(), Shutdown::Both);
        for _ in 0..END_MILLIS {
            if waitpid(self.child, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The parent's end of the socket; non-blocking.
#[derive(Debug)]
struct Channel {
    socket: OwnedFd,
}

impl Channel {
    fn request(&self, host: &str, port: u16, mark: Option<NonZeroU32>) -> io::Result<()> {
        let message = wire::request(host, port).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a host name has 1 to {MAX_HOST} bytes and no NUL, this one has {}", host.len()),
            )
        })?;
        let sockets = mark.map(marked::open).transpose()?.unwrap_or_default();
        marked::send(&self.socket, &message, &sockets)
    }

    fn poll_answer(&mut self) -> io::Result<Option<Result<Vec<SocketAddr>, ResolveError>>> {
        let Some(answer) = self.receive()? else { return Ok(None) };
        Ok(Some(match answer {
            Answer::Addresses(addresses) if addresses.is_empty() => Err(ResolveError::NoAddress),
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Failed(text) => Err(ResolveError::Failed(text)),
            Answer::Malformed => Err(ResolveError::Malformed),
            Answer::Ready => return Err(nonsense()),
        }))
    }

    fn receive(&mut self) -> io::Result<Option<Answer>> {
        let mut buffer = [0; wire::MAX_MESSAGE];
        match receive(&self.socket, &mut buffer) {
            Ok(Some(message)) => wire::parse_answer(message).map(Some).ok_or_else(nonsense),
            Ok(None) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the resolver process is gone")),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the resolver process sent a malformed answer")
}

/// Our end, non-blocking, and the child's, which blocks.
fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let flags = OFlag::from_bits_retain(fcntl(&ours, FcntlArg::F_GETFL)?);
    fcntl(&ours, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

/// One whole message; `None` when the other side has closed. A message too long for `buffer` comes truncated,
/// which the parsers notice: no valid message fills a buffer.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> nix::Result<Option<&'a [u8]>> {
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            // Nobody sends an empty message, so that zero bytes are the end.
            Ok(0) => return Ok(None),
            Ok(length) => return Ok(buffer.get(..length)),
            Err(error) => return Err(error),
        }
    }
}

/// The child process, from its first instruction on. Returns its exit code.
fn child(socket: OwnedFd, confinement: Confinement) -> i32 {
    // Its name in ps. Whatever it is called, it works.
    let _ = prctl::set_name(c"wontun-resolver");
    match confine(confinement) {
        Ok(()) => {
            if !reply(&socket, &Answer::Ready) {
                return 1;
            }
        }
        Err(text) => {
            reply(&socket, &Answer::Failed(text));
            return 1;
        }
    }
    process::forget_children();
    serve(&socket, |message, sockets| answer_by_process(&socket, confinement, message, &sockets));
    0
}

/// Leaves nothing but the socket and the ability to look up names.
fn confine(confinement: Confinement) -> Result<(), String> {
    // A Ctrl-C goes to every process of the terminal, but this one is to end with its parent, which may still
    // need an answer: at the socket's end, or killed.
    SigSet::all().thread_block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let user = confinement.user.or_else(Identity::nobody);
    privileges::drop_everything(user).map_err(|error| one_line(&error))?;
    // A parent that is gone already has closed the socket, so that no race is left open here.
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|error| format!("it cannot be tied to the parent's life: {error}"))?;
    if confinement.is_sandboxed {
        Sandbox::of_resolver().and_then(|sandbox| sandbox.engage()).map_err(|error| one_line(&error))?;
    }
    Ok(())
}

/// Answers requests by `answer` until the parent closes its end, or `answer` finds that it has.
fn serve(socket: &OwnedFd, answer: impl Fn(&[u8], Vec<OwnedFd>) -> Option<Answer>) {
    let mut buffer = [0; wire::MAX_MESSAGE];
    while let Ok(Some((message, sockets))) = marked::receive(socket, &mut buffer) {
        let Some(answer) = answer(message, sockets) else { return };
        if !reply(socket, &answer) {
            return;
        }
    }
}

/// Answers one request.
fn answer(message: &[u8], sockets: Vec<OwnedFd>) -> Answer {
    match wire::parse_request(message) {
        Some((host, port)) => look_up(host, port, sockets),
        None => Answer::Malformed,
    }
}

/// Has one request answered by a process of its own. Returns `None` once `parent`, the socket to
/// the program, has ended; then that process ends with this one.
fn answer_by_process(
    parent: &OwnedFd,
    confinement: Confinement,
    message: &[u8],
    sockets: &[OwnedFd],
) -> Option<Answer> {
    let failed = |error: io::Error| Some(Answer::Failed(format!("the name cannot be looked up: {error}")));
    let (ours, theirs) = match pair() {
        Ok(pair) => pair,
        Err(error) => return failed(error.into()),
    };
    // what it is to answer is there before it is
    if let Err(error) = marked::send(&ours, message, sockets) {
        return failed(error);
    }
    if let Err(error) = process::fork(theirs, confinement, look_up_process) {
        return failed(error);
    }
    loop {
        let mut ends =
            [PollFd::new(parent.as_fd(), PollFlags::empty()), PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ends, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(error) => return failed(error.into()),
            Ok(_) => {}
        }
        let [parent, ours_ready] = ends;
        if parent.any() == Some(true) {
            return None;
        }
        if ours_ready.any() != Some(true) {
            continue;
        }
        let mut buffer = [0; wire::MAX_MESSAGE];
        return match receive(&ours, &mut buffer) {
            Ok(Some(message)) => Some(match wire::parse_answer(message) {
                Some(Answer::Ready) | None => {
                    Answer::Failed("the look-up gave a malformed answer".to_owned())
                }
                Some(answer) => answer,
            }),
            // reset: it has not even read the request
            Ok(None) | Err(Errno::ECONNRESET) => {
                Some(Answer::Failed("the look-up ended without an answer".to_owned()))
            }
            Err(Errno::EAGAIN) => continue,
            Err(error) => failed(error.into()),
        };
    }
}

/// The process that answers one request, from its first instruction on. Returns its exit code.
fn look_up_process(socket: OwnedFd, confinement: Confinement) -> i32 {
    let confined = prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string()).and_then(|()| {
        if confinement.is_sandboxed {
            Sandbox::of_look_up().and_then(|sandbox| sandbox.engage()).map_err(|error| one_line(&error))?;
        }
        Ok(())
    });
    if let Err(text) = confined {
        reply(&socket, &Answer::Failed(text));
        return 1;
    }
    let mut buffer = [0; wire::MAX_MESSAGE];
    match marked::receive(&socket, &mut buffer) {
        Ok(Some((message, sockets))) => i32::from(!reply(&socket, &answer(message, sockets))),
        _ => 1,
    }
}

/// Asks the name servers over marked `sockets` if there are any, and else, or if that comes to nothing, the system.
fn look_up(host: &str, port: u16, sockets: Vec<OwnedFd>) -> Answer {
    if sockets.is_empty() || !stub::is_for_dns(host) {
        return ask_system(host, port);
    }
    match stub::look_up(host, sockets) {
        Ok(addresses) => {
            let addresses = addresses.into_iter().take(MAX_ADDRESSES);
            Answer::Addresses(addresses.map(|address| SocketAddr::new(address, port)).collect())
        }
        Err(error) => match ask_system(host, port) {
            Answer::Failed(text) => Answer::Failed(format!("{error}; {text}")),
            answer => answer,
        },
    }
}

/// Asks the system, which reads /etc/hosts, /etc/nsswitch.conf and /etc/resolv.conf as they are now.
fn ask_system(host: &str, port: u16) -> Answer {
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let mut addresses = Vec::new();
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses.truncate(MAX_ADDRESSES);
            Answer::Addresses(addresses)
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// Whether the answer was sent.
fn reply(socket: &OwnedFd, answer: &Answer) -> bool {
    let message = wire::answer(answer);
    loop {
        match send(socket.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EINTR) => {}
            result => return result.is_ok(),
        }
    }
}

/// An error and its causes, `: ` between them.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that serves as the child does, and the parent's end. (The fork itself needs a process with one
    /// thread, which a test harness is not.)
    fn served() -> (Channel, thread::JoinHandle<()>) {
        let (ours, theirs) = pair().unwrap();
        (
            Channel { socket: ours },
            thread::spawn(move || serve(&theirs, |message, sockets| Some(answer(message, sockets)))),
        )
    }

    fn wait(channel: &mut Channel) -> io::Result<Result<Vec<SocketAddr>, ResolveError>> {
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
        channel.request("192.0.2.7", 19988, None).unwrap();
        channel.request("2001:db8::7", 1, None).unwrap();
        channel.request("localhost", 65535, None).unwrap();
        assert_eq!(wait(&mut channel).unwrap().unwrap(), ["192.0.2.7:19988".parse().unwrap()]);
        assert_eq!(wait(&mut channel).unwrap().unwrap(), ["[2001:db8::7]:1".parse().unwrap()]);
        let localhost = wait(&mut channel).unwrap().unwrap();
        assert!(!localhost.is_empty() && localhost.iter().all(|a| a.ip().is_loopback() && a.port() == 65535));
        assert!(channel.poll_answer().unwrap().is_none());
        drop(channel);
        thread.join().unwrap();
    }

    #[test]
    fn what_cannot_be_a_host_is_refused_or_answered() {
        let (mut channel, thread) = served();
        for host in ["", "a\0b", &"a".repeat(MAX_HOST + 1)] {
            assert_eq!(channel.request(host, 1, None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        // A label longer than 63 bytes fails without a question to any server.
        channel.request(&"a".repeat(MAX_HOST), 1, None).unwrap();
        assert!(matches!(wait(&mut channel).unwrap(), Err(ResolveError::Failed(_))));
        drop(channel);
        thread.join().unwrap();
    }

    #[test]
    fn garbage_is_answered_and_the_next_request_served() {
        let (mut channel, thread) = served();
        for garbage in [&b"x"[..], &[0xff; 3], &[b'?'; 400], &[b'?'; 60_000], b"?\0\x01", b"?\0\x01\xff\xfe"]
        {
            send(channel.socket.as_raw_fd(), garbage, MsgFlags::empty()).unwrap();
            assert_eq!(wait(&mut channel).unwrap(), Err(ResolveError::Malformed));
        }
        channel.request("127.0.0.1", 2, None).unwrap();
        assert!(wait(&mut channel).unwrap().is_ok());
        drop(channel);
        thread.join().unwrap();
    }

    #[test]
    fn a_child_that_is_gone_or_mad_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        let mut channel = Channel { socket: ours };
        for mad in [&b"y"[..], &[0; 1000], b"=\x01\x04\x01", b"+"] {
            send(theirs.as_raw_fd(), mad, MsgFlags::empty()).unwrap();
            assert_eq!(wait(&mut channel).unwrap_err().kind(), io::ErrorKind::InvalidData, "{mad:?}");
        }
        reply(&theirs, &Answer::Addresses(Vec::new()));
        assert_eq!(wait(&mut channel).unwrap(), Err(ResolveError::NoAddress));
        drop(theirs);
        assert_eq!(wait(&mut channel).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(channel.request("localhost", 1, None).is_err());
    }

    #[test]
    fn too_many_requests_do_not_block() {
        let (ours, _theirs) = pair().unwrap();
        let channel = Channel { socket: ours };
        let refused = (0..100_000).find_map(|_| channel.request("127.0.0.1", 1, None).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
