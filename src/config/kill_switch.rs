//! Options of the kill switch.

use std::net::IpAddr;
use std::str::FromStr;

use super::wg_quick::WgQuick;
use super::{ConfigError, FileOptions};
use wontun_proto::allowed_ips::Prefix;

/// The value of `--kill-switch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KillSwitchMode {
    /// Until SIGTERM or 'wontun kill-switch off'.
    // the other words are those of a switch, which WONTUN_KILL_SWITCH was once
    #[value(aliases = ["yes", "y", "true", "t", "1"])]
    On,
    /// After SIGTERM, too, until the next start or 'wontun kill-switch off'.
    Keep,
    /// No kill switch.
    #[value(aliases = ["no", "n", "false", "f", "0"])]
    Off,
}

/// The configuration of a kill switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KillSwitchOptions {
    /// True if the kill switch stays in place after a clean stop.
    pub keep: bool,
    /// Networks that the kill switch does not block.
    pub allowed: Vec<Prefix>,
}

/// A network of `--kill-switch-allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedNetwork(pub Prefix);

impl KillSwitchOptions {
    /// Returns the options of the kill switch, or `None` if it is off.
    ///
    /// # Errors
    /// [`ConfigError::NoKillSwitch`] if it is off, and networks are allowed.
    pub(crate) fn new(
        mode: Option<KillSwitchMode>,
        allowed: &[AllowedNetwork],
    ) -> Result<Option<Self>, ConfigError> {
        let keep = match mode {
            Some(KillSwitchMode::On) => false,
            Some(KillSwitchMode::Keep) => true,
            Some(KillSwitchMode::Off) | None if allowed.is_empty() => return Ok(None),
            Some(KillSwitchMode::Off) | None => return Err(ConfigError::NoKillSwitch),
        };
        Ok(Some(Self { keep, allowed: allowed.iter().map(|network| network.0).collect() }))
    }

    /// Checks that a tunnel with this file and these options can have a kill switch.
    ///
    /// # Errors
    /// [`ConfigError::NotFullTunnel`], [`ConfigError::BypassedKillSwitch`].
    pub(crate) fn check(configuration: &WgQuick, options: &FileOptions) -> Result<(), ConfigError> {
        if !configuration.is_full_tunnel() {
            return Err(ConfigError::NotFullTunnel);
        }
        if options.dns_bypass {
            return Err(ConfigError::BypassedKillSwitch);
        }
        Ok(())
    }
}

impl FromStr for AllowedNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let prefix = address.parse::<IpAddr>().ok().and_then(|address| {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let length = match length {
                None => all,
                Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().ok()?,
                Some(_) => return None,
            };
            Prefix::new(address, length)
        });
        match prefix {
            Some(prefix) if prefix.length() == 0 => {
                Err(format!("{prefix} would allow all traffic: omit --kill-switch instead"))
            }
            Some(prefix) => Ok(Self(prefix)),
            None => Err("expected an address or a network, such as 192.0.2.7 or 2001:db8::/32".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn a_network_is_an_address_with_or_without_a_length() {
        let parsed = |text: &str| text.parse::<AllowedNetwork>().map(|network| network.0.to_string());
        assert_eq!(parsed("192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(parsed("192.0.2.7/24").unwrap(), "192.0.2.0/24");
        assert_eq!(parsed("2001:db8::1").unwrap(), "2001:db8::1/128");
        for wrong in ["", "192.0.2.7/", "192.0.2.7/33", "192.0.2.7/+8", "fe80::1%eth0", "host", "/8"] {
            assert!(parsed(wrong).unwrap_err().starts_with("expected an address"), "{wrong}");
        }
        assert!(parsed("::/0").unwrap_err().contains("allow all traffic"));
    }

    #[test]
    fn a_mode_is_a_word() {
        use KillSwitchMode::{Keep, Off, On};
        let modes = ["ON", "1", "true", "keep", "0", "off"];
        let modes = modes.map(|text| KillSwitchMode::from_str(text, true).unwrap());
        assert_eq!(modes, [On, On, On, Keep, Off, Off]);
        assert!(KillSwitchMode::from_str("maybe", true).is_err());
        assert_eq!(KillSwitchOptions::new(Some(Off), &[]), Ok(None));
        assert!(KillSwitchOptions::new(Some(Keep), &[]).unwrap().unwrap().keep);
        let allowed = ["192.0.2.7".parse().unwrap()];
        assert_eq!(KillSwitchOptions::new(None, &allowed), Err(ConfigError::NoKillSwitch));
    }
}
