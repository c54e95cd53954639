//! The event loop of the metrics server.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::connection::{Connection, Step};
use super::host::HostNames;
use super::{Exposition, HostName, MetricsError, MetricsListener, ProcessReader, Sample};
use crate::net::timer::now;
use wontun_proto::time::Instant;

/// Maximum number of connections. A further one closes the one that has been idle the longest.
const MAX_CONNECTIONS: usize = 16;
/// Number of connections accepted per turn: existing ones are served first.
const MAX_ACCEPTS: usize = 4;
/// Age up to which a sample is reused, so that clients cannot cause samples without limit.
const MAX_SAMPLE_AGE: Duration = Duration::from_millis(500);
/// Ratio of idle time to busy time of the thread.
const IDLE_RATIO: u32 = 4;
/// Minimum length of an idle period; shorter ones are added up.
const MIN_IDLE: Duration = Duration::from_millis(1);
/// Delay after accepting a connection failed, for example for lack of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The metrics server, which runs in [`Self::serve`].
#[derive(Debug)]
pub struct MetricsServer {
    listener: MetricsListener,
    process: ProcessReader,
    hosts: HostNames,
    shutdown: EventFd,
}

/// State of the event loop.
struct State<F> {
    sample: F,
    last: Option<(Instant, Exposition)>,
    connections: Vec<Connection>,
    /// Time before which no connection is accepted.
    accept_after: Instant,
}

/// Descriptors that are ready.
struct Ready {
    shutdown: bool,
    listener: bool,
    connections: Vec<bool>,
}

impl MetricsServer {
    /// Opens everything else needed to serve on `listener`, which the sandbox would forbid later.
    /// Requests may have any address, `localhost` or one of `hosts` as their host.
    ///
    /// # Errors
    /// [`MetricsError`], with the remedy.
    pub fn new(listener: MetricsListener, hosts: Vec<HostName>) -> Result<Self, MetricsError> {
        let address = listener.address();
        let shutdown = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|error| MetricsError::Other { address, source: error.into() })?;
        Ok(Self { listener, process: ProcessReader::open(), hosts: HostNames::new(hosts), shutdown })
    }

    /// Returns the listening socket.
    pub const fn listener(&self) -> &MetricsListener {
        &self.listener
    }

    /// Makes [`Self::serve`] return.
    pub fn shut_down(&self) {
        // the counter cannot reach its maximum, at which the write would fail
        let _ = self.shutdown.write(1);
    }

    /// Lets [`Self::serve`] serve again after [`Self::shut_down`].
    pub fn restart(&self) {
        // an error: it was not shut down
        let _ = self.shutdown.read();
    }

    /// Serves requests until [`Self::shut_down`] is called; `sample` takes a sample of the tunnel.
    ///
    /// # Errors
    /// An error of the system, of calls that never fail on a healthy one.
    pub fn serve(&self, mut sample: impl FnMut(&ProcessReader) -> Sample) -> io::Result<()> {
        let mut server = State {
            sample: || sample(&self.process),
            last: None,
            connections: Vec::with_capacity(MAX_CONNECTIONS),
            accept_after: Instant::default(),
        };
        let mut idle = Duration::ZERO;
        loop {
            let ready = self.wait(&server)?;
            if ready.shutdown {
                return Ok(());
            }
            let began = now()?;
            server.handle_ready(&self.listener, &self.hosts, &ready, began);
            idle += now()?.since(began) * IDLE_RATIO;
            if idle >= MIN_IDLE {
                if self.is_shut_down_within(idle)? {
                    return Ok(());
                }
                idle = Duration::ZERO;
            }
        }
    }

    fn wait<F>(&self, server: &State<F>) -> io::Result<Ready> {
        let now = now()?;
        let takes = if server.accept_after <= now { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = Vec::with_capacity(2 + MAX_CONNECTIONS);
        fds.push(PollFd::new(self.shutdown.as_fd(), PollFlags::POLLIN));
        fds.push(PollFd::new(self.listener.socket.as_fd(), takes));
        fds.extend(server.connections.iter().map(|each| PollFd::new(each.as_fd(), each.interest())));
        let deadlines = server.connections.iter().map(|each| each.deadline);
        let next = deadlines.chain((server.accept_after > now).then_some(server.accept_after)).min();
        poll_within(&mut fds, next.map(|next| next.since(now)))?;
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let (shutdown, listener) = (ready.next() == Some(true), ready.next() == Some(true));
        Ok(Ready { shutdown, listener, connections: ready.collect() })
    }

    fn is_shut_down_within(&self, time: Duration) -> io::Result<bool> {
        Ok(poll_within(&mut [PollFd::new(self.shutdown.as_fd(), PollFlags::POLLIN)], Some(time))? > 0)
    }
}

/// Waits for `time`, rounded up to milliseconds; a signal ends it early.
fn poll_within(fds: &mut [PollFd<'_>], time: Option<Duration>) -> io::Result<usize> {
    let whole = |time: Duration| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let timeout = time.map_or(Ok(PollTimeout::NONE), |time| PollTimeout::try_from(whole(time)));
    match poll(fds, timeout.unwrap_or(PollTimeout::MAX)) {
        Ok(ready) => Ok(usize::try_from(ready).unwrap_or_default()),
        Err(Errno::EINTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

impl<F: FnMut() -> Sample> State<F> {
    /// Does one step of every ready connection; then accepts more.
    fn handle_ready(&mut self, listener: &MetricsListener, hosts: &HostNames, ready: &Ready, now: Instant) {
        let Self { sample, last, connections, accept_after } = self;
        let mut expose = || match last {
            Some((taken, text)) if now.since(*taken) < MAX_SAMPLE_AGE => text.clone(),
            _ => {
                // free the old sample before taking a new one
                *last = None;
                let text = Exposition::new(Arc::new(sample()));
                last.insert((now, text)).1.clone()
            }
        };
        let mut flags = ready.connections.iter();
        connections.retain_mut(|each| {
            let is_ready = flags.next() == Some(&true);
            !(is_ready && each.step(now, hosts, &mut expose) == Step::Closed) && now < each.deadline
        });
        if !ready.listener {
            return;
        }
        for _ in 0..MAX_ACCEPTS {
            let error = match listener.socket.accept() {
                Ok((stream, _)) => {
                    if connections.len() >= MAX_CONNECTIONS {
                        let oldest = (0..).zip(connections.iter()).min_by_key(|(_, each)| each.last_active);
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
                    *accept_after = now + ACCEPT_BACKOFF;
                    return;
                }
            }
        }
    }
}
