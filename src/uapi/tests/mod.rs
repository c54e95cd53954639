//! Tests of the module's public interface.

mod codec;
mod connection;
mod socket;
mod status;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::TunName;

/// A temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wontun-uapi-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// Returns all three folders, below this one.
    fn folders(&self) -> UapiFolders {
        UapiFolders {
            standard: self.0.join("run/wireguard"),
            config: vec![self.0.clone()],
            fallback: self.0.join("run/wontun"),
        }
    }

    /// Returns folders of which the standard one cannot be created.
    fn without_standard(&self) -> UapiFolders {
        std::fs::write(self.0.join("file"), "").unwrap();
        UapiFolders { standard: self.0.join("file/wireguard"), ..self.folders() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tun() -> TunName {
    "wt0".parse().unwrap()
}
