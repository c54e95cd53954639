//! From a path to a configuration with all its keys: the one place that opens the files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::{Hooks, KeyError, KeySource, Warning, WgQuick, WgQuickError, parse};

/// Bytes that a file may have: room for more than 100,000 allowed IPs.
const MAX_FILE: u64 = 16 << 20;
/// Bytes that a file with one key may have, white space included.
const MAX_KEY_FILE: u64 = 4096;
/// Mode bits of others, and of the group: a file with secrets should have none of them.
const NOT_THE_OWNER: u32 = 0o077;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}: give the path of a file that this user may read", .file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("{}: more than {max} bytes: expected {what}", .file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// The most that is read.
        max: u64,
        /// What it should have been.
        what: &'static str,
    },
    /// A line is wrong.
    #[error(transparent)]
    Content(#[from] WgQuickError),
    /// A file with a key has none.
    #[error("{}: no key: {source}; write one with `wontun genkey` or `wontun genpsk`", .file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
}

/// What a file gave, with every key in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says; no key is in a file of its own any more.
    pub configuration: WgQuick,
    /// What the user should know of it, a line each.
    pub warnings: Vec<String>,
}

/// Reads the configuration in `path`, and the keys that it keeps in files of their own. Relative paths of those
/// start from the folder of `path`.
///
/// # Errors
/// [`LoadError`]: which file, and for a line of it what was expected.
pub fn load(path: &Path, hooks: Hooks) -> Result<Loaded, LoadError> {
    let mut warnings = Vec::new();
    let text = read(path, MAX_FILE, "a WireGuard configuration", &mut warnings)?;
    let parsed = parse(path, &text, hooks)?;
    warnings.extend(parsed.warnings.iter().map(Warning::to_string));
    let mut configuration = parsed.configuration;
    let folder = path.parent().unwrap_or(Path::new(""));
    read_key(&mut configuration.interface.private_key, folder, &mut warnings)?;
    for peer in &mut configuration.peers {
        if let Some(key) = &mut peer.preshared_key {
            read_key(key, folder, &mut warnings)?;
        }
    }
    Ok(Loaded { configuration, warnings })
}

fn read_key<K: FromStr<Err = KeyError>>(
    key: &mut KeySource<K>,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Result<(), LoadError> {
    let KeySource::File(path) = key else { return Ok(()) };
    let file = folder.join(path);
    let text = read(&file, MAX_KEY_FILE, "one key in base64", warnings)?;
    // what is not text is no key either, and its length says as much
    let text = str::from_utf8(&text).unwrap_or_default().trim();
    *key = KeySource::Inline(text.parse().map_err(|source| LoadError::Key { file, source })?);
    Ok(())
}

fn read(
    path: &Path,
    max: u64,
    what: &'static str,
    warnings: &mut Vec<String>,
) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let error = |source| LoadError::Read { file: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if metadata.is_file() && metadata.mode() & NOT_THE_OWNER != 0 {
        let mode = metadata.mode() & 0o7777;
        warnings.push(format!(
            "{}: mode {mode:04o} lets others read or change its keys: chmod 600 it",
            path.display()
        ));
    }
    // reserved at once: a vector that grows leaves copies of the keys behind
    let reserve = metadata.len().clamp(MAX_KEY_FILE, max).saturating_add(1);
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(reserve).unwrap_or_default()));
    file.take(max.saturating_add(1)).read_to_end(&mut text).map_err(error)?;
    if text.len() as u64 > max {
        return Err(LoadError::TooLarge { file: path.to_owned(), max, what });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    /// RFC 7748, section 6.1.
    const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wontun-load-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn keys_are_read_from_their_files() {
        let folder = Folder::new("keys");
        folder.write("key", &format!("  {KEY}\r\n"), 0o600);
        let path = folder.write("wg0.conf", "[Interface]\nPrivateKeyFile = key\n", 0o600);
        let loaded = load(&path, Hooks::Refuse).unwrap();
        let KeySource::Inline(key) = &loaded.configuration.interface.private_key else { panic!() };
        assert_eq!(key.public_key().to_string(), PUBLIC);
        assert_eq!(loaded.warnings, [] as [String; 0]);
    }

    #[test]
    fn a_file_that_others_can_read_earns_a_warning() {
        let folder = Folder::new("mode");
        for (mode, count) in [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)] {
            let path = folder.write("wg0.conf", &format!("[Interface]\nPrivateKey = {KEY}\n"), mode);
            let warnings = load(&path, Hooks::Refuse).unwrap().warnings;
            assert_eq!(warnings.len(), count, "{mode:o}");
            assert!(warnings.iter().all(|warning| warning.contains("chmod 600") && !warning.contains(KEY)));
        }
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        let folder = Folder::new("wrong");
        let absent = load(&folder.0.join("none.conf"), Hooks::Refuse).unwrap_err().to_string();
        assert!(absent.contains("none.conf"), "{absent}");
        folder.write("key", "secret but no key", 0o600);
        let path = folder.write("wg0.conf", "[Interface]\nPrivateKeyFile = key\n", 0o600);
        let bad = load(&path, Hooks::Refuse).unwrap_err().to_string();
        assert!(bad.contains("key") && !bad.contains("secret"), "{bad}");
        folder.write("key", &"x".repeat(5000), 0o600);
        assert!(matches!(load(&path, Hooks::Refuse), Err(LoadError::TooLarge { .. })));
        assert!(matches!(load(&folder.0, Hooks::Refuse), Err(LoadError::Read { .. })));
    }
}
