//! Finds the file of a server, so that --dir is not needed for every command.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::CommandError;
use crate::cli::SERVER_FOLDERS;
use crate::config::TunName;
use crate::server::{Folder, ServerError, ServerFile};
use crate::uapi::UapiFolders;
use crate::uapi::client::{self, RunningFile};

/// Returns the file of a server that exists: that of the folder `dir`, if given. Otherwise that of
/// the running tunnel `tun` (tun0), or of that name in one of the usual folders, or, without `tun`,
/// of the only server that runs.
///
/// # Errors
/// [`ServerError::NoFile`], [`ServerError::SeveralServers`].
pub(super) fn locate(dir: Option<PathBuf>, tun: Option<TunName>) -> Result<Folder, CommandError> {
    let name = tun.clone().unwrap_or_default();
    if let Some(dir) = dir {
        return Ok(Folder::new(dir, name));
    }
    let running = running_files();
    if let Some(found) = running.iter().find(|file| file.tun == name) {
        return Ok(of_path(&found.path, &name));
    }
    let folder = |path: &str| Folder::new(PathBuf::from(path), name.clone());
    if let Some(found) = SERVER_FOLDERS.iter().map(|path| folder(path)).find(|folder| folder.file().exists())
    {
        return Ok(found);
    }
    let is_server = |file: &&RunningFile| {
        ServerFile::read(&file.path).is_ok_and(|file| file.configuration().interface.listen_port.is_some())
    };
    let servers: Vec<_> = running.iter().filter(|_| tun.is_none()).filter(is_server).collect();
    match &servers[..] {
        [] => Err(ServerError::NotFound(name).into()),
        [server] => Ok(of_path(&server.path, &server.tun)),
        several => {
            let names = several.iter().map(|server| server.tun.to_string()).collect();
            Err(ServerError::SeveralServers(names).into())
        }
    }
}

/// Returns the folder and name of a file; `tun` if the name is none of a tunnel.
fn of_path(path: &Path, tun: &TunName) -> Folder {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Folder::new(folder, TunName::of_file(path).unwrap_or_else(|_| tun.clone()))
}

/// Returns the files of running tunnels that exist on this host and belong to root, to this user or
/// to the tunnel's user: a tunnel may only name a file of its own.
fn running_files() -> Vec<RunningFile> {
    let is_own = |file: &RunningFile| fs::metadata(&file.path).is_ok_and(|found| file.may_own(found.uid()));
    let mut files = client::running_files(&UapiFolders::new(SERVER_FOLDERS.map(Path::new)));
    files.retain(is_own);
    files
}
