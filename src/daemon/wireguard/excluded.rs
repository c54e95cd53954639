//! Peers that have no access by their settings: the engine does not know them, and answers them
//! like anybody else whose key no peer has.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tracing::info;

use super::ledger::Account;
use super::tunnel::WireGuard;
use super::unknown_keys::UnknownKeys;
use crate::config::display_name;
use crate::config::peer_settings::{Exclusion, Expiry};
use crate::daemon::core::Core;
use crate::messages::ExcludedPeer;
use crate::net::timer::unix_now;
use crate::traffic::Today;
use crate::uapi::Response;
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
}

impl WireGuard {
    /// Handles an initiation with a key that no peer of the engine has. Returns true if it is that
    /// of a peer without access.
    pub(super) fn handle_excluded_peer(&mut self, core: &Core, from: SocketAddr, public: &PublicKey) -> bool {
        let Some(peer) = self.excluded.peers.get(public) else { return false };
        if let Some(suppressed) = self.excluded.log.allow(public, core.now) {
            let ExcludedPeer { name, exclusion, expires, .. } = peer;
            let peer = display_name(name.as_ref(), public);
            match exclusion {
                Exclusion::Disabled => info!(
                    peer,
                    %from,
                    suppressed,
                    "rejected a handshake: the peer is disabled; to admit it: wontun peer enable NAME"
                ),
                Exclusion::Expired => {
                    let expires = expires.map(std::time::Duration::from_secs).and_then(Expiry::from_epoch);
                    info!(
                        peer,
                        %from,
                        expires = expires.map(tracing::field::display),
                        suppressed,
                        "rejected a handshake: the peer's access has ended; to extend it: wontun peer set NAME --expires \
                         30d"
                    );
                }
            }
        }
        true
    }
}
