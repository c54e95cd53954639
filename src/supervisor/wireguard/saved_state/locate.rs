//! Finds the place of the state file, and opens it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracing::{debug, info, warn};

use crate::config::{StateFileOption, TunName};
use crate::state_file::{Access, OpenError, StateFile, StateTable, prepare_folder};
use crate::supervisor::error::SupervisorError;
use crate::supervisor::start::retry_while_in_use;
use crate::supervisor::wireguard::file::ConfigFile;

/// Folders for a file that cannot be beside the configuration; systemd's StateDirectory replaces
/// both.
const FOLDERS: [&str; 2] = ["/var/lib/wontun", "/run/wontun"];

/// A possible place.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// User to whom the file may belong, besides root and this process's.
    owner: Option<u32>,
    /// Folder that is created if missing, and must not be another user's. Whoever may write to the
    /// configuration's folder could replace the configuration as well.
    own_folder: Option<PathBuf>,
}

/// Opens the file of the tunnel called `name`, and returns its contents; `None` if nothing is kept.
pub(super) fn open(
    name: &TunName,
    file: &ConfigFile,
    access: Access,
) -> Result<Option<(StateFile, StateTable)>, SupervisorError> {
    let owner = fs::metadata(&file.path).ok().map(|configuration| configuration.uid());
    match &file.options.state {
        StateFileOption::Off => Ok(None),
        StateFileOption::File(path) => {
            let place = Place { path: path.clone(), owner, own_folder: None };
            let opened = place.open(access);
            opened.map(Some).map_err(|source| SupervisorError::StateFile { path: path.clone(), source })
        }
        StateFileOption::Auto => {
            let state_directory = std::env::var_os("STATE_DIRECTORY");
            let places = places(name, &file.path, owner, state_directory.as_deref().map(Path::new));
            Ok(open_first(&places, access))
        }
    }
}

/// Opens the first file that can be written, or else the first that can be read.
fn open_first(places: &[Place], access: Access) -> Option<(StateFile, StateTable)> {
    for access in [access, Access::ReadOnly] {
        for place in places {
            let path = place.path.display();
            match place.open(access) {
                Ok(opened) => {
                    if access == Access::ReadOnly {
                        info!("the state file {path} cannot be written: a restart knows what it has now");
                    }
                    return Some(opened);
                }
                Err(OpenError::System(error)) => debug!(%path, %error, "cannot open the state file"),
                Err(error) if access != Access::ReadOnly => {
                    warn!("the state file {path} is not used: {error}");
                }
                Err(_) => {}
            }
        }
    }
    let paths: Vec<_> = places.iter().map(|place| place.path.display().to_string()).collect();
    info!(
        "no state file can be written ({}): after a restart, peers are known when they connect again; --state FILE \
         names one",
        paths.join(", ")
    );
    None
}

/// Returns the possible places for the tunnel `name` of the file `configuration`; `state_directory`
/// is systemd's, paths separated by colons.
fn places(
    name: &TunName,
    configuration: &Path,
    owner: Option<u32>,
    state_directory: Option<&Path>,
) -> Vec<Place> {
    let beside = Place { path: beside(configuration), owner, own_folder: None };
    let folders = folders(state_directory).into_iter().map(|folder| Place {
        path: folder.join(format!("{name}.state")),
        owner: None,
        own_folder: Some(folder),
    });
    std::iter::once(beside).chain(folders).collect()
}

/// Returns the path beside a configuration: `wg0.state` for `wg0.conf`.
fn beside(configuration: &Path) -> PathBuf {
    let mut path = configuration.to_owned();
    match configuration.extension() {
        Some(extension) if extension == "conf" => drop(path.set_extension("state")),
        _ => path.as_mut_os_string().push(".state"),
    }
    path
}

fn folders(state_directory: Option<&Path>) -> Vec<PathBuf> {
    let Some(list) = state_directory else { return FOLDERS.map(PathBuf::from).to_vec() };
    let first = list.to_str().and_then(|list| list.split(':').next()).map(PathBuf::from);
    first.into_iter().filter(|path| path.is_absolute()).collect()
}

impl Place {
    fn open(&self, access: Access) -> Result<(StateFile, StateTable), OpenError> {
        if let Some(folder) = self.own_folder.as_ref().filter(|_| access != Access::ReadOnly) {
            prepare_folder(folder)?;
        }
        let open = || StateFile::open(&self.path, self.owner, access);
        // by the process of a run that was just killed
        retry_while_in_use(|error| matches!(error, OpenError::InUse), open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(configuration: &str, state_directory: Option<&str>) -> Vec<String> {
        let name = "wg0".parse().unwrap();
        let places = places(&name, Path::new(configuration), Some(5), state_directory.map(Path::new));
        assert!(places[0].owner == Some(5) && places[0].own_folder.is_none());
        assert!(places.iter().skip(1).all(|place| place.owner.is_none() && place.own_folder.is_some()));
        places.iter().map(|place| place.path.display().to_string()).collect()
    }

    #[test]
    fn the_file_is_beside_the_configuration_or_where_systemd_says() {
        let all = ["/etc/wireguard/home.state", "/var/lib/wontun/wg0.state", "/run/wontun/wg0.state"];
        assert_eq!(paths("/etc/wireguard/home.conf", None), all);
        assert_eq!(paths("wg0", Some("/var/lib/a:/var/lib/b")), ["wg0.state", "/var/lib/a/wg0.state"]);
        assert_eq!(paths("/x/wg0.txt", Some("a")), ["/x/wg0.txt.state"]);
    }
}
