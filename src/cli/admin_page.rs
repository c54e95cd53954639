//! Options of the admin page.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::config::{AdminName, AdminProxy, AdminSettings, AdminSettingsError, ProxyField};

/// Options of the admin page.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of the admin page")]
pub struct AdminPageOptions {
    /// Serve the admin page inside of the tunnel and at 127.0.0.1, and at ADDRESS:PORT if given
    ///
    /// A web page to add, change and remove clients. 'wontun admin link' prints a link for the
    /// first visit. WHERE is on (also if it is left out), off, or an address outside of the tunnel
    /// such as 0.0.0.0:8443, which is served by TLS; repeatable.
    #[arg(
        long,
        env = "WONTUN_ADMIN",
        value_name = "WHERE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        value_delimiter = ','
    )]
    pub admin: Vec<AdminPlace>,

    /// Certificate for --admin=ADDRESS:PORT: a PEM file with its chain [default: a self-signed one]
    ///
    /// Both files are read again with each reload. Without them a certificate is made once, and kept
    /// beside the configuration; its fingerprint is logged, and printed by 'wontun admin link'.
    #[arg(long, env = "WONTUN_ADMIN_CERT", value_name = "FILE", requires = "admin_key")]
    pub admin_cert: Option<PathBuf>,

    /// Private key of that certificate: a PEM file
    #[arg(long, env = "WONTUN_ADMIN_KEY", value_name = "FILE", requires = "admin_cert")]
    pub admin_key: Option<PathBuf>,

    /// Name or address by which browsers reach the page from outside, such as vpn.example.com;
    /// repeatable
    #[arg(long, env = "WONTUN_ADMIN_NAME", value_name = "NAME", value_delimiter = ',')]
    pub admin_name: Vec<AdminName>,

    /// Address of a proxy in front of the page, which serves --admin-name by HTTPS
    ///
    /// At --admin=ADDRESS:PORT the page is served to the proxy alone then, without TLS unless
    /// --admin-cert is given. Attempts to sign in are limited, and logged, by the address of the
    /// browser that it names.
    #[arg(long, env = "WONTUN_ADMIN_PROXY", value_name = "ADDRESS")]
    pub admin_proxy: Option<IpAddr>,

    /// Header field in which the proxy gives the browser's address; the last one in it counts
    #[arg(
        long,
        env = "WONTUN_ADMIN_PROXY_HEADER",
        value_name = "FIELD",
        default_value = "X-Forwarded-For",
        requires = "admin_proxy"
    )]
    pub admin_proxy_header: ProxyField,
}

/// A value of `--admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminPlace {
    /// The page is served inside of the tunnel and at 127.0.0.1.
    On,
    /// It is not served.
    Off,
    /// It is served at this address, too.
    Outside(SocketAddr),
}

impl FromStr for AdminPlace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "on" | "1" | "true" | "yes" => Ok(Self::On),
            "off" | "0" | "false" | "no" => Ok(Self::Off),
            _ => text.parse().map(Self::Outside).map_err(|_| {
                "on, off, or an address and a port: 'on' serves the page inside of the tunnel and at 127.0.0.1, which \
                 'ssh -L 51821:127.0.0.1:51821' reaches; 0.0.0.0:8443 also at all addresses of this host, by TLS"
            }),
        }
    }
}

impl AdminPageOptions {
    /// Returns the settings of the page; `None` if it is not served.
    ///
    /// # Errors
    /// [`AdminSettingsError`].
    pub(crate) fn settings(self) -> Result<Option<AdminSettings>, AdminSettingsError> {
        let is_served = !self.admin.is_empty() && !self.admin.contains(&AdminPlace::Off);
        if !is_served {
            let options = [
                ("--admin-cert", self.admin_cert.is_some()),
                ("--admin-name", !self.admin_name.is_empty()),
                ("--admin-proxy", self.admin_proxy.is_some()),
            ];
            let without = options.into_iter().find(|(_, is_set)| *is_set);
            return without.map_or(Ok(None), |(option, _)| Err(AdminSettingsError::NotServed(option)));
        }
        let outside = self.admin.iter().filter_map(|place| match place {
            AdminPlace::Outside(address) => Some(*address),
            AdminPlace::On | AdminPlace::Off => None,
        });
        let field = self.admin_proxy_header;
        let settings = AdminSettings {
            outside: outside.collect(),
            certificate: self.admin_cert.zip(self.admin_key),
            names: self.admin_name,
            proxy: self.admin_proxy.map(|address| AdminProxy { address, field }),
        };
        settings.check().map(Some)
    }
}
