//! Rules of peers in the file that name other peers.

use super::ServerFile;
use crate::config::PeerName;
use crate::config::peer_settings::{Destination, PeerSettings, PortForward, Protocol, Target};
use crate::server::error::ServerError;

impl ServerFile {
    /// Checks rules and port forwards that a peer is to have, the one with the index `number`, or a
    /// new one: that the peers that the rules name exist or are among `new`, and that nobody else
    /// uses the ports.
    ///
    /// # Errors
    /// [`ServerError`].
    pub(crate) fn check_settings(
        &self,
        number: Option<usize>,
        settings: &PeerSettings,
        new: &[PeerName],
    ) -> Result<(), ServerError> {
        for name in named(settings) {
            if !new.contains(name) && !self.peers().any(|other| other.name.as_ref() == Some(name)) {
                return Err(ServerError::UnknownPeer {
                    wanted: name.to_string(),
                    known: self.peers().map(|peer| peer.name_or_key()).collect(),
                });
            }
        }
        let own_port = self.configuration().interface.listen_port;
        for (index, forward) in settings.forwards.iter().enumerate() {
            if forward.protocol == Protocol::Udp && own_port == Some(forward.port) {
                return Err(ServerError::ForwardOfTunnel(*forward));
            }
            let is_same = |other: &PortForward| other.is_same_port(forward);
            let others = self.peers().enumerate().filter(|(other, _)| Some(*other) != number);
            let mut others = others.filter(|(_, other)| other.peer.settings().forwards.iter().any(is_same));
            let other = others.next().map(|(_, other)| other.name_or_key());
            let twice = settings.forwards.iter().take(index).any(is_same);
            if let Some(other) = other.or_else(|| twice.then(|| "the same client".to_owned())) {
                return Err(ServerError::SameForward { forward: *forward, other });
            }
        }
        Ok(())
    }

    /// Replaces a peer's name in the rules of all peers, or removes it from them, if no peer has
    /// that name any more. Returns the names of the peers whose rules changed.
    ///
    /// # Errors
    /// `ServerError::Edit`.
    pub(crate) fn with_renamed_rules(
        self,
        name: &PeerName,
        new: Option<&PeerName>,
    ) -> Result<(Self, Vec<String>), ServerError> {
        let mut changed = Vec::new();
        if self.peers().any(|peer| peer.name.as_ref() == Some(name)) {
            return Ok((self, changed));
        }
        let mut file = self;
        for number in 0..file.configuration().peers.len() {
            let Some(peer) = file.peer(number) else { continue };
            if !named(peer.peer.settings()).any(|named| named == name) {
                continue;
            }
            changed.push(peer.name_or_key());
            let settings = renamed(peer.peer.settings(), name, new);
            file = file.with_settings(number, &settings)?;
        }
        Ok((file, changed))
    }
}

/// Returns the names of peers in rules.
fn named(settings: &PeerSettings) -> impl Iterator<Item = &PeerName> {
    let lists = settings.allow.iter().chain([&settings.deny]).chain(&settings.allow_from);
    lists.flatten().filter_map(|target| match &target.destination {
        Destination::Peer(name) => Some(name),
        _ => None,
    })
}

/// Returns the settings with another name of a peer in the rules, or without it. A peer that had
/// rules keeps having some.
fn renamed(settings: &PeerSettings, name: &PeerName, new: Option<&PeerName>) -> PeerSettings {
    let rename = |targets: &Vec<Target>| -> Vec<Target> {
        let renamed = targets.iter().filter_map(|target| match &target.destination {
            Destination::Peer(old) if old == name => {
                new.map(|new| Target { destination: Destination::Peer(new.clone()), ..target.clone() })
            }
            _ => Some(target.clone()),
        });
        renamed.collect()
    };
    let mut renamed = PeerSettings {
        allow: settings.allow.as_ref().map(rename),
        deny: rename(&settings.deny),
        allow_from: settings.allow_from.as_ref().map(rename),
        ..settings.clone()
    };
    if settings.has_rules() && !renamed.has_rules() {
        renamed.allow_from = Some(Vec::new());
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lines: &[(&str, &str)]) -> PeerSettings {
        let mut settings = PeerSettings::NONE;
        for (key, value) in lines {
            settings.set(crate::config::peer_settings::PeerComment::named(key).unwrap(), value).unwrap();
        }
        settings
    }

    #[test]
    fn a_peer_that_had_rules_keeps_some() {
        let (nas, disk) = ("nas".parse().unwrap(), "disk".parse().unwrap());
        let before = settings(&[("Allow", "nas:445/tcp, dns"), ("Deny", "nas")]);
        let after = settings(&[("Allow", "disk:445/tcp, dns"), ("Deny", "disk")]);
        assert_eq!(renamed(&before, &nas, Some(&disk)), after);
        assert_eq!(renamed(&before, &nas, None), settings(&[("Allow", "dns")]));
        let removed = renamed(&settings(&[("Deny", "nas")]), &nas, None);
        assert!(removed.has_rules(), "nobody opens connections to it, as before");
        assert_eq!(named(&before).collect::<Vec<_>>(), [&nas, &nas]);
    }
}
