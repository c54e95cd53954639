//! Implements the preparation of `wontun serve`, which starts with an empty folder.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use super::error::CommandError;
use super::old_endpoint::clients_with_old_endpoint;
use crate::config::TunName;
use crate::netlink::{find_input_drops, find_ipv6_obstacle};
use crate::server::{
    ClientEndpoint, Folder, InitOptions, ServerError, ServerFile, is_public, outer_addresses,
};

/// Maximum number of clients in a message about the endpoint.
const MAX_CLIENTS: usize = 20;

/// A server's tunnel that is to be run.
#[derive(Debug)]
pub(crate) struct ServerTunnel {
    /// Path of the configuration file.
    pub(crate) config: PathBuf,
    /// Lines for a person, printed once the tunnel is ready; `None` if standard error is no
    /// terminal.
    pub(crate) greeting: Option<String>,
}

/// Creates the server's file if missing, as `wontun init` does, and returns the tunnel to run. The
/// folder may be read-only if the file exists. Warns if the file would be deleted along with its
/// container, and if there is no address for clients to connect to.
///
/// # Errors
/// [`CommandError::Server`]: an error in the file, the options or the folder.
pub(crate) fn prepare(folder: &Folder, options: &InitOptions) -> Result<ServerTunnel, CommandError> {
    let prepared = folder.prepare(options)?;
    let file = prepared.file.path().display();
    let message = match prepared.updated {
        Ok(true) if prepared.is_new => Some(format!("created {file}")),
        Ok(true) => Some(format!("updated the client settings in {file}")),
        Ok(false) => None,
        Err(error) => Some(format!("warning: the client settings in {file} were not updated: {error}")),
    };
    if let Some(message) = message {
        let _ = writeln!(io::stderr(), "wontun: {message}");
    }
    if let (Some(old), Some(new)) = (&prepared.old_endpoint, prepared.file.endpoint()?) {
        let clients = clients_with_old_endpoint(folder, &prepared.file, MAX_CLIENTS);
        let _ =
            write!(io::stderr(), "wontun: the endpoint for clients was {old}, and is {new} now\n{clients}");
    }
    if folder.is_ephemeral() {
        let folder = folder.path().display();
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: {folder} is not on a volume: the server's key and its clients are deleted along with this \
             container; mount one there (docker run -v wontun:{folder} ...)"
        );
    }
    let endpoint = prepared.file.endpoint()?;
    let port = prepared.file.configuration().interface.listen_port.map(u16::from);
    if endpoint.is_none() {
        let advice = endpoint_advice(&outer_addresses(), port);
        let _ = writeln!(io::stderr(), "wontun: no address for clients to connect to is set: {advice}");
    }
    let greeting =
        io::stderr().is_terminal().then(|| greeting(folder, &prepared.file, endpoint.as_ref(), port));
    Ok(ServerTunnel { config: folder.file(), greeting: greeting.transpose()? })
}

/// Returns the --endpoint to use on a host with these addresses.
fn endpoint_advice(addresses: &[IpAddr], port: Option<u16>) -> String {
    let list =
        |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let public: Vec<_> = addresses.iter().copied().filter(|address| is_public(*address)).collect();
    let port = port.map_or_else(String::new, |port| format!(" UDP port {port}"));
    match (addresses, &public[..]) {
        ([], _) => "give it with --endpoint HOST".to_owned(),
        (private, []) => format!(
            "give it with --endpoint: the router's public name or address if it forwards{port} to {}, which is private; \
             that address itself for clients of this network only",
            list(private)
        ),
        (_, public) => format!("give it with --endpoint: this host has the public address {}", list(public)),
    }
}

/// Returns what a person who has started the server needs to know next.
fn greeting(
    folder: &Folder,
    file: &ServerFile,
    endpoint: Option<&ClientEndpoint>,
    port: Option<u16>,
) -> Result<String, ServerError> {
    let mut text = String::new();
    let addresses = &file.configuration().interface.addresses;
    let addresses: Vec<_> = addresses.iter().map(|cidr| cidr.address().to_string()).collect();
    let port_name = port.map_or_else(|| "a random UDP port".to_owned(), |port| format!("UDP port {port}"));
    // writing to memory does not fail
    let _ = writeln!(text, "Listening on {port_name}; in the tunnel at {}.", addresses.join(" and "));
    let _ = match endpoint {
        Some(endpoint) => {
            let dns = file.client_dns()?.map_or_else(String::new, |dns| format!(", name servers {dns}"));
            writeln!(text, "Clients connect to {endpoint}{dns}.")
        }
        None => writeln!(text, "Clients have no address to connect to: see above."),
    };
    let drops = port.map(|port| find_input_drops(folder.tun().as_str(), port)).unwrap_or_default();
    let _ = match drops.first() {
        Some(drop) => writeln!(text, "Firewall: {drop}"),
        None => writeln!(
            text,
            "Firewall: nothing on this host drops {port_name}; one in front of it must let it in."
        ),
    };
    let has_ipv6 = addresses_have_ipv6(file);
    let own = &file.configuration().interface.addresses;
    if let Some(obstacle) = has_ipv6.then(|| find_ipv6_obstacle(folder.tun().as_str(), own)).flatten() {
        let _ = writeln!(text, "IPv6: within the VPN only, since {obstacle}.");
    }
    let tun = folder.tun();
    let option = if *tun == TunName::default() { String::new() } else { format!(" --tun {tun}") };
    let _ = writeln!(text, "Add a client: wontun peer add phone --qr{option}");
    Ok(text)
}

fn addresses_have_ipv6(file: &ServerFile) -> bool {
    file.configuration().interface.addresses.iter().any(|cidr| cidr.address().is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_proposed_and_a_private_one_explained() {
        let addresses =
            |text: &[&str]| text.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let advice = endpoint_advice(&addresses(&["203.0.113.5", "fd00::1"]), Some(51820));
        assert!(advice.ends_with("public address 203.0.113.5"), "{advice}");
        let advice = endpoint_advice(&addresses(&["192.168.1.2"]), Some(51820));
        assert!(advice.contains("forwards UDP port 51820 to 192.168.1.2"), "{advice}");
        assert_eq!(endpoint_advice(&[], None), "give it with --endpoint HOST");
    }
}
