//! Log of handshakes of peers that have no access.

use std::net::SocketAddr;

use tracing::info;

use super::tunnel::WireGuard;
use crate::config::display_name;
use crate::config::peer_settings::{ExcludedPeer, Exclusion, Expiry};
use crate::daemon::core::Core;
use wontun_proto::wireguard::PublicKey;

impl WireGuard {
    /// Handles an initiation with a key that no peer of the engine has. Returns true if it is that
    /// of a peer without access.
    pub(super) fn handle_excluded_peer(&mut self, core: &Core, from: SocketAddr, public: &PublicKey) -> bool {
        let Some(peer) = self.excluded.get(public).cloned() else { return false };
        if let Some(suppressed) = self.excluded.log(public, core.now) {
            let ExcludedPeer { name, exclusion, expires, .. } = &peer;
            let peer = display_name(name.as_ref(), public);
            match exclusion {
                Exclusion::Disabled => info!(
                    peer,
                    %from,
                    suppressed,
                    "rejected a handshake: the peer is disabled; to admit it: wontun peer enable NAME"
                ),
                Exclusion::Unanswered => info!(
                    peer,
                    %from,
                    suppressed,
                    "rejected a handshake: invitations are not answered; to answer them: wontun serve --invitations"
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
