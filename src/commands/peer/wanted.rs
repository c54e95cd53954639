//! The clients that `wontun peer add` is to add, as the command line or a file describes them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::cli::{AddOptions, NewClientOptions};
use crate::commands::error::CommandError;
use crate::config::PeerName;
use crate::config::peer_settings::PeerSettings;
use crate::config::wg_quick::read_input;
use crate::server::peer_list::{self, ListDefaults, ListError, PeerList};
use crate::server::peers::{self, AddError, NewPeerOptions};
use crate::server::{ServerError, ServerFile};
use wontun_proto::wireguard::KeyError;

/// The clients to add, and where they are described.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) peers: Vec<NewPeerOptions>,
    source: Source,
}

/// Source of the descriptions of clients.
#[derive(Debug)]
enum Source {
    /// By the command line: their names.
    Names(Vec<PeerName>),
    /// By a file: its path, the line of each client, and the errors of the others.
    File { path: PathBuf, lines: Vec<usize>, errors: Vec<ListError> },
}

impl Wanted {
    /// Reads the options, and the file of `--from`.
    ///
    /// # Errors
    /// [`CommandError`]: the file cannot be read, a key is invalid, or an option is for one client
    /// only.
    pub(super) fn new(options: AddOptions) -> Result<Self, CommandError> {
        let AddOptions {
            names,
            from,
            client: NewClientOptions { address, site, full_tunnel, client, settings: on_server, .. },
            public_key,
            ..
        } = options;
        let public_key = public_key.map(|key| key.parse()).transpose();
        let public_key = public_key.map_err(|error: KeyError| ServerError::PublicKey(error))?;
        let mut settings = PeerSettings::NONE;
        on_server.apply(&mut settings);
        client.apply(&mut settings.client);
        let given = [
            (!address.is_empty(), "--address"),
            (!site.is_empty(), "--site"),
            (public_key.is_some(), "--public-key"),
            (!settings.forwards.is_empty(), "--forward"),
        ];
        let of_one = given.into_iter().find(|(is_given, _)| *is_given);
        if let (Some((_, option)), true) = (of_one, from.is_some() || names.len() > 1) {
            return Err(CommandError::OneClient(option));
        }
        let Some(path) = from else {
            let peer = |name| NewPeerOptions {
                name,
                public_key,
                addresses: address.clone(),
                sites: site.clone(),
                full_tunnel,
                settings: settings.clone(),
            };
            let peers = names.iter().cloned().map(peer).collect();
            return Ok(Self { peers, source: Source::Names(names) });
        };
        let text = read_input(&path).map_err(ServerError::from)?;
        let defaults = ListDefaults { full_tunnel, settings };
        let PeerList { peers, errors } = peer_list::parse(&text, &defaults, SystemTime::now());
        let lines = peers.iter().map(|peer| peer.line).collect();
        let peers = peers.into_iter().map(|peer| peer.options).collect();
        Ok(Self { peers, source: Source::File { path, lines, errors } })
    }

    /// Returns an error if the file has errors, after printing them and those of its other clients.
    ///
    /// # Errors
    /// [`CommandError::NewPeer`], [`CommandError::NewPeers`].
    pub(super) fn check_all(&self, file: &ServerFile) -> Result<(), CommandError> {
        let Source::File { errors, .. } = &self.source else { return Ok(()) };
        if errors.is_empty() {
            return Ok(());
        }
        let found = match peers::check(file, &self.peers) {
            Ok(()) | Err(AddError::Server(_)) => Vec::new(),
            Err(AddError::Peers(errors)) => errors,
        };
        Err(self.report(found.into_iter().map(|(index, error)| (index, error.to_string())).collect()))
    }

    /// Reports all errors of new peers, one per line, and returns the last line.
    pub(super) fn failure(&self, error: AddError) -> CommandError {
        match error {
            AddError::Server(error) => error.into(),
            AddError::Peers(errors) => {
                self.report(errors.into_iter().map(|(index, error)| (index, error.to_string())).collect())
            }
        }
    }

    /// Returns the place of the client with this index for a message.
    pub(super) fn place(&self, index: usize) -> String {
        match &self.source {
            Source::Names(names) => names.get(index).map(|name| format!("'{name}'")).unwrap_or_default(),
            Source::File { path, lines, .. } => {
                format!("{}:{}", path.display(), lines.get(index).copied().unwrap_or_default())
            }
        }
    }

    fn report(&self, found: Vec<(usize, String)>) -> CommandError {
        let mut lines: Vec<(usize, String)> = Vec::new();
        if let Source::File { path, errors, .. } = &self.source {
            lines.extend(errors.iter().map(|error| (error.line, format!("{}:{error}", path.display()))));
        }
        for (index, error) in found {
            let line = match &self.source {
                Source::Names(_) => index,
                Source::File { lines, .. } => lines.get(index).copied().unwrap_or_default(),
            };
            lines.push((line, format!("{}: {error}", self.place(index))));
        }
        lines.sort_by_key(|(line, _)| *line);
        print_all(lines.into_iter().map(|(_, line)| line).collect())
    }
}

/// Reports all errors of a peer with new keys, one per line, and returns the last line.
pub(super) fn failure_of_one(error: AddError, name: &str) -> CommandError {
    match error {
        AddError::Server(error) => error.into(),
        AddError::Peers(errors) => {
            print_all(errors.into_iter().map(|(_, error)| format!("'{name}': {error}")).collect())
        }
    }
}

/// Prints the errors if there are several, and returns the last line.
fn print_all(mut lines: Vec<String>) -> CommandError {
    if let [line] = &mut lines[..] {
        return CommandError::NewPeer(std::mem::take(line));
    }
    for line in &lines {
        let _ = writeln!(io::stderr(), "wontun: {line}");
    }
    CommandError::NewPeers(lines.len())
}
