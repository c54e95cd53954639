//! The commands of `wontun peer`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::delivery::DeliveryOptions;
use super::options::ServerFolder;
use super::peer_settings::{ClientOptions, Networks, PeerSettingsOptions};
use crate::config::peer_settings::{Expiry, Target};
use crate::config::{Network, PeerPolicy};
use crate::server::PeerName;

/// Subcommands of `wontun peer`.
#[derive(Clone, Debug, Subcommand)]
pub enum PeerCommand {
    /// Add clients and print their configurations
    ///
    /// A configuration is a file for wg-quick, wontun and the WireGuard apps. It is the only copy
    /// of the client's private key: write it to a file with --out, or use --qr.
    #[command(mut_arg("out", |out| out
        .value_name("FILE|DIR")
        .help("Write the configuration to a new file of mode 0600 instead of standard output; of several clients to \
               DIR/NAME.conf")))]
    Add {
        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,

        /// The client.
        #[command(flatten)]
        options: Box<AddOptions>,
    },
    /// Invite one device to become a client: print a code that it can use once, with 'wontun
    /// enroll', or with --link a link for its browser
    ///
    /// The device makes its own keys. Until then the client's name, address and settings are
    /// reserved, and the code reaches nothing but the process that enrols devices, which 'wontun
    /// serve --invitations' runs. The code is a secret: the first device that uses it is the client.
    /// 'wontun peer remove NAME' takes it back.
    Invite {
        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,

        /// The invitation.
        #[command(flatten)]
        options: Box<InviteOptions>,
    },
    /// List clients: names, addresses, latest handshakes
    #[command(visible_alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Show a client; with --file its own configuration
    ///
    /// Prints a private key only with --file, and only if 'peer add --keep-key' kept it.
    #[command(
        mut_arg("out", |out| out.requires("file")),
        mut_arg("qr", |qr| qr.requires("file")),
        mut_arg("qr_file", |qr_file| qr_file.requires("file"))
    )]
    Show {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Print the client's configuration as 'peer add' would print it now: without the private
        /// key, unless that was kept
        #[arg(long, conflicts_with = "json")]
        file: bool,

        /// The delivery of the configuration.
        #[command(flatten)]
        delivery: DeliveryOptions,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Change settings of a client
    ///
    /// The settings are comments of the client's section in DIR/tun0.conf. Sessions continue.
    Set {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// The settings.
        #[command(flatten)]
        options: Box<SetOptions>,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Say whether a connection of a client is allowed, and by which rule
    ///
    /// Evaluates the rules in DIR/tun0.conf; sends nothing. Other firewalls, routes and the
    /// client's own configuration may prevent what is allowed. The exit code is 1 if it is denied.
    Test {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// The connection.
        #[command(flatten)]
        options: TestOptions,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// End the access of clients at once; their keys, addresses and settings are kept
    Disable {
        /// Names or public keys of the clients
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Give disabled clients access again
    Enable {
        /// Names or public keys of the clients
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Replace a client's keys and print its new configuration; the old keys are rejected at once
    ///
    /// Name, addresses and settings are kept. The configuration is the only copy of the new private
    /// key: write it to a file with --out, or use --qr.
    Renew {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// The new configuration.
        #[command(flatten)]
        options: RenewOptions,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Remove clients and disconnect them at once
    #[command(visible_alias = "rm")]
    Remove {
        /// Names or public keys of the clients
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Accept a client's clock as it is, after it was once in the future
    ///
    /// A client's handshakes have timestamps, which must grow. If its clock was once in the future,
    /// its handshakes are rejected until then. This forgets the latest timestamp; its session
    /// continues.
    Reset {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Rename a client; its session continues
    Rename {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// New name of the client
        #[arg(value_name = "NEW-NAME")]
        new_name: PeerName,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
}

/// The clients that `wontun peer add` adds.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct AddOptions {
    /// Names of the new clients
    #[arg(value_name = "NAME", required_unless_present = "from")]
    pub names: Vec<PeerName>,

    /// File of clients instead of names, or '-' for standard input: CSV with a header line, or a
    /// JSON array of objects
    ///
    /// Columns: name, address, site, route, full_tunnel, dns, mtu, keepalive, public_key, and those
    /// of the settings, such as note and forward. Only the name is needed. The other options are
    /// for clients of the file that say nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    pub from: Option<PathBuf>,

    /// Addresses and settings.
    #[command(flatten)]
    pub client: NewClientOptions,

    /// Public key of a client that keeps its private key; the configuration is printed without one
    #[arg(long, value_name = "KEY", conflicts_with_all = ["qr", "qr_file"])]
    pub public_key: Option<String>,

    /// Keep the client's private key on this host, for 'peer show NAME --file': whoever reads it
    /// can connect as the client
    #[arg(long, conflicts_with = "public_key")]
    pub keep_key: bool,

    /// The delivery of the configurations.
    #[command(flatten)]
    pub delivery: DeliveryOptions,
}

/// Addresses and settings of a new client.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct NewClientOptions {
    /// Address of the client in the server's network: one of IPv4, one of IPv6, or both, separated
    /// by commas [default: the next free ones]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub address: Vec<IpAddr>,

    /// Network behind the client, which the server routes to it; repeatable
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub site: Vec<Network>,

    /// Send all of the client's traffic through the tunnel, not only that for the server's networks
    #[arg(long, conflicts_with = "route")]
    pub full_tunnel: bool,

    /// The client's own file.
    #[command(flatten)]
    pub client: ClientOptions,

    /// IPv6 of a full tunnel: if this host has a route to the IPv6 Internet and forwards it, or
    /// always, so that a client's IPv6 cannot bypass the tunnel
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Ipv6Option::Auto)]
    pub ipv6: Ipv6Option,

    /// Settings of the client on the server.
    #[command(flatten)]
    pub settings: PeerSettingsOptions,
}

/// The invitation that `wontun peer invite` makes.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct InviteOptions {
    /// Name of the new client
    #[arg(value_name = "NAME")]
    pub name: PeerName,

    /// Time until the code expires: a duration such as 1h, 30m or 2d, or a time
    #[arg(long, value_name = "WHEN", default_value = "1h", value_parser = expiry)]
    pub valid: Expiry,

    /// Print a link to the admin page at URL instead, which the device's browser opens. 'wontun
    /// serve --admin' has to serve it there by HTTPS; --invitations is not needed
    #[arg(long, value_name = "URL", value_parser = page_url)]
    pub link: Option<String>,

    /// Addresses and settings.
    #[command(flatten)]
    pub client: NewClientOptions,

    /// Write the code to a new file of mode 0600 instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Print the code as a QR code, too: on standard error if standard output is no terminal
    #[arg(long)]
    pub qr: bool,

    /// Also write the code as a QR code, to a new SVG file of mode 0600
    #[arg(long, value_name = "FILE")]
    pub qr_file: Option<PathBuf>,
}

/// Returns the address of a page by HTTPS, without a path.
fn page_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").map(|host| host.strip_suffix('/').unwrap_or(host));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    match host {
        Some(host) if !host.is_empty() && host.chars().all(is_plain) => Ok(format!("https://{host}")),
        _ => {
            Err("expected the address of the page by HTTPS, such as https://vpn.example.com:8443".to_owned())
        }
    }
}

pub(super) fn expiry(text: &str) -> Result<Expiry, String> {
    Expiry::parse_from(text, SystemTime::now()).map_err(|expected| format!("expected {expected}"))
}

/// The new keys of a client, and the delivery of its configuration.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct RenewOptions {
    /// New public key of a client that keeps its private key; the configuration is printed without
    /// one
    #[arg(long, value_name = "KEY", conflicts_with_all = ["qr", "qr_file"])]
    pub public_key: Option<String>,

    /// Keep the client's new private key on this host, for 'peer show NAME --file': whoever reads it
    /// can connect as the client
    #[arg(long, conflicts_with = "public_key")]
    pub keep_key: bool,

    /// The delivery of the configuration.
    #[command(flatten)]
    pub delivery: DeliveryOptions,
}

