//! Settings of the admin page.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use rustls::pki_types::DnsName;
use serde::{Deserialize, Serialize};

/// Maximum number of names, and of addresses outside of the tunnel.
const MAX_NAMES: usize = 16;
const MAX_ADDRESSES: usize = 8;
/// Maximum length of the name of a header field.
const MAX_FIELD: usize = 64;
/// Fields that are no plain list of addresses, or have a meaning of their own.
const OTHER_FIELDS: [&str; 5] = ["forwarded", "host", "origin", "cookie", "content-length"];

/// Settings of the admin page, if it is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// Addresses outside of the tunnel at which it is served, besides those of the tunnel and
    /// 127.0.0.1.
    pub outside: Vec<SocketAddr>,
    /// Files of the certificate and its key; `None` for a self-signed one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Names and addresses by which browsers reach it.
    pub names: Vec<AdminName>,
    /// The proxy in front of it.
    pub proxy: Option<AdminProxy>,
}

impl AdminSettings {
    /// Checks the combination.
    ///
    /// # Errors
    /// [`AdminSettingsError`].
    pub fn check(self) -> Result<Self, AdminSettingsError> {
        if self.names.len() > MAX_NAMES || self.outside.len() > MAX_ADDRESSES {
            return Err(AdminSettingsError::TooMany);
        }
        if let Some(address) = self.outside.iter().find(|address| address.port() == 0) {
            return Err(AdminSettingsError::Port(address.ip()));
        }
        let any = self.outside.iter().find(|address| address.ip().is_unspecified());
        if let Some(any) = any.filter(|_| self.names.is_empty()) {
            return Err(AdminSettingsError::NoName(*any));
        }
        if self.certificate.is_some() && self.outside.is_empty() {
            return Err(AdminSettingsError::CertificateWithoutAddress);
        }
        if self.proxy.is_some() && self.names.is_empty() {
            return Err(AdminSettingsError::ProxyWithoutName);
        }
        Ok(self)
    }

    /// Returns true if the addresses outside are served by TLS: a proxy may do that itself.
    pub const fn uses_tls(&self) -> bool {
        !self.outside.is_empty() && (self.certificate.is_some() || self.proxy.is_none())
    }
}

/// Error of a combination of settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminSettingsError {
    /// Too many names or addresses.
    #[error(
        "at most {MAX_NAMES} values of --admin-name and {MAX_ADDRESSES} addresses of --admin are possible"
    )]
    TooMany,
    /// No port.
    #[error("--admin {0} with port 0: give the port at which the page is served, such as 8443")]
    Port(IpAddr),
    /// All addresses, and no name.
    #[error(
        "--admin={0} needs the name or address by which browsers reach the page, for its certificate: --admin-name \
         vpn.example.com"
    )]
    NoName(SocketAddr),
    /// A certificate, and nothing to use it at.
    #[error(
        "--admin-cert has no effect: inside of the tunnel and at 127.0.0.1 the page needs no certificate; give an \
         address outside, such as --admin=0.0.0.0:8443"
    )]
    CertificateWithoutAddress,
    /// A proxy, and no name.
    #[error("--admin-proxy needs the name by which browsers reach the page: --admin-name vpn.example.com")]
    ProxyWithoutName,
    /// Options of the page, which is not served.
    #[error("{0} has no effect without --admin")]
    NotServed(&'static str),
}

/// A name or address by which browsers reach the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdminName {
    /// A DNS name in lower case.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

/// Error of parsing an [`AdminName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a name or an address: expected one without a port, such as vpn.example.com")]
pub struct AdminNameError(String);

impl FromStr for AdminName {
    type Err = AdminNameError;

    fn from_str(text: &str) -> Result<Self, AdminNameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = text.to_ascii_lowercase();
        match DnsName::try_from(name.as_str()) {
            Ok(_) if !name.starts_with('*') => Ok(Self::Dns(name)),
            _ => Err(AdminNameError(text.escape_debug().to_string())),
        }
    }
}

impl fmt::Display for AdminName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for AdminName {
    type Error = AdminNameError;

    fn try_from(text: String) -> Result<Self, AdminNameError> {
        text.parse()
    }
}

impl From<AdminName> for String {
    fn from(name: AdminName) -> Self {
        name.to_string()
    }
}

/// A proxy in front of the page, which browsers reach by HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminProxy {
    /// Its address, which alone is believed.
    pub address: IpAddr,
    /// The field in which it names the address of the browser.
    pub field: ProxyField,
}

/// The name of a header field, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyField(String);

/// Error of parsing a [`ProxyField`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not the name of a header field with the browser's address, such as X-Forwarded-For or X-Real-IP"
)]
pub struct ProxyFieldError(String);

impl ProxyField {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProxyField {
    type Err = ProxyFieldError;

    fn from_str(text: &str) -> Result<Self, ProxyFieldError> {
        let name = text.to_ascii_lowercase();
        let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_token || name.is_empty() || name.len() > MAX_FIELD || OTHER_FIELDS.contains(&name.as_str()) {
            return Err(ProxyFieldError(text.escape_debug().to_string()));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for ProxyField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProxyField {
    type Error = ProxyFieldError;

    fn try_from(text: String) -> Result<Self, ProxyFieldError> {
        text.parse()
    }
}

impl From<ProxyField> for String {
    fn from(field: ProxyField) -> Self {
        field.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hosts() {
        for (text, name) in
            [("VPN.example.com", "vpn.example.com"), ("192.0.2.1", "192.0.2.1"), ("fd00::1", "fd00::1")]
        {
            assert_eq!(text.parse::<AdminName>().unwrap().to_string(), name);
        }
        for text in
            ["", "vpn.example.com:443", "https://vpn.example.com", "*.example.com", "a b", "[fd00::1]"]
        {
            assert!(text.parse::<AdminName>().is_err(), "{text}");
        }
        assert_eq!("X-Real-IP".parse::<ProxyField>().unwrap().as_str(), "x-real-ip");
        for text in ["", "Forwarded", "Host", "X Forwarded", "X-Forwarded-For:"] {
            assert!(text.parse::<ProxyField>().is_err(), "{text}");
        }
    }

    #[test]
    fn options_that_do_nothing_are_refused() {
        let outside = vec!["192.0.2.1:8443".parse().unwrap()];
        let certificate = Some((PathBuf::from("a"), PathBuf::from("b")));
        let field: ProxyField = "X-Forwarded-For".parse().unwrap();
        let proxy = Some(AdminProxy { address: [192, 0, 2, 9].into(), field });
        let tls = AdminSettings { outside: outside.clone(), ..AdminSettings::default() };
        assert!(tls.clone().check().unwrap().uses_tls());
        let behind =
            AdminSettings { proxy: proxy.clone(), names: vec!["a.example".parse().unwrap()], ..tls.clone() };
        assert!(!behind.clone().check().unwrap().uses_tls());
        assert!(AdminSettings { certificate: certificate.clone(), ..behind }.check().unwrap().uses_tls());
        for (settings, part) in [
            (AdminSettings { certificate, ..AdminSettings::default() }, "--admin-cert has no effect"),
            (
                AdminSettings { outside: vec!["[::]:8443".parse().unwrap()], ..tls.clone() },
                "--admin=[::]:8443 needs",
            ),
            (AdminSettings { proxy, ..AdminSettings::default() }, "--admin-proxy needs the name"),
            (AdminSettings { outside: vec!["192.0.2.1:0".parse().unwrap()], ..tls }, "port 0"),
        ] {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
