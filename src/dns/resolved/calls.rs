//! Calls that set the name servers of a link, of systemd-resolved and of systemd-networkd, which
//! keeps those of the links that it manages (org.freedesktop.resolve1(5),
//! org.freedesktop.network1(5)).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zbus::{DeserializeDict, Type};

use super::connection::{BusError, Connection, one_line};
use super::wire::{Method, WireError, encode_call};
use crate::dns::DnsSettings;

/// A service that has settings of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Service {
    /// systemd-resolved, for links that no service manages.
    Resolved,
    /// systemd-networkd, for links that it manages.
    Networkd,
}

impl Service {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Resolved => "org.freedesktop.resolve1",
            Self::Networkd => "org.freedesktop.network1",
        }
    }

    const fn interface(self) -> &'static str {
        match self {
            Self::Resolved => "org.freedesktop.resolve1.Link",
            Self::Networkd => "org.freedesktop.network1.Link",
        }
    }

    /// Name of the method that removes what was set.
    const fn revert_member(self) -> &'static str {
        match self {
            Self::Resolved => "Revert",
            Self::Networkd => "RevertDNS",
        }
    }

    /// Returns the path of a link's object (sd_bus_path_encode(3): a first digit is escaped).
    fn link(self, index: u32) -> String {
        let base = match self {
            Self::Resolved => "/org/freedesktop/resolve1/link/",
            Self::Networkd => "/org/freedesktop/network1/link/",
        };
        let digits = index.to_string();
        let (first, rest) = digits.split_at_checked(1).unwrap_or_default();
        format!("{base}_3{first}{rest}")
    }

    const fn method<'a>(self, path: &'a str, member: &'a str) -> Method<'a> {
        Method { destination: self.name(), path, interface: self.interface(), member }
    }
}

/// The settings of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkSettings {
    index: u32,
    /// Address families and addresses.
    servers: Vec<(i32, Vec<u8>)>,
    /// Domains, and true for those that are not appended to short names.
    domains: Vec<(String, bool)>,
    is_default_route: bool,
}

/// Address families, as the kernel numbers them.
const AF_INET: i32 = nix::libc::AF_INET;
const AF_INET6: i32 = nix::libc::AF_INET6;
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Maximum number of domains of other links in a warning.
const MAX_FOREIGN: usize = 8;
/// All names.
const ROOT: &str = ".";

impl From<&DnsSettings> for LinkSettings {
    /// Has the link's servers asked for all names, and no others, if the tunnel has the default
    /// route, or no search domain says what else they are for: as wg-quick(8) does. With search
    /// domains they are asked for these.
    fn from(settings: &DnsSettings) -> Self {
        let servers = settings.servers.iter().map(|address| match address {
            IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
        });
        let search = settings.search.iter();
        let mut domains: Vec<_> =
            search.map(|domain| (domain.as_str().to_owned(), domain.is_routing_only)).collect();
        let is_for_all = settings.is_full_tunnel || domains.is_empty();
        if is_for_all {
            domains.push((ROOT.to_owned(), true));
        }
        Self { index: settings.index, servers: servers.collect(), domains, is_default_route: is_for_all }
    }
}

impl LinkSettings {
    /// Sets everything by calls on `connection`.
    ///
    /// # Errors
    /// [`BusError`].
    pub(super) fn set(&self, connection: &mut Connection, service: Service) -> Result<(), BusError> {
        let path = service.link(self.index);
        connection.call(&service.method(&path, "SetDNS"), Some(&self.servers))?;
        connection.call(&service.method(&path, "SetDomains"), Some(&self.domains))?;
        connection.call(&service.method(&path, "SetDefaultRoute"), Some(&self.is_default_route))?;
        Ok(())
    }

    /// Returns the same calls as bytes, without answers.
    ///
    /// # Errors
    /// [`WireError`].
    pub(super) fn encode_set(&self, service: Service) -> Result<Vec<u8>, WireError> {
        let path = service.link(self.index);
        let method = |member| service.method(&path, member);
        let calls = [
            encode_call(&method("SetDNS"), 2, false, Some(&self.servers))?,
            encode_call(&method("SetDomains"), 3, false, Some(&self.domains))?,
            encode_call(&method("SetDefaultRoute"), 4, false, Some(&self.is_default_route))?,
        ];
        Ok(calls.concat())
    }

    /// Removes everything that was set.
    ///
    /// # Errors
    /// [`BusError`].
    pub(super) fn revert(&self, connection: &mut Connection, service: Service) -> Result<(), BusError> {
        let path = service.link(self.index);
        connection.call(&service.method(&path, service.revert_member()), None::<&()>).map(drop)
    }

    /// Returns the same call as bytes, without an answer.
    ///
    /// # Errors
    /// [`WireError`].
    pub(super) fn encode_revert(&self, service: Service) -> Result<Vec<u8>, WireError> {
        let path = service.link(self.index);
        encode_call(&service.method(&path, service.revert_member()), 5, false, None::<&()>)
    }

