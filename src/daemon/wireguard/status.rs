//! Status of the tunnel: for wg(8), for `wontun show`, for the summary, for the service manager.

use std::time::Duration;

use zeroize::Zeroizing;

use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use crate::daemon::protocol::Control as _;
use crate::messages::Status;
use crate::net::timer::unix_now;
use crate::traffic::Today;
use crate::uapi::{InterfaceStatus, PeerStatus, Response, ResponseFormat};
use wontun_packet::DropReason;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PeerId;

impl WireGuard {
    /// Returns the answer to `get=1` or `status=1`.
    pub(super) fn answer(&self, core: &Core, report: ResponseFormat) -> Zeroizing<Vec<u8>> {
        let host = &core.supervisor.host;
        let (repairs, problems) = (host.repairs.counts(), host.problems());
        let interface = InterfaceStatus {
            private_key: self.engine.private_key(),
            public_key: self.engine.public_key(),
            listen_port: self.sockets.port(),
            fwmark: self.sockets.mark(),
            mtu: Some(core.link.mtu),
            is_up: core.link.is_up,
            repairs: &repairs,
            problems: &problems,
        };
        let mut totals = core.totals();
        totals.set_drops(DropReason::Unsent, self.lost_packets());
        let drops = DropReason::ALL.map(|reason| (reason.name(), totals.drops(reason)));
        let denied = host.denied.map(|packets| ("denied", packets));
        let mut answer = Response::new(report, &interface, drops.into_iter().chain(denied));
        let today = Today::at(unix_now());
        for id in self.engine.peer_ids() {
            self.answer_peer(core, &mut answer, id, today);
        }
        self.excluded.answer(&mut answer);
        answer.finish()
    }

    /// Returns the state of the peers, for the service manager.
    pub(super) fn peers_status(&self, now: Instant) -> Status {
        let (mut connected, mut peers) = (0, 0);
        let mut handshake: Option<Duration> = None;
        for peer in self.engine.peer_ids().filter_map(|id| self.engine.peer(id)) {
            peers += 1;
            connected += u32::from(peer.has_session(now));
            let age = peer.last_handshake().map(|last| now.since(last));
            handshake = handshake.into_iter().chain(age).min();
        }
        Status::WireGuard { connected, peers, handshake }
    }

    fn answer_peer(&self, core: &Core, answer: &mut Response, id: PeerId, today: Option<Today>) {
        let Some(peer) = self.engine.peer(id) else { return };
        let age = peer.last_handshake().map(|last| core.now.since(last));
        let transfer = peer.transfer();
        let status = PeerStatus {
            public_key: peer.public_key(),
            name: self.peer_names.get(&id),
            preshared_key: peer.preshared_key(),
            endpoint: peer.endpoint().map(|endpoint| endpoint.remote),
            last_handshake: age.map(|age| unix_now().saturating_sub(age)).unwrap_or_default(),
            earlier_handshake: self.ledger.get(id).earlier_handshake,
            tx_bytes: transfer.sent,
            rx_bytes: transfer.received,
            traffic: self.state_reports.is_reporting.then(|| self.ledger.traffic(id, transfer, today)),
            persistent_keepalive: peer
                .persistent_keepalive()
                .and_then(|interval| u16::try_from(interval.as_secs()).ok())
                .unwrap_or_default(),
            has_session: peer.has_session(core.now),
            is_over_quota: peer.is_over_quota(),
        };
        answer.peer(&status, self.allowed_ips.prefixes_of(id));
    }
}
