//! Where the peer is and how we reach it: learning, connecting, connecting anew, looking up.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::PlainTunnel;
use crate::config::PeerAddress;
use crate::counters::DropReason;
use crate::device::core::Core;
use crate::device::{DeviceError, Progress, Token};
use crate::io::mailbox::{Arrival, Local};
use crate::resolver::Resolver;
use crate::time::Instant;

/// Least time between two tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// Peers taken in one second; each costs a new socket, and `hello?` can be forged.
const ADOPTIONS: u32 = 16;

/// Pause after the first failed look-up of a name; doubled each time, up to [`LOOKUP_RETRY_MAX`].
const LOOKUP_RETRY: Duration = Duration::from_secs(1);
const LOOKUP_RETRY_MAX: Duration = Duration::from_secs(30);

/// A server that is known by name.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) resolver: Resolver,
    host: String,
    port: u16,
    /// When to ask again, after a failure.
    pub(super) again_at: Option<Instant>,
    pause: Duration,
    /// A question is out.
    asked: bool,
    /// The endpoint refused our datagrams or could not be reached since it last answered.
    pub(super) doubtful: bool,
}

impl Lookup {
    pub(super) fn new(resolver: Resolver, host: &str, port: u16) -> Self {
        Self {
            resolver,
            host: host.to_owned(),
            port,
            again_at: None,
            pause: LOOKUP_RETRY,
            asked: false,
            doubtful: false,
        }
    }
}

/// Counts adoptions in the present second.
#[derive(Debug, Default)]
pub(super) struct Adoptions {
    second: Option<Instant>,
    count: u32,
}

impl Adoptions {
    fn allow(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|second| now.since(second) >= Duration::from_secs(1)) {
            *self = Self { second: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= ADOPTIONS
    }
}

impl PlainTunnel {
    /// A client turns to its server; a server waits to be found.
    pub(super) fn start_peer(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        match self.config.peer {
            Some(PeerAddress::Socket(address)) => {
                self.engine.set_peer(address, core.now);
                self.reconnect(core)?;
            }
            Some(PeerAddress::Name { .. }) => self.look_up(core),
            None => {}
        }
        Ok(())
    }

    /// Makes the sender of a `hello?` the peer, unless it is ourselves.
    pub(super) fn adopt(&mut self, core: &mut Core, arrival: &Arrival) -> Result<(), DeviceError> {
        if !self.adoptions.allow(core.now) {
            // it repeats its hello? every second
            core.count_drop(DropReason::Stranger, Some(arrival.from));
            return Ok(());
        }
        if Self::is_behind_tun(core, arrival.from) {
            core.count_drop(DropReason::OwnTun, Some(arrival.from));
            return Ok(());
        }
        let replaces = self.engine.peer().is_some();
        if !self.connect(core, arrival.from, arrival.local)? {
            core.count_drop(DropReason::Unreachable, Some(arrival.from));
            return Ok(());
        }
        self.engine.set_peer(arrival.from, core.now);
        if !replaces {
            info!("peer connected");
        } else if let Some(suppressed) = self.quiet.replaced.allow(core.now) {
            info!(suppressed, "peer replaced");
        }
        debug!(endpoint = %arrival.from, local = ?arrival.local, "the peer's endpoint");
        Ok(())
    }

    /// The peer talked to another address of ours than the one we answer from: answer from that one.
    pub(super) fn follow_local(&mut self, core: &mut Core, arrival: &Arrival) -> Result<(), DeviceError> {
        let Some(local) = arrival.local else { return Ok(()) };
        let from_peer = self.engine.peer() == Some(arrival.from);
        let connected = self.sockets.connected(()).and_then(|connected| connected.local);
        if from_peer && connected != Some(local.address) && !self.is_just_connected(core) {
            self.connect(core, arrival.from, Some(local))?;
        }
        Ok(())
    }

    /// Takes a new connected socket into use; the one before is emptied and closed. Gives whether there is a way to
    /// `endpoint`; if not, all is as it was.
    fn connect(
        &mut self,
        core: &mut Core,
        endpoint: SocketAddr,
        local: Option<Local>,
    ) -> Result<bool, DeviceError> {
        self.connected_at = Some(core.now);
        let mut result = self.sockets.connect(core.current(), (), endpoint, local);
        if result.is_err() && local.is_some() {
            // that address went away meanwhile
            result = self.sockets.connect(core.current(), (), endpoint, None);
        }
        let old = match result {
            Ok(old) => old,
            Err(error) => {
                if let Some(suppressed) = self.quiet.connect.allow(core.now) {
                    warn!(%error, suppressed, "no way to the peer for now: check the routes and --listen; trying on");
                }
                debug!(%endpoint, "no way there");
                return Ok(false);
            }
        };
        if let Some(connected) = self.sockets.connected(()) {
            let token = Token::Sock(connected.id);
            core.register(core.current(), connected.socket.as_ref(), token)?;
        }
        core.drain_last(old);
        self.reconnect_at = None;
        self.fit_mtu(core, endpoint.is_ipv4());
        Ok(true)
    }

    /// Connects to the same endpoint anew, from whichever address the routes now say.
    ///
    /// # Errors
    /// The system fails.
    pub(super) fn reconnect(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.reconnect_at = None;
        let Some(endpoint) = self.engine.peer() else { return Ok(()) };
        if !self.connect(core, endpoint, None)? {
            self.doubt_endpoint();
            self.reconnect_at = Some(core.now + RECONNECT);
        }
        Ok(())
    }

