//! Values that people enter: in options, in columns of a file, in fields of a form.

use std::time::SystemTime;

use super::{Expiry, PeerComment, PeerSettings, SettingError};

impl PeerSettings {
    /// Sets what a person enters for the comment `key`, instead of what is set. Nothing, and the
    /// words by which options remove a setting, remove it. An end of access may be a duration from
    /// `now`.
    ///
    /// # Errors
    /// [`SettingError`]: the value is invalid; a list is empty then.
    pub fn enter(&mut self, key: PeerComment, text: &str, now: SystemTime) -> Result<(), SettingError> {
        let text = text.trim();
        if text.is_empty() || removing_word(key).is_some_and(|word| word.eq_ignore_ascii_case(text)) {
            self.remove(key);
            return Ok(());
        }
        if key == PeerComment::Expires {
            let expires = Expiry::parse_from(text, now);
            self.expires = Some(expires.map_err(|expected| SettingError::new(key, text, expected))?);
            return Ok(());
        }
        self.replace(key, text)
    }

    /// Removes what the comment `key` says.
    pub(super) fn remove(&mut self, key: PeerComment) {
        match key {
            PeerComment::Allow => self.allow = None,
            PeerComment::Deny => self.deny.clear(),
            PeerComment::AllowFrom => self.allow_from = None,
            PeerComment::Forward => self.forwards.clear(),
            PeerComment::Invitation => self.invitation = None,
            PeerComment::Expires => self.expires = None,
            PeerComment::Disabled => self.is_disabled = false,
            PeerComment::ClientRoutes => {
                self.client.routes.clear();
                self.client.has_unknown_routes = false;
            }
            PeerComment::ClientDns => self.client.dns = None,
            PeerComment::ClientMtu => self.client.mtu = None,
            PeerComment::ClientKeepalive => self.client.keepalive = None,
            PeerComment::RateUp => self.limits.rate_up = None,
            PeerComment::RateDown => self.limits.rate_down = None,
            PeerComment::Quota => self.limits.quota = None,
            PeerComment::OverQuota => self.limits.over_quota = None,
            PeerComment::Owner => self.owner = None,
            PeerComment::Note => self.note = None,
        }
    }
}

/// Returns the word that removes a setting, as the option of `wontun peer set` has it.
const fn removing_word(key: PeerComment) -> Option<&'static str> {
    match key {
        PeerComment::Allow | PeerComment::AllowFrom => Some("default"),
        PeerComment::Deny
        | PeerComment::Forward
        | PeerComment::ClientRoutes
        | PeerComment::RateUp
        | PeerComment::RateDown
        | PeerComment::Quota => Some("none"),
        PeerComment::Expires => Some("never"),
        PeerComment::Disabled => Some("no"),
        // "none" is a value of its own, as is "off"
        PeerComment::ClientDns
        | PeerComment::ClientKeepalive
        | PeerComment::ClientMtu
        | PeerComment::Invitation
        | PeerComment::OverQuota
        | PeerComment::Owner
        | PeerComment::Note => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn what_is_entered_replaces_and_removes() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut settings = PeerSettings::NONE;
        for (key, first, second, removing) in [
            ("Allow", "internet, 10.0.0.5:445/tcp", "none", "default"),
            ("Deny", "lan", "10.0.0.0/8", "none"),
            ("AllowFrom", "peers", "none", "Default"),
            ("Forward", "8443/tcp=443", "8443/tcp, 53/udp", "none"),
            ("Expires", "2099-12-31", "2099-12-31T18:00:00Z", "never"),
            ("Disabled", "yes", "YES", "no"),
            ("ClientRoutes", "0.0.0.0/0", "192.168.5.0/24, fd00::/8", "none"),
            ("ClientDNS", "9.9.9.9", "none", ""),
            ("ClientMTU", "1400", "1280", " "),
            ("ClientKeepalive", "15", "off", ""),
            ("RateUp", "20Mbit", "1Gbit", "none"),
            ("RateDown", "20Mbit", "1Gbit", "NONE"),
            ("Quota", "100GB/month", "2GiB/day", "none"),
            ("OverQuota", "drop", "1Mbit", ""),
            ("Owner", "anna", "ben@example.com", ""),
            ("Note", "a <b>", "c", ""),
        ] {
            let key = PeerComment::named(key).unwrap();
            for value in [first, second] {
                settings.enter(key, value, now).unwrap();
                assert!(settings.get(key).unwrap().eq_ignore_ascii_case(value), "{key}");
            }
            settings.enter(key, removing, now).unwrap();
            assert_eq!(settings, PeerSettings::NONE, "{key}");
        }
        settings.enter(PeerComment::Expires, "2d", now).unwrap();
        assert_eq!(settings.expires.unwrap().since_epoch(), Duration::from_secs(1_800_000_000 + 2 * 86_400));
        for (key, wrong) in
            [("Expires", "soon"), ("Allow", "printer:x"), ("RateUp", "fast"), ("Quota", "1GB")]
        {
            let key = PeerComment::named(key).unwrap();
            let error = settings.enter(key, wrong, now).unwrap_err();
            assert!(error.key == key && !error.expected.is_empty(), "{error}");
        }
    }
}