/// The value of `--ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ipv6Option {
    /// If it leads to the Internet.
    Auto,
    /// Always.
    Always,
}

/// The connection that `wontun peer test` evaluates.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// Other end, an address, a client's name or 'server', with port and protocol:
    /// 192.0.2.7:443/tcp. A port without a protocol is one of TCP; without a port it is a ping
    #[arg(value_name = "TARGET", value_parser = target)]
    pub target: Target,

    /// Evaluate a connection from TARGET to the client; the port is the client's
    #[arg(long)]
    pub from: bool,

    /// Policy for clients without rules [default: that of the file, or open]
    #[arg(long, value_name = "POLICY", value_enum)]
    pub policy: Option<PeerPolicy>,
}

fn target(text: &str) -> Result<Target, String> {
    text.parse().map_err(|expected: &str| format!("expected {expected}"))
}

/// The settings that `wontun peer set` changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct SetOptions {
    /// Settings of the client on the server.
    #[command(flatten)]
    pub settings: PeerSettingsOptions,

    /// The client's own file, which 'peer show NAME --file' prints.
    #[command(flatten)]
    pub client: ClientOptions,

    /// New address of the client in the server's network: one of IPv4, one of IPv6, or both,
    /// separated by commas; the client needs a new file
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub address: Vec<IpAddr>,

    /// Network behind the client, which the server routes to it, instead of the present ones, or
    /// 'none'; repeatable
    #[arg(long, value_name = "CIDR")]
    pub site: Vec<Networks>,
}

impl SetOptions {
    /// Returns the new networks behind the client, if they are to be changed.
    pub(crate) fn sites(&self) -> Option<Vec<Network>> {
        (!self.site.is_empty()).then(|| Networks::joined(&self.site))
    }
}
