//! The keys of the comments.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Key of a comment in a peer's section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerComment {
    /// Targets that the peer may reach.
    Allow,
    /// Targets that the peer may not reach.
    Deny,
    /// Targets that may open connections to the peer.
    AllowFrom,
    /// Ports of the server that lead to the peer.
    Forward,
    /// End of an invitation.
    Invitation,
    /// End of the peer's access.
    Expires,
    /// `yes` for a peer without access.
    Disabled,
    /// Networks that the client's file sends through the tunnel, besides the server's.
    ClientRoutes,
    /// Name servers of the client's file.
    ClientDns,
    /// MTU of the client's file.
    ClientMtu,
    /// Interval of keepalives of the client's file.
    ClientKeepalive,
    /// Rate from the peer.
    RateUp,
    /// Rate to the peer.
    RateDown,
    /// Traffic of both directions in a period.
    Quota,
    /// Treatment of the peer once its quota is used up.
    OverQuota,
    /// Person to whom the peer belongs.
    Owner,
    /// Text for people.
    Note,
}

/// Maximum number of letters that a misspelled key differs by.
const MAX_DISTANCE: usize = 2;

impl PeerComment {
    /// All keys, in the order in which they are written.
    pub const ALL: [Self; 17] = [
        Self::Disabled,
        Self::Invitation,
        Self::Expires,
        Self::Allow,
        Self::Deny,
        Self::AllowFrom,
        Self::Forward,
        Self::ClientRoutes,
        Self::ClientDns,
        Self::ClientMtu,
        Self::ClientKeepalive,
        Self::RateUp,
        Self::RateDown,
        Self::Quota,
        Self::OverQuota,
        Self::Owner,
        Self::Note,
    ];

    /// Returns the key as it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
            Self::AllowFrom => "AllowFrom",
            Self::Forward => "Forward",
            Self::Invitation => "Invitation",
            Self::Expires => "Expires",
            Self::Disabled => "Disabled",
            Self::ClientRoutes => "ClientRoutes",
            Self::ClientDns => "ClientDNS",
            Self::ClientMtu => "ClientMTU",
            Self::ClientKeepalive => "ClientKeepalive",
            Self::RateUp => "RateUp",
            Self::RateDown => "RateDown",
            Self::Quota => "Quota",
            Self::OverQuota => "OverQuota",
            Self::Owner => "Owner",
            Self::Note => "Note",
        }
    }

    /// Returns true if several comments of this key make one list.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Allow | Self::Deny | Self::AllowFrom | Self::Forward | Self::ClientRoutes)
    }

    /// Returns the key with this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name().eq_ignore_ascii_case(name))
    }

    /// Returns the key that `name` is probably meant to be. A misspelled restriction would be
    /// ignored like any other comment.
    pub fn nearest(name: &str) -> Option<Self> {
        let distance = |key: &Self| strsim::osa_distance(&key.name().to_lowercase(), &name.to_lowercase());
        let nearest = Self::ALL.into_iter().min_by_key(distance)?;
        // of short words, every other one is near
        let max = MAX_DISTANCE.min(nearest.name().len() / 3);
        (distance(&nearest) <= max).then_some(nearest)
    }
}

impl fmt::Display for PeerComment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
