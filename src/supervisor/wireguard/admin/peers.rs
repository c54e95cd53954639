//! The peers and their state, for the page: never a secret.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::state::WireGuard;
use super::page::SHOW_INTERVAL;
use super::processes::Page;
use crate::admin::messages::{MAX_PEERS_SIZE, MAX_VALUE, PeerInFile, SettingText, ToAdmin};
use crate::config::peer_settings::PeerComment;
use crate::config::wg_quick::{Peer, WgQuick, reload};
use crate::messages::ToTunnel;
use crate::net::timer::unix_now;
use crate::supervisor::context::Context;
use crate::uapi::ResponseFormat;
use wontun_proto::allowed_ips::Prefix;

/// Maximum number of allowed IPs that the page shows of a peer.
const MAX_NETWORKS: usize = 8;

impl WireGuard {
    /// Answers with the peers of the file, and has the tunnel process answer with their state, if
    /// that was requested and the last time was not just before.
    pub(super) fn show_peers(&mut self, context: &mut Context) {
        let Some(admin) = &mut self.admin.0 else { return };
        let is_early = admin.shown_at.is_some_and(|at| context.now.since(at) < SHOW_INTERVAL);
        // a process that does not read gets no more
        let is_behind = admin.page.as_ref().is_none_or(Page::is_behind);
        if !admin.is_show_due || is_early || is_behind {
            if is_behind {
                admin.shown_at = Some(context.now);
            }
            return;
        }
        admin.is_show_due = false;
        admin.shown_at = Some(context.now);
        let now = unix_now();
        if admin.is_stale
            && let Some(file) = self.source.file()
        {
            admin.is_stale = false;
            // an error is the next reload's
            let loaded = reload(&file.path, file.options.hooks).ok();
            admin.changed_peers = loaded.map(|loaded| loaded.configuration.peers);
        }
        let configuration = self.source.configuration();
        let networks = configuration.map(WgQuick::networks).unwrap_or_default();
        let of_reload = configuration.map_or(&[][..], |configuration| &configuration.peers);
        // borrowed no longer than until the messages are made
        let changed = admin.changed_peers.take();
        let peers = changed.as_deref().unwrap_or(of_reload);
        let (mut page, mut size) = (Vec::new(), 0);
        for peer in peers.iter().map(|peer| in_file(peer, &networks, now)) {
            size += peer.size();
            if size > MAX_PEERS_SIZE && !page.is_empty() {
                size = peer.size();
                let peers = std::mem::take(&mut page);
                admin.tell(&ToAdmin::Peers { peers, is_last: false }, Vec::new());
            }
            page.push(peer);
        }
        admin.tell(&ToAdmin::Peers { peers: page, is_last: true }, Vec::new());
        admin.changed_peers = changed;
        let (ours, theirs) = match UnixStream::pair() {
            Ok(pair) => pair,
            // out of descriptors: the state is unknown
            Err(_) => {
                admin.tell(&ToAdmin::Status, Vec::new());
                return;
            }
        };
        admin.tell(&ToAdmin::Status, vec![theirs.into()]);
        let client = self.uapi.next_number();
        let answer = ToTunnel::Answer { client, report: ResponseFormat::Status };
        context.tunnel.send_with(&answer, vec![ours.into()]);
    }
}

/// Returns a peer of a VPN with these networks, as the page shows it.
fn in_file(peer: &Peer, vpn: &[Prefix], now: Duration) -> PeerInFile {
    let settings = peer.settings();
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for key in PeerComment::ALL {
        match settings.get(key) {
            Some(value) if value.len() > MAX_VALUE => long.push(key),
            Some(value) => short.push((key, SettingText::cut(value))),
            None => {}
        }
    }
    let networks = peer.allowed_ips.iter().take(MAX_NETWORKS).map(ToString::to_string).collect();
    let more_networks = peer.allowed_ips.len().saturating_sub(MAX_NETWORKS);
    // with more, the page does not change them
    let sites = if more_networks == 0 { peer.sites(vpn) } else { Vec::new() };
    PeerInFile {
        key: peer.public_key,
        name: peer.name.clone(),
        networks,
        more_networks: u32::try_from(more_networks).unwrap_or(u32::MAX),
        sites: sites.iter().map(ToString::to_string).collect(),
        has_preshared_key: peer.preshared_key.is_some(),
        persistent_keepalive: peer.persistent_keepalive.map_or(0, u16::from),
        settings: short,
        long_settings: long,
        exclusion: settings.exclusion(now),
    }
}
