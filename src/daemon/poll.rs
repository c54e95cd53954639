//! Edge-triggered epoll with typed tokens.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::token::{Token, UnknownTokenError};

/// Maximum number of events returned by one call; more wait for the next call.
pub(super) const EVENTS: usize = 64;

/// An epoll instance. EPOLLERR and EPOLLHUP are always reported: on any event, the handler reads
/// and gets the error there.
#[derive(Debug)]
pub(super) struct Poll(Epoll);

impl Poll {
    /// Creates an empty instance.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Adds `fd`: reports each edge when it becomes readable, at once if it is. Closing `fd`
    /// removes it.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, token.into()))?)
    }

    /// Like [`Self::add`], and reports also each edge when `fd` becomes writable.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn add_both(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        Ok(self.0.add(fd, EpollEvent::new(both, token.into()))?)
    }

    /// Adds `fd`: reports each edge when it becomes writable, at once if it is.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn add_writable(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, token.into()))?)
    }

    /// Removes `fd`. Closing it is sufficient unless another process has it open too.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // fails only if it was not added
        let _ = self.0.delete(fd);
    }

    /// Enables or disables events for when `fd` becomes writable.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn watch_writable(&self, fd: impl AsFd, token: Token, watch: bool) -> io::Result<()> {
        let writable = if watch { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET | writable, token.into());
        Ok(self.0.modify(fd, &mut event)?)
    }

    /// Returns the tokens of the ready descriptors; waits for the first, at most `limit`, which is
    /// rounded up to milliseconds. Returns none if a signal interrupts the wait.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn wait<'a>(
        &self,
        events: &'a mut [EpollEvent; EVENTS],
        limit: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Result<Token, UnknownTokenError>> + 'a> {
        let timeout = limit.map_or(EpollTimeout::NONE, |limit| {
            let millis = limit.as_micros().div_ceil(1000);
            u16::try_from(millis).unwrap_or(u16::MAX).into()
        });
        let count = match self.0.wait(events.as_mut_slice(), timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(events.iter().take(count).map(|event| Token::try_from(event.data())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn ready(poll: &Poll) -> Vec<Token> {
        let mut events = [EpollEvent::empty(); EVENTS];
        poll.wait(&mut events, Some(Duration::ZERO)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn one_event_for_each_edge() {
        let poll = Poll::new().unwrap();
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.write_all(b"before").unwrap();
        poll.add(&near, Token::Tun).unwrap();
        assert_eq!(ready(&poll), [Token::Tun], "what was there before counts");
        assert_eq!(ready(&poll), [], "and is told once");
        far.write_all(b"more").unwrap();
        assert_eq!(ready(&poll), [Token::Tun]);
        assert_eq!(near.read(&mut [0; 64]).unwrap(), 10);
        poll.watch_writable(&near, Token::Tun, true).unwrap();
        assert_eq!(ready(&poll), [Token::Tun], "writable");
        poll.watch_writable(&near, Token::Tun, false).unwrap();
        assert_eq!(ready(&poll), []);
        drop(far);
        assert_eq!(ready(&poll), [Token::Tun], "a hang-up comes unasked");
    }
}
