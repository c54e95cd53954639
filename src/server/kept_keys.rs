//! The private keys of clients that `wontun peer add --keep-key` keeps: `DIR/tun0.client-keys`,
//! with a file for each client.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use zeroize::Zeroizing;

use super::error::ServerError;
use super::folder::Folder;
use super::write::{create_unsynced, write_error};
use crate::config::wg_quick::{KeySource, read_secret};
use wontun_proto::wireguard::{PrivateKey, PublicKey};

/// The folder of the keys that are kept for a server.
#[derive(Debug)]
pub(crate) struct KeptKeys {
    /// Path of the server's file.
    server: PathBuf,
    folder: PathBuf,
}

impl KeptKeys {
    /// Returns the keys of the clients of a server. Accesses no file.
    pub(crate) fn of(server: &Folder) -> Self {
        let folder = server.path().join(format!("{}.client-keys", server.tun()));
        Self { server: server.file(), folder }
    }

    /// Keeps a key, in a file that its owner alone can read. Returns the path of the file.
    ///
    /// # Errors
    /// [`ServerError`]: the folder or the file cannot be created.
    pub(crate) fn keep(&self, client: &PublicKey, key: &PrivateKey) -> Result<PathBuf, ServerError> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => self.give_to_owner(&self.open_folder()?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(self.open_folder()?),
            Err(error) => return Err(write_error(&self.folder, error)),
        }
        let path = self.path(client);
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(&key.to_base64());
        text.push('\n');
        let file = create_unsynced(&path, text.as_bytes())?;
        self.give_to_owner(&file);
        file.sync_all().map_err(|error| write_error(&path, error))?;
        Ok(path)
    }

    /// Returns the key of a client, if it was kept.
    ///
    /// # Errors
    /// [`ServerError`]: the file cannot be read, or has no key.
    pub(crate) fn read(&self, client: &PublicKey) -> Result<Option<PrivateKey>, ServerError> {
        let path = self.path(client);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ServerError::NotPermitted { what: "read", path });
            }
            _ => {}
        }
        Ok(Some(read_secret(&self.server, &KeySource::File(path))?))
    }

    /// Returns true if the key of a client was kept.
    pub(crate) fn has(&self, client: &PublicKey) -> bool {
        fs::symlink_metadata(self.path(client)).is_ok()
    }

    /// Deletes the key of a client, if it was kept.
    ///
    /// # Errors
    /// [`ServerError`]: the file cannot be removed.
    pub(crate) fn delete(&self, client: &PublicKey) -> Result<(), ServerError> {
        let path = self.path(client);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(&path, error)),
            _ => Ok(()),
        }
    }

    /// Opens the folder, which must not be a symbolic link: another user would choose where the
    /// keys go.
    fn open_folder(&self) -> Result<File, ServerError> {
        let open = File::options().read(true).custom_flags(O_DIRECTORY | O_NOFOLLOW).open(&self.folder);
        open.map_err(|error| write_error(&self.folder, error))
    }

    /// Makes a new file or folder that of the owner of the server's file, who has all other keys,
    /// too. Without the right to do so it stays that of this user.
    fn give_to_owner(&self, file: &File) {
        if let Ok(server) = fs::metadata(&self.server) {
            let _ = fchown(file, Some(server.uid()), Some(server.gid()));
        }
    }

    /// Returns the path of a client's key. Names of clients may have characters that names of files
    /// do not have.
    fn path(&self, client: &PublicKey) -> PathBuf {
        let name: String = client.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new(&self.folder).join(name)
    }
}
