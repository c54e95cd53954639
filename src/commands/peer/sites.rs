//! Messages about the networks behind clients.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use crate::config::Network;
use crate::server::Folder;

/// Reports how the networks behind clients are reached, and what keeps them from being so.
pub(super) fn report_sites(folder: &Folder, sites: impl Iterator<Item = Network>) {
    let mut names = BTreeSet::new();
    for site in sites {
        names.insert(site.to_string());
        if let Some((interface, address)) = folder.overlapping_interface(site.prefix()) {
            let _ = writeln!(
                io::stderr(),
                "wontun: warning: the site {site} overlaps {address} of this host's {interface}: packets go to the smaller of \
                 the two networks"
            );
        }
    }
    let names: Vec<_> = names.into_iter().collect();
    let message = match &names[..] {
        [] => return,
        [_] | [_, _] => {
            let names = names.join(",");
            format!(
                "the client has to forward packets to {names}; other clients reach it with --route {names}"
            )
        }
        _ => format!(
            "the clients have to forward packets to {} networks; others reach them with --route CIDR",
            names.len()
        ),
    };
    let _ = writeln!(io::stderr(), "wontun: {message}");
}
