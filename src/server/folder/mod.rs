//! The folder of a server: `/etc/wontun`, with a file for each tunnel.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::address::{Subnet, overlap};
use super::endpoint::ClientEndpoint;
use super::error::ServerError;
use super::server_file::ServerFile;
use super::volume::is_ephemeral;
use super::write::{Writer, write_error};
use crate::config::ClientDns;
use crate::config::wg_quick::{Interface, KeySource, PrivateKey, Table};
use crate::config::{Cidr, DEFAULT_WIREGUARD_PORT, PeerPolicy, TunName, ZoneOption};
use crate::net::random::SystemRandom;
use wontun_proto::allowed_ips::Prefix;

/// The file of a tunnel in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    tun: TunName,
}

/// Options of a server, all optional.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InitOptions {
    /// Address that clients connect to; the port is 51820 unless given
    #[arg(long, env = "WONTUN_ENDPOINT", value_name = "HOST[:PORT]")]
    pub endpoint: Option<ClientEndpoint>,

    /// Network of the clients' addresses: one of IPv4, one of IPv6, or both; for a new file only
    /// [default: 10.8.0.0/24 and a random fd…/64]
    #[arg(long = "subnet", env = "WONTUN_SUBNET", value_name = "CIDR", value_delimiter = ',')]
    pub subnets: Vec<Subnet>,

    /// UDP port to listen on; for a new file only [default: the port of --endpoint]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: Option<u16>,

    /// Name servers for the clients' configurations, separated by commas, or 'none'
    /// [default: for full tunnels those of Quad9]
    #[arg(long, env = "WONTUN_DNS", value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,

    /// Answer DNS queries of the clients on the server's addresses in the tunnel, with the clients'
    /// names in this domain (phone.vpn), or 'none' [default: none]
    ///
    /// Other names are looked up at --dns-upstream. New clients get the server as their name
    /// server, unless --dns names others. Port 53 of these addresses must be free.
    #[arg(long, env = "WONTUN_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<ZoneOption>,

    /// File that contains the private key, such as a systemd credential; for a new file only, which
    /// refers to it by PrivateKeyFile [default: a new key in the new file]
    #[arg(long, env = "WONTUN_PRIVATE_KEY_FILE", value_name = "FILE", value_parser = key_file)]
    pub private_key_file: Option<PathBuf>,

    /// Policy for peers without rules, an option of the tunnel.
    #[arg(skip)]
    pub policy: Option<PeerPolicy>,
}

/// The file of a server, and the changes that `Folder::prepare` made.
#[derive(Debug)]
pub struct Prepared {
    /// The file.
    pub file: ServerFile,
    /// True if the file was created.
    pub is_new: bool,
    /// The endpoint that the file had, if that was replaced by another.
    pub old_endpoint: Option<ClientEndpoint>,
    /// True if the file was changed. An existing file that could not be changed is an error here
    /// only, as the server can still run with it.
    pub updated: Result<bool, ServerError>,
}

