//! Traffic of the peers over all runs, from the engine's counters of this one.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::net::timer::unix_now;
use crate::traffic::{Today, Traffic};
use wontun_proto::wireguard::{PeerId, Transfer};

/// Time after midnight up to which counters that are entered belong to the day before: they are
/// compared at midnight, which takes a moment.
const MIDNIGHT: Duration = Duration::from_secs(1);

/// The accounts of the peers that have carried something.
#[derive(Debug, Default)]
pub(super) struct Ledger(HashMap<PeerId, Account>);

/// The account of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    /// Traffic as entered last.
    pub(super) traffic: Traffic,
    /// Counters of this run as entered last.
    pub(super) entered: Transfer,
    /// Completion time of the last handshake of an earlier run since 1970; zero for none.
    pub(super) earlier_handshake: Duration,
}

impl Ledger {
    /// Sets the account of a peer, as kept from an earlier run or by another process.
    pub(super) fn restore(&mut self, peer: PeerId, account: Account) {
        if account == Account::default() {
            self.0.remove(&peer);
        } else {
            self.0.insert(peer, account);
        }
    }

    /// Returns the account of a peer.
    pub(super) fn get(&self, peer: PeerId) -> Account {
        self.0.get(&peer).copied().unwrap_or_default()
    }

    /// Enters the counters of a peer. Returns true if they have changed.
    pub(super) fn enter(&mut self, peer: PeerId, counters: Transfer) -> bool {
        if self.get(peer).entered == counters {
            return false;
        }
        let account = self.0.entry(peer).or_default();
        let today = Today::at(unix_now().saturating_sub(MIDNIGHT));
        account.traffic.add_increase(account.entered, counters, today);
        account.entered = counters;
        true
    }

    /// Returns the traffic of a peer with these counters, and with the periods of `today`.
    pub(super) fn traffic(&self, peer: PeerId, counters: Transfer, today: Option<Today>) -> Traffic {
        let Account { mut traffic, entered, .. } = self.get(peer);
        if counters == entered {
            return traffic.on(today);
        }
        traffic.add_increase(entered, counters, today);
        traffic
    }

    /// Moves the traffic of a peer, as entered, to another that has carried nothing.
    pub(super) fn move_traffic(&mut self, from: PeerId, to: PeerId) {
        if let Some(account) = self.0.get_mut(&from) {
            let traffic = std::mem::take(&mut account.traffic);
            self.restore(to, Account { traffic, ..Account::default() });
        }
    }

    /// Removes the account of a removed peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::{Interface, PublicKey};

    #[test]
    fn counters_are_entered_once() {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        let peer = engine.add_peer(PublicKey::from_bytes([1; 32])).unwrap();
        let mut ledger = Ledger::default();
        let counters = |received| Transfer { received, ..Transfer::default() };
        let changes = [0, 5, 5, 9].map(|received| ledger.enter(peer, counters(received)));
        assert_eq!(changes, [false, true, false, true]);
        let today = Today::at(unix_now());
        let total = |ledger: &Ledger, now| ledger.traffic(peer, counters(now), today).total.received;
        assert_eq!((total(&ledger, 9), total(&ledger, 12), total(&ledger, 9)), (9, 12, 9));
        // a restart: counters begin again
        let kept = Account { entered: Transfer::default(), ..ledger.get(peer) };
        let mut ledger = Ledger::default();
        ledger.restore(peer, kept);
        assert_eq!(total(&ledger, 1), 10);
        assert!(ledger.enter(peer, counters(1)) && !ledger.enter(peer, counters(1)));
        assert_eq!(ledger.get(peer).traffic.total.received, 10);
        ledger.remove(peer);
        assert_eq!(total(&ledger, 1), 1);
    }
}