    /// A server that is known by name may have a better address.
    pub(super) const fn doubt_endpoint(&mut self) {
        if let Some(lookup) = &mut self.lookup {
            lookup.doubtful = true;
        }
    }

    /// Our own address or the way to the peer is gone: connect anew, at most once a second.
    pub(super) fn schedule_reconnect(&mut self, core: &mut Core) {
        let earliest = self.connected_at.map_or(core.now, |at| at + RECONNECT);
        self.reconnect_at.get_or_insert(earliest.max(core.now));
    }

    fn is_just_connected(&self, core: &Core) -> bool {
        self.connected_at.is_some_and(|at| core.now.since(at) < RECONNECT)
    }

    /// The server has been silent for long: its name may mean another address now, or our own has changed.
    pub(super) fn look_again(&mut self, core: &mut Core) {
        if self.lookup.is_some() { self.look_up(core) } else { self.schedule_reconnect(core) }
    }

    /// Asks for the server's addresses; the answer comes as an event.
    pub(super) fn look_up(&mut self, core: &mut Core) {
        let Some(lookup) = &mut self.lookup else { return };
        lookup.again_at = None;
        if lookup.asked {
            return;
        }
        match lookup.resolver.request(&lookup.host, lookup.port, None) {
            Ok(()) => lookup.asked = true,
            Err(error) => self.handle_lookup_failure(core, &error.to_string()),
        }
    }

    pub(super) fn drain_resolver(&mut self, core: &mut Core) -> Result<Progress, DeviceError> {
        let Some(lookup) = &mut self.lookup else { return Ok(Progress::Drained) };
        match lookup.resolver.poll_answer() {
            Ok(None) => Ok(Progress::Drained),
            Ok(Some(answer)) => {
                lookup.asked = false;
                match answer {
                    Ok(addresses) => self.handle_addresses(core, &addresses)?,
                    Err(error) => self.handle_lookup_failure(core, &error.to_string()),
                }
                Ok(Progress::More)
            }
            // without an address there is nothing to go on with
            Err(source) if self.engine.peer().is_none() => {
                Err(DeviceError::System { what: "resolving the server's name", source })
            }
            Err(error) => {
                warn!(%error, "the resolver process ended: the server's name is not resolved again until a restart");
                self.lookup = None;
                Ok(Progress::Drained)
            }
        }
    }

    /// Stays with the present address while the name still means it and nothing speaks against it: a server that
    /// takes us for a client at one address drops what comes from another.
    fn handle_addresses(&mut self, core: &mut Core, addresses: &[SocketAddr]) -> Result<(), DeviceError> {
        let mut usable = Vec::with_capacity(addresses.len());
        for &address in addresses {
            if self.sockets.speaks(address.ip()) && !Self::is_behind_tun(core, address) {
                usable.push(address);
            }
        }
        let place = usable.iter().position(|address| Some(*address) == self.engine.peer());
        let doubtful =
            self.engine.is_endpoint_doubtful() || self.lookup.as_ref().is_some_and(|lookup| lookup.doubtful);
        // from the one after a doubtful one, around the corner
        let first = place.map_or(0, |place| place + usize::from(doubtful));
        let candidates = usable.iter().skip(first).chain(usable.iter().take(first));
        for &endpoint in candidates {
            if self.connect(core, endpoint, None)? {
                debug!(%endpoint, "the server's address");
                self.engine.set_peer(endpoint, core.now);
                if let Some(lookup) = &mut self.lookup {
                    lookup.pause = LOOKUP_RETRY;
                    lookup.doubtful = false;
                }
                return Ok(());
            }
        }
        self.handle_lookup_failure(core, "no address that can be reached from here, outside the tunnel");
        Ok(())
    }

    fn handle_lookup_failure(&mut self, core: &mut Core, error: &str) {
        let Some(lookup) = &mut self.lookup else { return };
        lookup.again_at = Some(core.now + lookup.pause);
        let pause = lookup.pause.as_secs();
        lookup.pause = (lookup.pause * 2).min(LOOKUP_RETRY_MAX);
        if let Some(suppressed) = self.quiet.lookup.allow(core.now) {
            warn!(name = %lookup.host, error, suppressed, "the server's name does not lead to it; trying again in {pause} s, then less often");
        }
    }

    /// Whether datagrams to `endpoint` would go into our own tun.
    fn is_behind_tun(core: &mut Core, endpoint: SocketAddr) -> bool {
        !core.link.away
            && core.link.link.route_interface(endpoint.ip()).is_ok_and(|index| index == Some(core.link.index))
    }

    /// Unless the user chose an MTU, it follows the outer address family.
    fn fit_mtu(&mut self, core: &mut Core, outer_v4: bool) {
        let mtu = self.config.mtu_over(outer_v4);
        if self.config.mtu.is_some() || !self.config.configure || core.link.away || mtu == core.link.mtu {
            return;
        }
        match core.link.link.set_mtu(mtu) {
            Ok(()) => {
                core.link.mtu = mtu;
                core.link.fit_super_packets();
                info!(mtu, "the MTU fits the peer's address family");
            }
            Err(error) => warn!(%error, "the MTU does not fit the peer's address family"),
        }
    }
}