impl Folder {
    /// Returns the tunnel `tun` in the folder `path`. Accesses no file.
    pub const fn new(path: PathBuf, tun: TunName) -> Self {
        Self { path, tun }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the tunnel.
    pub const fn tun(&self) -> &TunName {
        &self.tun
    }

    /// Returns the path of the tunnel's file.
    pub fn file(&self) -> PathBuf {
        self.path.join(format!("{}.conf", self.tun))
    }

    /// Returns true if the file is in a container and on none of its volumes, so that its key and
    /// clients are deleted along with the container.
    pub fn is_ephemeral(&self) -> bool {
        is_ephemeral(&self.path)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// As [`ServerFile::read`].
    pub fn read(&self) -> Result<ServerFile, ServerError> {
        ServerFile::read(&self.file())
    }

    /// Locks the file for writing, and reads it. Waits for other writers.
    ///
    /// # Errors
    /// As [`Writer::lock`] and [`ServerFile::read`].
    pub fn lock(&self) -> Result<(Writer, ServerFile), ServerError> {
        if !self.exists()? {
            return Err(ServerError::NoFile(self.file()));
        }
        let writer = Writer::lock(&self.file())?;
        Ok((writer, self.read()?))
    }

    /// Creates the folder, the key and the file if there is no file. Otherwise reads the existing
    /// file, which keeps its key, and updates the endpoint, the name servers and the policy in it.
    ///
    /// # Errors
    /// [`ServerError`] if the file contains an error, has other subnets, another port or another
    /// key file than wanted, or cannot be created.
    pub fn prepare(&self, options: &InitOptions) -> Result<Prepared, ServerError> {
        self.prepare_with_host(options, host_addresses)
    }

    /// Prepares the file as [`Self::prepare`] does, on a host whose interfaces have the addresses
    /// `host`.
    fn prepare_with_host(
        &self,
        options: &InitOptions,
        host: fn() -> Vec<(String, Cidr)>,
    ) -> Result<Prepared, ServerError> {
        if !self.exists()? {
            match self.create_new(options, &host()) {
                // another process created it in the meantime
                Err(ServerError::Exists(_)) => {}
                result => {
                    return Ok(Prepared {
                        file: result?,
                        is_new: true,
                        old_endpoint: None,
                        updated: Ok(true),
                    });
                }
            }
        }
        let file = self.read()?;
        check_options(&file, options)?;
        if !has_changes(&file, options) {
            return Ok(Prepared { file, is_new: false, old_endpoint: None, updated: Ok(false) });
        }
        Ok(match self.update(options) {
            Ok((before, file)) => {
                let [before, endpoint] = [&before, &file].map(|file| file.endpoint().ok().flatten());
                let old_endpoint = before.filter(|before| endpoint.as_ref().is_some_and(|new| new != before));
                Prepared { file, is_new: false, old_endpoint, updated: Ok(true) }
            }
            Err(error) => Prepared { file, is_new: false, old_endpoint: None, updated: Err(error) },
        })
    }

    /// Updates the endpoint, the name servers, the domain and the policy in the existing file.
    /// Returns the file before and after that.
    ///
    /// # Errors
    /// [`ServerError`]: as for [`Self::prepare`]; nothing was changed.
    pub(crate) fn update(&self, options: &InitOptions) -> Result<(ServerFile, ServerFile), ServerError> {
        let (writer, before) = self.lock()?;
        check_options(&before, options)?;
        let after = apply_options(before.clone(), options)?;
        if after.text() != before.text() {
            writer.replace(after.text())?;
        }
        Ok((before, after))
    }

    /// Returns the name and the address of an interface of this host, other than the tunnel, whose
    /// network overlaps `network`.
    pub fn overlapping_interface(&self, network: Prefix) -> Option<(String, Cidr)> {
        let is_other = |(name, address): &(String, Cidr)| {
            name != self.tun.as_str() && overlap(network, Prefix::of(address.address(), address.prefix()))
        };
        host_addresses().into_iter().find(is_other)
    }

    fn exists(&self) -> Result<bool, ServerError> {
        let path = self.file();
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ServerError::NotPermitted { what: "read", path })
            }
            Err(error) => Err(write_error(&path, error)),
        }
    }

    fn create_new(&self, options: &InitOptions, host: &[(String, Cidr)]) -> Result<ServerFile, ServerError> {
        let mut random = SystemRandom::open()?;
        let subnets = match &options.subnets[..] {
            [] => vec![Subnet::default_v4(), Subnet::random_v6(&mut random)],
            given => check_families(given)?,
        };
        self.check_overlap(&subnets, host)?;
        let addresses = subnets.iter().filter_map(|subnet| subnet.server()).collect();
        let port = options.listen_port.or_else(|| options.endpoint.as_ref().map(ClientEndpoint::port));
        let interface = Interface {
            private_key: match &options.private_key_file {
                Some(path) => KeySource::File(path.clone()),
                None => KeySource::Inline(PrivateKey::generate(&mut random)),
            },
            listen_port: NonZeroU16::new(port.unwrap_or(DEFAULT_WIREGUARD_PORT)),
            fwmark: None,
            addresses,
            mtu: None,
            table: Table::Auto,
            dns: Vec::new(),
        };
        let file = apply_options(ServerFile::new(&self.file(), interface)?, options)?;
        self.create(&file)?;
        Ok(file)
    }

    /// Creates the file, and the folder if there is none. Never overwrites a file.
    ///
    /// # Errors
    /// [`ServerError`], for example [`ServerError::Exists`]; no file was written.
    pub fn create(&self, file: &ServerFile) -> Result<(), ServerError> {
        create_folder(&self.path).map_err(|error| write_error(&self.path, error))?;
        Writer::lock(&self.file())?.create(file.text())
    }

    /// Rejects a subnet that overlaps a network of another interface of this host: packets would be
    /// misrouted.
    fn check_overlap(&self, subnets: &[Subnet], host: &[(String, Cidr)]) -> Result<(), ServerError> {
        for (interface, address) in host.iter().filter(|(name, _)| name != self.tun.as_str()) {
            let network = Prefix::of(address.address(), address.prefix());
            if let Some(&subnet) = subnets.iter().find(|subnet| overlap(subnet.prefix(), network)) {
                return Err(ServerError::Overlap { subnet, address: *address, interface: interface.clone() });
            }
        }
        Ok(())
    }
}

/// Returns the names and addresses of this host's interfaces. Interfaces without an address and a
/// netmask are skipped. Empty if the kernel does not report any: there is then no check for
/// overlaps.
fn host_addresses() -> Vec<(String, Cidr)> {
    let ip = |storage: SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| address.ip().into()))
    };
    let entries = getifaddrs().into_iter().flatten();
    entries
        .filter_map(|entry| {
            let mask = match ip(entry.netmask?)? {
                IpAddr::V4(v4) => v4.to_bits().leading_ones(),
                IpAddr::V6(v6) => v6.to_bits().leading_ones(),
            };
            Some((entry.interface_name, Cidr::new(ip(entry.address?)?, u8::try_from(mask).ok()?)?))
        })
        .collect()
}

