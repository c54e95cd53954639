//! Reports of the peers' addresses to the supervisor: it sets the host's routes, which must not
//! route a peer's datagrams into the tunnel itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use wontun_proto::time::Instant;
use wontun_proto::wireguard::PeerId;

/// Period in which at most `UNCONFIRMED_COUNT` unconfirmed addresses of one peer are reported.
const UNCONFIRMED_TIME: Duration = Duration::from_secs(10);
const UNCONFIRMED_COUNT: u8 = 4;

/// The addresses reported last.
#[derive(Debug, Default)]
pub(super) struct EndpointReports {
    /// True if the supervisor wants reports.
    is_reporting: bool,
    reported: HashMap<PeerId, Reported>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    /// Address shown by a handshake, or configured.
    confirmed: Option<IpAddr>,
    /// Another, unconfirmed address.
    unconfirmed: Option<IpAddr>,
    /// Start of the current [`UNCONFIRMED_TIME`], and the number of reports in it.
    since: Option<Instant>,
    count: u8,
}

impl EndpointReports {
    pub(super) fn new(is_reporting: bool) -> Self {
        Self { is_reporting, ..Self::default() }
    }

    /// Records an address configured by the supervisor, which knows it then unless a report of
    /// another one is on its way.
    pub(super) fn handle_configured(&mut self, peer: PeerId, address: IpAddr) {
        if self.is_reporting {
            self.reported.entry(peer).or_default().confirmed.get_or_insert(address);
        }
    }

    /// Removes the state of a removed peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.reported.remove(&peer);
    }

    /// Returns the address to report of a peer that is now at `address`, and true if it is
    /// confirmed.
    pub(super) fn take_report(
        &mut self,
        peer: PeerId,
        address: IpAddr,
        confirmed: Option<IpAddr>,
        now: Instant,
    ) -> Option<(IpAddr, bool)> {
        if !self.is_reporting {
            return None;
        }
        let reported = self.reported.entry(peer).or_default();
        if let Some(confirmed) = confirmed
            && reported.confirmed != Some(confirmed)
        {
            *reported = Reported { confirmed: Some(confirmed), ..*reported };
            return Some((confirmed, true));
        }
        if confirmed == Some(address) || reported.unconfirmed == Some(address) {
            return None;
        }
        if reported.since.is_none_or(|since| now.since(since) >= UNCONFIRMED_TIME) {
            (reported.since, reported.count) = (Some(now), 0);
        }
        if reported.count >= UNCONFIRMED_COUNT {
            return None;
        }
        reported.count += 1;
        reported.unconfirmed = Some(address);
        Some((address, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::{Interface, PublicKey};

    #[test]
    fn only_another_address_is_reported_and_an_unconfirmed_one_seldom() {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        let peer = engine.add_peer(PublicKey::from_bytes([1; 32])).unwrap();
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let mut silent = EndpointReports::new(false);
        assert_eq!(silent.take_report(peer, a, Some(a), at(0)), None);
        let mut endpoints = EndpointReports::new(true);
        endpoints.handle_configured(peer, a);
        assert_eq!(endpoints.take_report(peer, a, Some(a), at(0)), None, "the supervisor's own");
        assert_eq!(endpoints.take_report(peer, b, Some(a), at(0)), Some((b, false)));
        assert_eq!(endpoints.take_report(peer, b, Some(a), at(0)), None, "known");
        for address in [c, b, c] {
            assert_eq!(endpoints.take_report(peer, address, Some(a), at(9)), Some((address, false)));
        }
        assert_eq!(endpoints.take_report(peer, b, Some(a), at(9)), None, "too many");
        assert_eq!(endpoints.take_report(peer, b, Some(a), at(10)), Some((b, false)));
        assert_eq!(endpoints.take_report(peer, c, Some(a), at(20)), Some((c, false)));
        assert_eq!(endpoints.take_report(peer, c, Some(c), at(20)), Some((c, true)), "at once");
        assert_eq!(endpoints.take_report(peer, c, Some(c), at(21)), None);
        // configured again while the report above may be on its way
        endpoints.handle_configured(peer, a);
        assert_eq!(endpoints.take_report(peer, a, Some(a), at(22)), Some((a, true)));
        endpoints.remove(peer);
        assert!(endpoints.reported.is_empty());
    }
}
