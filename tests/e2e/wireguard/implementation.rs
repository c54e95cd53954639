//! The programs that can stand at an end of the tunnel.

use std::path::{Path, PathBuf};

use crate::mounts::BINARY;

/// What runs at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Implementation {
    /// `wontun --config FILE`: it sets addresses and routes itself.
    ConfigFile,
    /// `wontun -f NAME`, told what to do by `wg` and `ip`.
    Wontun,
    /// WireGuard in Go, Debian's package.
    WireguardGo,
    /// Cloudflare's, in Rust.
    Boringtun,
}

/// Set to `wireguard-go` or `boringtun`, it puts that program where a scenario asks for ours. What
/// fails then is the scenario's own fault; what asks for more than a foreign program can do fails,
/// too.
const STAND_IN: &str = "WONTUN_STAND_IN";

impl Implementation {
    /// What really runs: the stand-in, if there is one for us.
    pub(crate) fn resolve(self) -> Self {
        if !matches!(self, Self::ConfigFile | Self::Wontun) {
            return self;
        }
        match std::env::var(STAND_IN).as_deref() {
            Err(_) => self,
            Ok("wireguard-go") => Self::WireguardGo,
            Ok("boringtun") => Self::Boringtun,
            Ok(other) => panic!("{STAND_IN}={other}: expected wireguard-go or boringtun"),
        }
    }

    pub(crate) fn binary(self) -> PathBuf {
        match self {
            Self::ConfigFile | Self::Wontun => PathBuf::from(BINARY),
            Self::WireguardGo => foreign("wireguard-go"),
            Self::Boringtun => foreign("boringtun-cli"),
        }
    }

    /// The arguments that make it run in front, as the tunnel device `name`.
    pub(crate) fn arguments(self, name: &str) -> Vec<&str> {
        match self {
            Self::ConfigFile => panic!("a program with a configuration file is started with that"),
            Self::Wontun => vec!["-f", name, "--log-level", "trace"],
            Self::WireguardGo => vec!["-f", name],
            // It would ask for the user who logged in, whom a test machine does not have.
            Self::Boringtun => vec!["-f", name, "--disable-drop-privileges", "--threads", "2"],
        }
    }

    /// True for the padding of packets to 16 bytes that the white paper asks for.
    pub(crate) const fn pads(self) -> bool {
        !matches!(self, Self::Boringtun)
    }

    /// True when `wg show transfer` counts whole messages, handshakes too, as the kernel does.
    pub(crate) const fn counts_whole_messages(self) -> bool {
        !matches!(self, Self::Boringtun)
    }
}

/// A foreign program, where `scripts/foreign-peers.sh` put it or in the PATH.
fn foreign(name: &str) -> PathBuf {
    let folder = std::env::var("WONTUN_FOREIGN_PEERS").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut candidates = [folder.as_str()].into_iter().chain(path.split(':')).filter(|dir| !dir.is_empty());
    let found = candidates.find_map(|dir| Some(Path::new(dir).join(name)).filter(|path| path.exists()));
    found.unwrap_or_else(|| {
        panic!(
            "{name} is missing: run scripts/foreign-peers.sh, and set WONTUN_FOREIGN_PEERS to the folder it prints"
        )
    })
}
