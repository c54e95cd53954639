//! State of a peer, as all commands and the admin page show it.

use std::time::Duration;

use serde::Serialize;

use super::status::TunnelPeer;
use crate::config::peer_settings::{Exclusion, PeerSettings};

/// State of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PeerState {
    /// It has a session: there was a handshake within the last three minutes.
    Active,
    /// It has no session, but had one.
    Idle,
    /// It has never completed a handshake.
    Never,
    /// It has used up its quota.
    OverQuota,
    /// It is an invitation: no device has been enrolled yet.
    Invited,
    /// Its settings disable it.
    Disabled,
    /// Its access has ended.
    Expired,
}

impl PeerState {
    /// Returns the state of a peer at `now`, a time since 1970. `live` is what the tunnel reports
    /// of it; `None` if neither that nor the settings tell the state.
    pub(crate) fn of(settings: &PeerSettings, live: Option<&TunnelPeer>, now: Duration) -> Option<Self> {
        let of_settings = settings.exclusion(now).map(Self::from);
        let invited = settings.invitation.is_some().then_some(Self::Invited);
        of_settings.or(invited).or_else(|| live.map(Self::of_live))
    }

    /// Returns the state of a peer as the tunnel reports it.
    pub(crate) fn of_live(peer: &TunnelPeer) -> Self {
        if let Some(exclusion) = peer.exclusion {
            exclusion.into()
        } else if peer.is_over_quota {
            Self::OverQuota
        } else if peer.has_session {
            Self::Active
        } else if peer.latest_handshake().is_zero() {
            Self::Never
        } else {
            Self::Idle
        }
    }

    /// Returns the state in at most ten columns.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Never => "never",
            Self::OverQuota => "over quota",
            Self::Invited => "invited",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
        }
    }
}

impl From<Exclusion> for PeerState {
    fn from(exclusion: Exclusion) -> Self {
        match exclusion {
            Exclusion::Disabled => Self::Disabled,
            Exclusion::Expired => Self::Expired,
            Exclusion::Unanswered => Self::Invited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::peer_settings::PeerComment;
    use wontun_proto::wireguard::PublicKey;

    #[test]
    fn settings_count_before_what_the_tunnel_reports() {
        let now = Duration::from_secs(1_800_000_000);
        let mut settings = PeerSettings::NONE;
        let mut peer = TunnelPeer::new(PublicKey::from_bytes([1; 32]));
        let state = |settings: &PeerSettings, peer: &TunnelPeer| PeerState::of(settings, Some(peer), now);
        assert_eq!(PeerState::of(&settings, None, now), None);
        assert_eq!(state(&settings, &peer), Some(PeerState::Never));
        peer.earlier_handshake = Duration::from_secs(1);
        assert_eq!(state(&settings, &peer), Some(PeerState::Idle), "in an earlier run");
        (peer.last_handshake, peer.has_session) = (now, true);
        assert_eq!(state(&settings, &peer), Some(PeerState::Active));
        peer.is_over_quota = true;
        assert_eq!(state(&settings, &peer), Some(PeerState::OverQuota));
        settings.set(PeerComment::Invitation, "2027-12-31").unwrap();
        assert_eq!(state(&settings, &peer), Some(PeerState::Invited));
        settings.set(PeerComment::Expires, "2026-12-31").unwrap();
        assert_eq!(state(&settings, &peer), Some(PeerState::Expired));
        assert_eq!(PeerState::of_live(&peer), PeerState::OverQuota);
        peer.exclusion = Some(Exclusion::Disabled);
        assert_eq!(PeerState::of_live(&peer), PeerState::Disabled);
        settings.is_disabled = true;
        assert_eq!(PeerState::of(&settings, None, now), Some(PeerState::Disabled));
    }
}
