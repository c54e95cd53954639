//! A restart: restores what an earlier run has known, greets the peers, and reports to the
//! supervisor what the next run has to know.

use std::net::SocketAddr;

use tracing::info;

use super::ledger::Account;
use super::state_reports::Comparison;
use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use crate::messages::{Address, FromTunnel, MAX_PEERS_PER_MESSAGE, PeerReport, RestoredPeer};
use crate::net::timer::unix_now;
use crate::traffic::Traffic;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{Endpoint, Peer, PeerId, TIMESTAMP_LEN, Timestamp, Transfer};

impl WireGuard {
    /// Restores what an earlier run has known. Peers are greeted once the tunnel runs.
    pub(super) fn restore(
        &mut self,
        core: &mut Core,
        sent: Option<[u8; TIMESTAMP_LEN]>,
        peers: Vec<RestoredPeer>,
    ) {
        if let Some(sent) = sent {
            self.engine.skip_timestamps(Timestamp::from_bytes(sent));
        }
        for peer in peers {
            let RestoredPeer { public_key, remote, local, latest, last_handshake, traffic, is_greeted } =
                peer;
            let account = Account { traffic, earlier_handshake: last_handshake, ..Account::default() };
            // a peer that was ignored, or has no access, does not exist
            let Some(id) = self.engine.peer_id(&public_key) else {
                self.excluded.set_account(&public_key, account);
                continue;
            };
            let remote = remote.map(SocketAddr::from);
            let remote = remote.filter(|remote| self.sockets.supports_family_of(remote.ip()));
            let endpoint = remote.map(|remote| Endpoint { remote, local });
            self.engine.restore_peer(id, endpoint, latest.map(Timestamp::from_bytes));
            self.ledger.restore(id, account);
            self.report_endpoint(core, id);
            if is_greeted {
                self.greetings.waiting.push_back(id);
            }
        }
        self.apply_quotas(core);
        self.greetings.resume(core.now);
    }

    /// Starts to greet peers.
    pub(super) fn start_greetings(&mut self, core: &Core) {
        // of a tunnel that was taken over
        let has_session = |id: &PeerId| self.engine.peer(*id).is_some_and(|peer| peer.has_session(core.now));
        self.greetings.waiting.retain(|id| !has_session(id));
        if !self.greetings.waiting.is_empty() {
            let peers = self.greetings.waiting.len();
            info!(peers, "greeting the peers that were connected before the restart");
        }
        self.greetings.start(core.now);
    }

    /// Greets some peers, if that is due.
    pub(super) fn send_greetings(&mut self, now: Instant) {
        for id in self.greetings.take_group(now) {
            self.engine.greet(id, now);
        }
    }

    /// Reports what is due: in each turn a part of it, so that thousands of peers do not keep the
    /// loop from packets.
    pub(super) fn report_state(&mut self, core: &mut Core) {
        if self.state_reports.due.is_some_and(|due| core.now >= due) {
            let changed = self.state_reports.take_changed(core.now);
            self.send_reports(core, &changed);
        }
        if self.state_reports.compare_at.is_some_and(|at| core.now >= at) {
            self.state_reports.compare_at = None;
            self.state_reports.comparison = Some(Comparison::default());
        }
        if let Some(comparison) = self.state_reports.comparison.take() {
            self.compare_counters(core, comparison);
        }
    }

    /// Compares the counters of some peers, and reports those that have changed.
    fn compare_counters(&mut self, core: &mut Core, comparison: Comparison) {
        let Comparison { after, mut is_active } = comparison;
        let mut changed = Vec::new();
        let mut last = None;
        for peer in self.engine.peers_after(after.as_ref()).take(MAX_PEERS_PER_MESSAGE) {
            last = Some(*peer.public_key());
            is_active |= peer.has_session(core.now);
            if self.ledger.enter(peer.id(), peer.transfer()) {
                is_active = true;
                changed.push(peer.id());
            }
        }
        if !changed.is_empty() {
            self.send_reports(core, &changed);
        }
        if last.is_some() {
            self.state_reports.comparison = Some(Comparison { after: last, is_active });
        } else if is_active {
            self.state_reports.schedule_comparison(core.now);
        }
    }

    /// Reports everything that is not reported yet, before the end.
    pub(super) fn report_whole_state(&mut self, core: &mut Core) {
        if !self.state_reports.is_reporting {
            return;
        }
        let mut comparison = Some(Comparison::default());
        while let Some(part) = comparison {
            self.compare_counters(core, part);
            comparison = self.state_reports.comparison.take();
        }
        while self.state_reports.due.is_some() || !self.state_reports.changed.is_empty() {
            let changed = self.state_reports.take_changed(core.now);
            self.send_reports(core, &changed);
        }
    }

    /// Reports the last counters of a peer that was removed: it may come back.
    pub(super) fn report_removed(&mut self, core: &mut Core, removed: &Peer) {
        let transfer = removed.transfer();
        if self.state_reports.is_reporting && transfer != Transfer::default() {
            self.ledger.enter(removed.id(), transfer);
            self.send(core, vec![report(removed, self.ledger.get(removed.id()).traffic, core.now)]);
        }
        let mut account = self.ledger.get(removed.id());
        if let Some(last) = removed.last_handshake() {
            account.earlier_handshake = unix_now().saturating_sub(core.now.since(last));
        }
        self.excluded.set_account(removed.public_key(), account);
    }

    fn send_reports(&mut self, core: &mut Core, peers: &[PeerId]) {
        let mut reports = Vec::with_capacity(peers.len());
        for peer in peers.iter().filter_map(|id| self.engine.peer(*id)) {
            self.ledger.enter(peer.id(), peer.transfer());
            reports.push(report(&peer, self.ledger.get(peer.id()).traffic, core.now));
        }
        self.send(core, reports);
    }

    fn send(&mut self, core: &mut Core, reports: Vec<PeerReport>) {
        let sent = self.engine.sent_timestamp();
        self.state_reports.sent = sent;
        let sent = sent.map(|sent| *sent.as_bytes());
        core.send(&FromTunnel::State { sent, peers: reports });
    }
}

fn report(peer: &Peer, traffic: Traffic, now: Instant) -> PeerReport {
    // a configured endpoint is confirmed, too, before a handshake
    let endpoint = peer.confirmed_endpoint().filter(|_| peer.last_handshake().is_some());
    PeerReport {
        public_key: *peer.public_key(),
        remote: endpoint.map(|endpoint| Address::from(endpoint.remote)),
        local: endpoint.and_then(|endpoint| endpoint.local),
        handshake_age: peer.last_handshake().map(|last| now.since(last)),
        latest: peer.latest_timestamp().map(|latest| *latest.as_bytes()),
        traffic,
    }
}
