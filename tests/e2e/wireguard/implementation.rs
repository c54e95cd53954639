//! The programs that can run at an end of the tunnel.

use std::path::{Path, PathBuf};

use crate::mounts::BINARY;

/// The program at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Implementation {
    /// `wontun --config FILE`: it sets addresses and routes itself.
    ConfigFile,
    /// `wontun -f NAME`, configured by `wg` and `ip`.
    Wontun,
    /// WireGuard in Go, Debian's package.
    WireguardGo,
    /// Cloudflare's implementation in Rust.
    Boringtun,
}

/// Environment variable that replaces wontun by `wireguard-go` or `boringtun` in all scenarios. A
/// failure is then the scenario's own fault, or the scenario needs more than the other program can
/// do.
const STAND_IN: &str = "WONTUN_STAND_IN";

impl Implementation {
    /// Returns the program that really runs: the stand-in, if one is set for wontun.
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

    /// Returns the arguments that make it run in the foreground, as the tunnel device `name`.
    pub(crate) fn arguments(self, name: &str) -> Vec<&str> {
        match self {
            Self::ConfigFile => panic!("a program with a configuration file is started with that"),
            Self::Wontun => vec!["-f", name, "--log-level", "trace"],
            Self::WireguardGo => vec!["-f", name],
            // It would look for the user who logged in, whom a test machine does not have.
            Self::Boringtun => vec!["-f", name, "--disable-drop-privileges", "--threads", "2"],
        }
    }

    /// Returns true if it pads packets to 16 bytes, as the white paper requires.
    pub(crate) const fn pads(self) -> bool {
        !matches!(self, Self::Boringtun)
    }

    /// Returns true if `wg show transfer` counts whole messages and handshakes, as the kernel does.
    pub(crate) const fn counts_whole_messages(self) -> bool {
        !matches!(self, Self::Boringtun)
    }
}

/// Returns the path of another implementation, from `scripts/foreign-peers.sh` or the PATH.
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
