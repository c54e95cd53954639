//! The settings that are applied.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Maximum number of servers, and of search domains.
pub(super) const MAX_ENTRIES: usize = 32;
/// Maximum length of a domain in bytes (RFC 1035, section 2.3.4, in text form).
const MAX_DOMAIN: usize = 253;
/// Maximum length of a label in bytes.
const MAX_LABEL: usize = 63;

/// The name servers and search domains of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct DnsSettings {
    /// Name of the tunnel's device.
    pub device: String,
    /// Index of that device.
    pub index: u32,
    /// Name servers in order of preference, at most `MAX_ENTRIES`; not empty.
    pub servers: Vec<IpAddr>,
    /// Search domains, at most `MAX_ENTRIES`.
    pub search: Vec<Domain>,
    /// True if all of IPv4 or all of IPv6 is routed through the tunnel: then all names are to be
    /// asked of `servers`, and of no others.
    pub is_full_tunnel: bool,
}

/// A domain without a trailing dot: labels of letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedDomain")]
pub struct Domain {
    /// The domain.
    name: String,
    /// True for `~example.com`: the servers resolve names of the domain, but it is not appended to
    /// short names. Only systemd-resolved knows such domains.
    pub is_routing_only: bool,
}

/// Error: settings of a message are beyond a limit, or invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {MAX_ENTRIES} name servers, and at most as many domains of letters, digits, - and _")]
pub struct SettingsError;

#[derive(Deserialize)]
struct Unchecked {
    device: String,
    index: u32,
    servers: Vec<IpAddr>,
    search: Vec<Domain>,
    is_full_tunnel: bool,
}

#[derive(Deserialize)]
struct UncheckedDomain {
    name: String,
    is_routing_only: bool,
}

impl TryFrom<Unchecked> for DnsSettings {
    type Error = SettingsError;

    fn try_from(unchecked: Unchecked) -> Result<Self, SettingsError> {
        let Unchecked { device, index, servers, search, is_full_tunnel } = unchecked;
        if servers.is_empty() || servers.len() > MAX_ENTRIES || search.len() > MAX_ENTRIES {
            return Err(SettingsError);
        }
        Ok(Self { device, index, servers, search, is_full_tunnel })
    }
}

impl TryFrom<UncheckedDomain> for Domain {
    type Error = SettingsError;

    fn try_from(unchecked: UncheckedDomain) -> Result<Self, SettingsError> {
        let UncheckedDomain { name, is_routing_only } = unchecked;
        if is_domain(&name) { Ok(Self { name, is_routing_only }) } else { Err(SettingsError) }
    }
}

impl Domain {
    /// Parses a search domain of `DNS =`: a domain, with a trailing dot or not, and with a `~`
    /// before it if it is only for routing.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_routing_only) = text.strip_prefix('~').map_or((text, false), |rest| (rest, true));
        let name = text.strip_suffix('.').unwrap_or(text);
        is_domain(name).then(|| Self { name: name.to_owned(), is_routing_only })
    }

    /// Returns the domain.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= MAX_DOMAIN && name.split('.').all(is_label)
}

impl DnsSettings {
    /// Returns the settings of the entries of `DNS =`, and a warning for each entry that is neither
    /// an address nor a domain, or beyond the limit. Returns no settings if no name server is left.
    pub fn from_entries(
        entries: &[String],
        device: &str,
        index: u32,
        is_full_tunnel: bool,
    ) -> (Option<Self>, Vec<String>) {
        let (mut servers, mut search, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let expected = match (entry.parse::<IpAddr>(), Domain::parse(entry)) {
                (Ok(server), _) if servers.contains(&server) => continue,
                (Ok(server), _) if servers.len() < MAX_ENTRIES => {
                    servers.push(server);
                    continue;
                }
                (Err(_), Some(domain)) if search.contains(&domain) => continue,
                (Err(_), Some(domain)) if search.len() < MAX_ENTRIES => {
                    search.push(domain);
                    continue;
                }
                (Err(_), None) => {
                    "expected the address of a name server, or a search domain such as example.com".to_owned()
                }
                _ => format!("expected at most {MAX_ENTRIES} name servers and search domains"),
            };
            warnings.push(format!("DNS: '{}' is ignored: {expected}", entry.escape_debug()));
        }
        if servers.is_empty() {
            if !search.is_empty() {
                warnings.push(
                    "DNS has search domains, but no name server: expected the address of one; nothing is applied"
                        .to_owned(),
                );
            }
            return (None, warnings);
        }
        let device = device.to_owned();
        (Some(Self { device, index, servers, search, is_full_tunnel }), warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{decode, encode};

    fn of(entries: &[&str]) -> (Option<DnsSettings>, Vec<String>) {
        let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
        DnsSettings::from_entries(&entries, "wg0", 7, true)
    }

    #[test]
    fn entries_are_servers_or_domains() {
        let (settings, warnings) = of(&[
            "10.8.0.1",
            "corp.example.",
            "fd00::1",
            "~lab.example",
            "10.8.0.1",
            "a b",
            "fe80::1%eth0",
            "-",
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.servers, ["10.8.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        let domains: Vec<_> =
            settings.search.iter().map(|domain| (domain.as_str(), domain.is_routing_only)).collect();
        assert_eq!(domains, [("corp.example", false), ("lab.example", true), ("-", false)]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn without_a_server_nothing_is_applied() {
        assert_eq!(of(&[]), (None, Vec::new()));
        let (settings, warnings) = of(&["corp.example"]);
        assert!(settings.is_none() && warnings[0].contains("no name server"), "{warnings:?}");
    }

    #[test]
    fn what_is_beyond_a_limit_is_a_warning_and_no_message() {
        let many: Vec<_> = (0..40).map(|number| format!("10.0.0.{number}")).collect();
        let (settings, warnings) = DnsSettings::from_entries(&many, "wg0", 7, false);
        let mut settings = settings.unwrap();
        assert_eq!((settings.servers.len(), warnings.len()), (MAX_ENTRIES, 8));
        assert_eq!(decode::<DnsSettings>(&encode(&settings).unwrap()), Ok(settings.clone()));
        settings.servers.push(IpAddr::from([10, 0, 1, 1]));
        assert!(decode::<DnsSettings>(&encode(&settings).unwrap()).is_err());
        settings.servers.clear();
        assert!(decode::<DnsSettings>(&encode(&settings).unwrap()).is_err());
        let bad = Domain { name: "a\nnameserver 192.0.2.1".to_owned(), is_routing_only: false };
        assert!(decode::<Domain>(&encode(&bad).unwrap()).is_err());
    }
}
