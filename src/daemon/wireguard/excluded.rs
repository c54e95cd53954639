//! Peers that have no access by their settings: the engine does not know them, and answers them
//! like anybody else whose key no peer has.

use std::collections::BTreeMap;

use super::ledger::Account;
use super::unknown_keys::UnknownKeys;
use crate::config::peer_settings::ExcludedPeer;
use crate::logging::Suppressed;
use crate::net::timer::unix_now;
use crate::traffic::Today;
use crate::uapi::Response;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// The peers, and when the log mentions them.
#[derive(Debug, Default)]
pub(super) struct ExcludedPeers {
    peers: BTreeMap<PublicKey, ExcludedPeer>,
    /// Traffic and last handshake of these peers, as far as they are known.
    accounts: BTreeMap<PublicKey, Account>,
    /// Those of the peers before the last message, of which more may follow.
    former: BTreeMap<PublicKey, Account>,
    log: UnknownKeys,
}

impl ExcludedPeers {
    /// Adds peers, which replace the present ones if they are the first.
    pub(super) fn handle_message(&mut self, is_first: bool, peers: Vec<ExcludedPeer>) {
        if is_first {
            self.peers.clear();
            self.former = std::mem::take(&mut self.accounts);
        }
        for peer in peers {
            let key = peer.public_key;
            self.accounts.extend(self.former.remove_entry(&key));
            self.peers.insert(key, peer);
        }
    }

    /// Sets the traffic of a peer, if it has no access, and the time of its last handshake.
    pub(super) fn set_account(&mut self, key: &PublicKey, account: Account) {
        if self.peers.contains_key(key) {
            self.accounts.insert(*key, account);
        }
    }

    /// Adds the peers to the answer to `status=1`.
    pub(super) fn answer(&self, answer: &mut Response) {
        let today = Today::at(unix_now());
        for (key, peer) in &self.peers {
            let account = self.accounts.get(key);
            let handshake = account.map(|account| account.earlier_handshake).unwrap_or_default();
            answer.excluded_peer(peer, handshake, account.map(|account| account.traffic.on(today)));
        }
    }

    /// Returns the peer with this key, if it has no access.
    pub(super) fn get(&self, key: &PublicKey) -> Option<&ExcludedPeer> {
        self.peers.get(key)
    }

    /// Returns the number of suppressed log lines if a rejected handshake of this key is to be
    /// logged.
    pub(super) fn log(&mut self, key: &PublicKey, now: Instant) -> Option<Suppressed> {
        self.log.allow(key, now)
    }
}
