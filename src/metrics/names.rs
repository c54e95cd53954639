//! What peers are called: the comments `# Name = phone` of the configuration file.
//!
//! Read by the metrics' own thread, when the file is another than it was: the loop has no part in it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::debug;

use crate::setup::{PeerName, ServerFile};
use crate::tunnel::wireguard::PublicKey;

/// Names of peers.
pub type NameOf = HashMap<PublicKey, PeerName>;

/// The file, and the names in it when it was last read.
#[derive(Debug, Default)]
pub struct Names {
    file: Option<PathBuf>,
    seen: Option<Version>,
    names: Arc<NameOf>,
}

/// By what a file that has changed is known: device, inode, length, time of change in seconds and nanoseconds.
type Version = (u64, u64, u64, i64, i64);

fn version(file: &Metadata) -> Version {
    (file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec())
}

impl Names {
    /// The names in `file`; none without.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// The names that the file has now. One that cannot be read, or has an error, leaves them as they were.
    pub fn read(&mut self) -> Arc<NameOf> {
        if let Some(path) = &self.file {
            // before it is read: a later change makes it differ
            let now = fs::metadata(path).ok().filter(Metadata::is_file).as_ref().map(version);
            if now.is_some() && now != self.seen {
                self.seen = now;
                match ServerFile::read(path) {
                    Ok(file) => {
                        let names = file.peers().filter_map(|peer| Some((peer.peer.public_key, peer.name?)));
                        self.names = Arc::new(names.collect());
                    }
                    Err(error) => debug!(%error, "the peers' names are not read"),
                }
            }
        }
        Arc::clone(&self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    fn write(path: &std::path::Path, name: &str) {
        let text = format!(
            "[Interface]\nPrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n[Peer]\n# Name = {name}\nPublicKey = {KEY}\n"
        );
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn names_follow_the_file() {
        let folder = std::env::temp_dir().join(format!("wontun-names-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tun0.conf");
        let mut names = Names::new(Some(path.clone()));
        assert!(names.read().is_empty(), "no file yet");
        let called = |names: &mut Names| names.read().get(&KEY.parse().unwrap()).map(ToString::to_string);
        write(&path, "phone");
        assert_eq!(called(&mut names).as_deref(), Some("phone"));
        write(&path, "a \"new\" phone");
        assert_eq!(called(&mut names).as_deref(), Some("a \"new\" phone"));
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(called(&mut names).as_deref(), Some("a \"new\" phone"));
        fs::remove_dir_all(folder).unwrap();
        assert!(Names::new(None).read().is_empty());
    }
}
