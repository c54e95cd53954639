//! The metrics' loop.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::connection::{Connection, Step};
use super::host::HostNames;
use super::{Exposition, HostName, MetricsError, MetricsListener, Process, Sample};
use crate::io::timer::now;
use crate::time::Instant;

/// Connections at the same time. One more ends that in which nothing has come or gone for longest.
const MAX_CONNECTIONS: usize = 16;
/// Connections taken in one turn: those that are there have theirs before any more come.
const ACCEPTS: usize = 4;
/// A sample this young serves whoever asks next, so that nobody can have the tunnel looked at without end.
const FRESH: Duration = Duration::from_millis(500);
/// For each time that the thread works it rests so many times as long.
const REST: u32 = 4;
/// Rests shorter than this are put together.
const LEAST_REST: Duration = Duration::from_millis(1);
/// Pause after a connection could not be taken, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves metrics, once [`Self::serve`] is called.
#[derive(Debug)]
pub struct Metrics {
    listener: MetricsListener,
    process: Process,
    hosts: HostNames,
    end: EventFd,
}

/// What the loop works with.
struct Server<F> {
    sample: F,
    last: Option<(Instant, Exposition)>,
    connections: Vec<Connection>,
    /// No connection is taken before.
    pause: Instant,
}

/// What woke the loop.
struct Woken {
    end: bool,
    listener: bool,
    connections: Vec<bool>,
}

impl Metrics {
    /// Opens what else is needed to serve on `listener`, of which a sandbox would allow nothing
    /// later. Requests may be for any address, `localhost` and `hosts`.
    ///
    /// # Errors
    /// [`MetricsError`], with the remedy.
    pub fn new(listener: MetricsListener, hosts: Vec<HostName>) -> Result<Self, MetricsError> {
        let address = listener.address();
        let end = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|error| MetricsError::Other { address, source: error.into() })?;
        Ok(Self { listener, process: Process::open(), hosts: HostNames::new(hosts), end })
    }

    /// Where it listens.
    pub const fn listener(&self) -> &MetricsListener {
        &self.listener
    }

    /// Has [`Self::serve`] return.
    pub fn end(&self) {
        // the counter's end, at which it would fail, is out of reach
        let _ = self.end.write(1);
    }

    /// Answers until [`Self::end`] is called; `sample` looks at the tunnel.
    ///
    /// # Errors
    /// The system's, of calls that never fail on a healthy one.
    pub fn serve(&self, mut sample: impl FnMut(&Process) -> Sample) -> io::Result<()> {
        let mut server = Server {
            sample: || sample(&self.process),
            last: None,
            connections: Vec::with_capacity(MAX_CONNECTIONS),
            pause: Instant::default(),
        };
        let mut rest = Duration::ZERO;
        loop {
            let woken = self.wait(&server)?;
            if woken.end {
                return Ok(());
            }
            let began = now()?;
            server.turn(&self.listener, &self.hosts, &woken, began);
            rest += now()?.since(began) * REST;
            if rest >= LEAST_REST {
                if self.is_ended_within(rest)? {
                    return Ok(());
                }
                rest = Duration::ZERO;
            }
        }
    }

    fn wait<F>(&self, server: &Server<F>) -> io::Result<Woken> {
        let now = now()?;
        let takes = if server.pause <= now { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = Vec::with_capacity(2 + MAX_CONNECTIONS);
        fds.push(PollFd::new(self.end.as_fd(), PollFlags::POLLIN));
        fds.push(PollFd::new(self.listener.socket.as_fd(), takes));
        fds.extend(server.connections.iter().map(|each| PollFd::new(each.as_fd(), each.interest())));
        let deadlines = server.connections.iter().map(|each| each.deadline);
        let next = deadlines.chain((server.pause > now).then_some(server.pause)).min();
        poll_again(&mut fds, next.map(|next| next.since(now)))?;
        let mut woken = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let (end, listener) = (woken.next() == Some(true), woken.next() == Some(true));
        Ok(Woken { end, listener, connections: woken.collect() })
    }

    fn is_ended_within(&self, time: Duration) -> io::Result<bool> {
        Ok(poll_again(&mut [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)], Some(time))? > 0)
    }
}

/// Waits for so long, in whole milliseconds and not less; a signal ends it early.
fn poll_again(fds: &mut [PollFd<'_>], time: Option<Duration>) -> io::Result<usize> {
    let whole = |time: Duration| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let timeout = time.map_or(Ok(PollTimeout::NONE), |time| PollTimeout::try_from(whole(time)));
    match poll(fds, timeout.unwrap_or(PollTimeout::MAX)) {
        Ok(ready) => Ok(usize::try_from(ready).unwrap_or_default()),
        Err(Errno::EINTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

impl<F: FnMut() -> Sample> Server<F> {
    /// One step of everyone who is ready; then some more are taken.
    fn turn(&mut self, listener: &MetricsListener, hosts: &HostNames, woken: &Woken, now: Instant) {
        let Self { sample, last, connections, pause } = self;
        let mut expose = || match last {
            Some((taken, text)) if now.since(*taken) < FRESH => text.clone(),
            _ => {
                // the old one goes before the new one comes
                *last = None;
                let text = Exposition::new(Arc::new(sample()));
                last.insert((now, text)).1.clone()
            }
        };
        let mut ready = woken.connections.iter();
        connections.retain_mut(|each| {
            let is_ready = ready.next() == Some(&true);
            !(is_ready && each.step(now, hosts, &mut expose) == Step::Over) && now < each.deadline
        });
        if !woken.listener {
            return;
        }
        for _ in 0..ACCEPTS {
            let error = match listener.socket.accept() {
                Ok((stream, _)) => {
                    if connections.len() >= MAX_CONNECTIONS {
                        let oldest = (0..).zip(connections.iter()).min_by_key(|(_, each)| each.touched);
                        if let Some((oldest, _)) = oldest {
                            connections.swap_remove(oldest);
                        }
                    }
                    connections.extend(Connection::new(stream, now).ok());
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return,
                _ => {
                    *pause = now + PAUSE;
                    return;
                }
            }
        }
    }
}
