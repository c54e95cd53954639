//! The events that affect the tunnel, in an order that a seed determines.

use std::fmt;

use crate::streams::Pattern;

/// The process that an event affects. Clients 0 and 1 are killed throughout; the server and client
/// 2 only at first, so that their resource usage can be observed for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client(usize),
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Replaces a client's session while packets flow: its boot clock says that the session has
    /// expired; a session that the server began at its restart is not replaced sooner. Only the
    /// boot clock is stepped, so to the client its host was suspended, and it drops its session
    /// with the packets in flight. `wireguard::rekey` has rekeys without that, and without a loss.
    Rekey(usize),
    /// Suspends a client longer than a session's lifetime.
    Sleep(usize),
    /// Steps the wall clock of a running process, by so many seconds.
    WallClock(Side, i64),
    /// Restarts a client with its wall clock set back: the server has seen later timestamps from
    /// it.
    ClockBack(usize),
    /// Adds, renames and removes a peer.
    Guest,
    /// Removes a client and adds it with other keys; its file is read again.
    Renew(usize),
    /// Reads a file again.
    Reload(Side),
    /// Kills a process and starts another: a client with the boot clock of a newly booted machine.
    Kill(Side),
    /// Disconnects the cable for so many milliseconds.
    Cable(Side, u64),
    /// Sets the tunnel's device down for so many milliseconds.
    Device(Side, u64),
    /// Changes a client's outer address.
    Roam(usize),
    /// Fills the disk of the server's files.
    DiskFull,
    /// Allows a process no more descriptors. Then a client reaches the server from another port,
    /// and its files are read; a client loses its cable.
    Descriptors(Side),
}

impl Event {
    /// Returns the name of the event's kind in the report.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Rekey(_) => "rekey",
            Self::Sleep(_) => "a client sleeps",
            Self::WallClock(..) => "wall clock set",
            Self::ClockBack(_) => "restart, clock set back 20 s",
            Self::Guest => "peer added, renamed, removed",
            Self::Renew(_) => "client gets new keys",
            Self::Reload(_) => "reload",
            Self::Kill(Side::Server) => "kill -9 of the server",
            Self::Kill(Side::Client(_)) => "kill -9 of a client",
            Self::Cable(..) => "cable out and in",
            Self::Device(..) => "tun down and up",
            Self::Roam(_) => "client roams",
            Self::DiskFull => "disk full",
            Self::Descriptors(_) => "no descriptors",
        }
    }

    /// Returns the clients whose packets may be lost.
    pub(super) fn disturbs(self) -> Vec<usize> {
        let of = |who| match who {
            Side::Server => (0..super::CLIENTS).collect(),
            Side::Client(client) => vec![client],
        };
        match self {
            Self::Kill(who) | Self::Cable(who, _) | Self::Device(who, _) => of(who),
            Self::Rekey(client) | Self::WallClock(Side::Client(client), _) => vec![client],
            Self::Sleep(client) | Self::ClockBack(client) | Self::Renew(client) | Self::Roam(client) => {
                vec![client]
            }
            // the client that moves to another port meanwhile
            Self::Descriptors(Side::Server) => vec![MOVED_CLIENT],
            Self::Descriptors(who) => of(who),
            Self::WallClock(Side::Server, _) | Self::Guest | Self::Reload(_) | Self::DiskFull => Vec::new(),
        }
    }
}

/// The client that is killed while the server cannot open descriptors.
pub(super) const MOVED_CLIENT: usize = 0;
/// The client that is not killed.
const UNKILLED_CLIENT: usize = super::CLIENTS - 1;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A sequence of all kinds of events, shuffled again whenever it has been used up.
#[derive(Debug)]
pub(super) struct EventSequence {
    random: Pattern,
    remaining: Vec<u64>,
}

impl EventSequence {
    const KINDS: u64 = 14;

    pub(super) fn new(seed: u64) -> Self {
        Self { random: Pattern::new(seed), remaining: Vec::new() }
    }

    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // the low bits of this generator are its worst
        (self.random.number() >> 32) % end
    }

    fn client(&mut self) -> usize {
        self.below(super::CLIENTS as u64) as usize
    }

    fn killable_client(&mut self) -> usize {
        self.below(UNKILLED_CLIENT as u64) as usize
    }

    fn any_side(&mut self) -> Side {
        match self.below(super::CLIENTS as u64 + 1) {
            0 => Side::Server,
            number => Side::Client(number as usize - 1),
        }
    }

    /// Returns the events that must come first, since they are only done then.
    pub(super) fn initial_events() -> [Event; 2] {
        [Event::Kill(Side::Server), Event::Kill(Side::Client(UNKILLED_CLIENT))]
    }

    /// Returns a replacement of a client's session.
    pub(super) fn rekey(&mut self) -> Event {
        Event::Rekey(self.client())
    }

    /// Returns the next event. With `is_early` every process may be killed.
    pub(super) fn next(&mut self, is_early: bool) -> Event {
        if self.remaining.is_empty() {
            self.remaining = (0..Self::KINDS).collect();
            for place in (1..self.remaining.len()).rev() {
                let other = self.below(place as u64 + 1) as usize;
                self.remaining.swap(place, other);
            }
        }
        match self.remaining.pop().unwrap() {
            0 => Event::Sleep(self.client()),
            1 => {
                let seconds = self.below(2 * 86_400) as i64 - 86_400;
                // a client that is killed after its clock was set back relies on its state file,
                // which is up to a second behind
                let is_server = self.below(2) == 0 || is_early;
                Event::WallClock(
                    if is_server { Side::Server } else { Side::Client(UNKILLED_CLIENT) },
                    seconds,
                )
            }
            2 => Event::ClockBack(self.killable_client()),
            3 => Event::Guest,
            4 => Event::Renew(self.client()),
            5 => Event::Reload(self.any_side()),
            6 => Event::Kill(Side::Client(self.killable_client())),
            7 if is_early => {
                Event::Kill(if self.below(2) == 0 { Side::Server } else { Side::Client(UNKILLED_CLIENT) })
            }
            7 => self.rekey(),
            8 => Event::Cable(Side::Server, self.below(3000)),
            9 => Event::Cable(Side::Client(self.client()), self.below(3000)),
            10 => Event::Device(self.any_side(), self.below(2000)),
            11 => Event::Roam(self.client()),
            12 => Event::DiskFull,
            _ => Event::Descriptors(if self.below(2) == 0 {
                Side::Server
            } else {
                Side::Client(self.client())
            }),
        }
    }
}