/// Returns the subnets if each has another address family.
///
/// # Errors
/// `ServerError::Subnets` for the first pair of one family.
fn check_families(given: &[Subnet]) -> Result<Vec<Subnet>, ServerError> {
    for (place, subnet) in given.iter().enumerate() {
        let is_v4 = subnet.prefix().network().is_ipv4();
        let mut earlier = given.iter().take(place);
        if let Some(other) = earlier.find(|subnet| subnet.prefix().network().is_ipv4() == is_v4) {
            return Err(ServerError::Subnets(*other, *subnet));
        }
    }
    Ok(given.to_vec())
}

/// Parses a path, makes it absolute, and rejects one that cannot be written to a configuration
/// file.
fn key_file(text: &str) -> Result<PathBuf, String> {
    if text.contains('#') || text.contains(char::is_control) || text.trim() != text {
        return Err("expected a path without '#', control characters, and spaces at its ends, none of which can be written to the configuration file".to_owned());
    }
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// Rejects options that contradict the existing file: clients' files would be wrong.
fn check_options(file: &ServerFile, options: &InitOptions) -> Result<(), ServerError> {
    let interface = &file.configuration().interface;
    let different = |key, found: String, wanted: String| {
        Err(ServerError::Conflict { path: file.path().to_owned(), key, found, wanted })
    };
    if !options.subnets.is_empty() {
        let network = |cidr: &Cidr| Prefix::of(cidr.address(), cidr.prefix());
        let has: Vec<_> = interface.addresses.iter().map(network).collect();
        let is_there = |subnet: &Subnet| has.contains(&subnet.prefix());
        if has.len() != options.subnets.len() || !options.subnets.iter().all(is_there) {
            return different("Address", joined(&interface.addresses), joined(&options.subnets));
        }
    }
    if let Some(wanted) = &options.private_key_file {
        let folder = file.path().parent().unwrap_or(Path::new(""));
        let found = match &interface.private_key {
            KeySource::Inline(_) => None,
            KeySource::File(path) => Some(folder.join(path)),
        };
        if found.as_ref() != Some(wanted) {
            let found = found
                .map_or_else(|| "nothing but the key itself".to_owned(), |path| path.display().to_string());
            return different("PrivateKeyFile", found, wanted.display().to_string());
        }
    }
    let is_new = |endpoint: &&ClientEndpoint| file.endpoint().ok().flatten().as_ref() != Some(*endpoint);
    if let (Some(endpoint), Some(port), None) =
        (options.endpoint.as_ref().filter(is_new), interface.listen_port, options.listen_port)
        && endpoint.port() != port.get()
    {
        return Err(ServerError::OtherPort {
            path: file.path().to_owned(),
            listen_port: port.get(),
            port: endpoint.port(),
        });
    }
    match options.listen_port {
        Some(port) if interface.listen_port.map(u16::from) != Some(port) => {
            different("ListenPort", interface.listen_port.map_or(0, u16::from).to_string(), port.to_string())
        }
        _ => Ok(()),
    }
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns true if the endpoint, the name servers, the domain or the policy in the file differ from
/// the wanted ones.
fn has_changes(file: &ServerFile, options: &InitOptions) -> bool {
    // a value that cannot be parsed differs too
    let has = |is_same: Result<bool, ServerError>| is_same.unwrap_or_default();
    let endpoint = options.endpoint.is_some() && !has(file.endpoint().map(|found| found == options.endpoint));
    let is_same_zone = |zone: &ZoneOption| has(file.zone().map(|found| found == zone.clone().into_zone()));
    let zone = options.domain.as_ref().is_some_and(|zone| !is_same_zone(zone));
    let dns = options.dns.is_some() && !has(file.dns().map(|found| found == options.dns));
    let policy = options.policy.is_some() && !has(file.policy().map(|found| found == options.policy));
    endpoint || zone || dns || policy
}

fn apply_options(mut file: ServerFile, options: &InitOptions) -> Result<ServerFile, ServerError> {
    // each is inserted directly below the header: the last one comes first
    if let Some(policy) = options.policy {
        file = file.with_policy(policy)?;
    }
    if let Some(zone) = &options.domain {
        file = file.with_zone(zone)?;
    }
    if let Some(dns) = &options.dns {
        file = file.with_dns(dns)?;
    }
    if let Some(endpoint) = &options.endpoint {
        file = file.with_endpoint(endpoint)?;
    }
    Ok(file)
}

/// Creates a folder with its parents. Only the owner has access to it.
fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // best effort: makes the new entry durable
    let _ = File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests;