    /// Returns what systemd-resolved says of the link, whichever service set it.
    ///
    /// # Errors
    /// [`BusError`].
    pub(super) fn observe(&self, connection: &mut Connection) -> Result<Observed, BusError> {
        let service = Service::Resolved;
        let path = service.link(self.index);
        let method =
            Method { destination: service.name(), path: &path, interface: PROPERTIES, member: "GetAll" };
        Ok(connection.call(&method, Some(&service.interface()))?.decode()?)
    }

    /// Returns the domains for which systemd-resolved asks the name servers of other links, or
    /// those of its own configuration, although this link is for all names.
    ///
    /// # Errors
    /// [`BusError`].
    pub(super) fn foreign_domains(&self, connection: &mut Connection) -> Result<Vec<String>, BusError> {
        if !self.is_default_route {
            return Ok(Vec::new());
        }
        let method = Method {
            destination: Service::Resolved.name(),
            path: "/org/freedesktop/resolve1",
            interface: PROPERTIES,
            member: "GetAll",
        };
        let manager: Manager =
            connection.call(&method, Some(&"org.freedesktop.resolve1.Manager"))?.decode()?;
        let own = i32::try_from(self.index).unwrap_or_default();
        let domains = manager.domains.unwrap_or_default().into_iter();
        let foreign = domains.filter(|(index, ..)| *index != own).map(|(_, name, _)| one_line(&name));
        Ok(foreign.take(MAX_FOREIGN).collect())
    }

    /// Returns true if the link has these settings.
    pub(super) fn is_same(&self, observed: &Observed) -> bool {
        observed.servers.as_ref() == Some(&self.servers)
            && observed
                .domains
                .as_ref()
                .is_some_and(|domains| normalized(domains) == normalized(&self.domains))
            && observed.is_default_route == Some(self.is_default_route)
    }
}

/// The properties of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeserializeDict, Type)]
#[zbus(signature = "a{sv}")]
pub(super) struct Observed {
    #[zbus(rename = "DNS")]
    servers: Option<Vec<(i32, Vec<u8>)>>,
    #[zbus(rename = "Domains")]
    domains: Option<Vec<(String, bool)>>,
    #[zbus(rename = "DefaultRoute")]
    is_default_route: Option<bool>,
}

/// The properties of systemd-resolved.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}")]
struct Manager {
    /// Links, 0 for the service's own configuration, their domains, and true for those that are not
    /// appended to short names.
    #[zbus(rename = "Domains")]
    domains: Option<Vec<(i32, String, bool)>>,
}

/// Returns the domains in one spelling, and in an order that is the same for the same domains: the
/// service may change both.
fn normalized(domains: &[(String, bool)]) -> Vec<(String, bool)> {
    let spelled = |(name, is_routing_only): &(String, bool)| {
        (name.trim_end_matches('.').to_ascii_lowercase(), *is_routing_only)
    };
    let mut domains: Vec<_> = domains.iter().map(spelled).collect();
    domains.sort();
    domains.dedup();
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[&str], is_full_tunnel: bool) -> LinkSettings {
        let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
        let (settings, warnings) = DnsSettings::from_entries(&entries, "wg0", 12, is_full_tunnel);
        assert_eq!(warnings, Vec::<String>::new());
        LinkSettings::from(&settings.unwrap())
    }

    #[test]
    fn a_full_tunnel_answers_for_all_names() {
        let all = settings(&["10.0.0.53", "fd00::53", "example.com"], true);
        assert_eq!(all.servers[0], (2, vec![10, 0, 0, 53]));
        assert_eq!((all.servers[1].0, all.servers[1].1.len()), (10, 16));
        assert_eq!(all.domains, [("example.com".to_owned(), false), (".".to_owned(), true)]);
        assert!(all.is_default_route);
    }

    #[test]
    fn other_tunnels_answer_for_their_domains_and_without_any_for_all() {
        let some = settings(&["10.0.0.53", "example.com", "~lan"], false);
        assert_eq!(some.domains, [("example.com".to_owned(), false), ("lan".to_owned(), true)]);
        assert!(!some.is_default_route);
        let all = settings(&["10.0.0.53"], false);
        assert_eq!((all.domains, all.is_default_route), (vec![(".".to_owned(), true)], true));
    }

    #[test]
    fn the_spelling_of_domains_is_no_difference() {
        let wanted = settings(&["10.0.0.53", "Example.com"], true);
        let domains =
            |names: &[(&str, bool)]| names.iter().map(|(name, flag)| ((*name).to_owned(), *flag)).collect();
        let mut observed = Observed {
            servers: Some(wanted.servers.clone()),
            domains: Some(domains(&[(".", true), ("example.COM", false)])),
            is_default_route: Some(true),
        };
        assert!(wanted.is_same(&observed));
        observed.domains = Some(domains(&[(".", false), ("example.com", false)]));
        assert!(!wanted.is_same(&observed));
        assert!(!wanted.is_same(&Observed::default()));
    }

    #[test]
    fn paths_are_escaped_as_the_services_do() {
        assert_eq!(Service::Resolved.link(4), "/org/freedesktop/resolve1/link/_34");
        assert_eq!(Service::Networkd.link(123), "/org/freedesktop/network1/link/_3123");
    }
}
