//! Reads a configuration and its key files. No other module opens them.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::libc::O_NONBLOCK;
use zeroize::Zeroizing;

use wontun_sys::process;

use super::outline::ServerComments;
use super::{Hooks, KeyError, KeySource, PrivateKey, Warning, WgQuick, WgQuickError, parse_all};
use crate::exit::{self, ExitCode};

/// Maximum size of a configuration file in bytes: enough for more than 100,000 allowed IPs.
const MAX_FILE: u64 = 16 << 20;
/// Maximum size of a key file in bytes, white space included.
const MAX_KEY_FILE: u64 = 4096;
const EXPECTED: &str = "a WireGuard configuration";
/// Permission bits of group and others; a file with secrets should have none of them.
const GROUP_AND_OTHERS: u32 = 0o077;
/// Write permission bits of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Variable with the path of the credentials that systemd passes to a service (systemd.exec(5),
/// LoadCredential=). Only the service can read that folder; if systemd enforces this by an ACL, the
/// mode shows group permissions.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Error of loading a configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}: give the path of a file that this user may read", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Error from the kernel.
        source: io::Error,
    },
    /// The file is not root's alone, and the program has file capabilities, so that any user may
    /// have started it.
    #[error(
        "{}: is refused: this program has file capabilities (setcap), so any user may start it, and \
         reads configurations and keys only from files that root owns and others cannot write: chown root and chmod go-w \
         it, or run wontun as root (sudo) or as a service",
        .0.display()
    )]
    Untrusted(PathBuf),
    /// A file that cannot be read again, such as a pipe.
    #[error("{}: is not a regular file, so it cannot be reloaded: start wontun with the path of a regular file", .0.display())]
    NotRegularFile(PathBuf),
    /// A file is too large.
    #[error("{}: more than {max} bytes: expected {what}", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Maximum size in bytes.
        max: u64,
        /// Description of the expected file.
        what: &'static str,
    },
    /// An invalid line.
    #[error(transparent)]
    Content(#[from] WgQuickError),
    /// A key file contains no valid key.
    #[error("{}: not a key: {source}; create one with `wontun genkey` or `wontun genpsk`", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The error in its content.
        source: KeyError,
    },
}

impl ExitCode for LoadError {
    fn exit_code(&self) -> u8 {
        if matches!(self, Self::Untrusted(_)) { exit::NO_PERMISSION } else { exit::CONFIG }
    }
}

impl LoadError {
    /// Returns true if this process lacks the permission to read the file.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A configuration with all its keys.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; all keys are inline.
    pub configuration: WgQuick,
    /// Warnings for the user, one line each.
    pub warnings: Vec<String>,
    /// The key files that were read.
    pub key_files: Vec<PathBuf>,
    /// Settings of a server in comments of its file.
    pub server: ServerComments,
}

/// All errors of a configuration.
#[derive(Debug)]
pub struct LoadErrors {
    /// The error that was found first, which [`load`] returns.
    pub first: LoadError,
    /// All other errors, in the order in which they were found.
    pub others: Vec<LoadError>,
    /// Number of errors that were not kept.
    pub omitted: usize,
    /// Warnings for the user, one line each.
    pub warnings: Vec<String>,
}

impl From<LoadError> for LoadErrors {
    fn from(first: LoadError) -> Self {
        Self { first, others: Vec::new(), omitted: 0, warnings: Vec::new() }
    }
}

/// Reads the configuration at `path` and its key files. Relative paths of key files start at the
/// folder of `path`.
///
/// # Errors
/// [`LoadError`] with the file, and for an invalid line what was expected.
pub fn load(path: &Path, hooks: Hooks) -> Result<Loaded, LoadError> {
    load_with(path, hooks, ReadMode::Blocking).map_err(|errors| errors.first)
}

/// Reads a configuration as [`load`] does, and continues after an error.
///
/// # Errors
/// All errors of the file and its key files.
pub fn check(path: &Path, hooks: Hooks) -> Result<Loaded, Box<LoadErrors>> {
    load_with(path, hooks, ReadMode::Blocking)
}

/// Reads a configuration as [`load`] does, for the reload of a running tunnel. It must not block,
/// so it reads regular files only.
///
/// # Errors
/// As [`load`], and [`LoadError::NotRegularFile`] for a file that is not a regular file.
pub fn reload(path: &Path, hooks: Hooks) -> Result<Loaded, LoadError> {
    load_with(path, hooks, ReadMode::NonBlocking).map_err(|errors| errors.first)
}

/// Returns the text of the configuration at `path`, for editing. It contains secrets.
///
/// # Errors
/// `LoadError` if the file cannot be read or is not a regular file.
pub(crate) fn read_text(path: &Path) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    read(path, MAX_FILE, EXPECTED, ReadMode::NonBlocking).map(|(text, _)| text)
}

/// Returns the text of another program's configuration at `path`, which may be a pipe; `-` is
/// standard input. It contains secrets.
///
/// # Errors
/// `LoadError` if the file cannot be read.
pub(crate) fn read_input(path: &Path) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    if path.as_os_str() != "-" {
        return read(path, MAX_FILE, EXPECTED, ReadMode::Blocking).map(|(text, _)| text);
    }
    let error = |source| LoadError::Read { file: path.to_owned(), source };
    // the standard library's handle buffers the input and does not wipe it
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(error)?;
    let text = read_all(File::from(stdin).take(MAX_FILE + 1), 0).map_err(error)?;
    if text.len() as u64 > MAX_FILE {
        return Err(LoadError::TooLarge { file: path.to_owned(), max: MAX_FILE, what: EXPECTED });
    }
    Ok(text)
}

/// Returns a key of the configuration at `path`, from the configuration or its key file.
///
/// # Errors
/// `LoadError` if the key file cannot be read or contains no valid key.
pub(crate) fn read_secret<K: FromStr<Err = KeyError> + Clone>(
    path: &Path,
    source: &KeySource<K>,
) -> Result<K, LoadError> {
    let mut source = source.clone();
    read_key(&mut source, path.parent().unwrap_or(Path::new("")), ReadMode::NonBlocking, &mut Vec::new())?;
    match source {
        KeySource::Inline(key) => Ok(key),
        KeySource::File(file) => Err(LoadError::NotRegularFile(file)),
    }
}

/// Blocking mode of a read: the first may wait for the writer of a pipe, a later one must not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadMode {
    Blocking,
    NonBlocking,
}

fn load_with(path: &Path, hooks: Hooks, mode: ReadMode) -> Result<Loaded, Box<LoadErrors>> {
    let mut warnings = Vec::new();
    let (text, metadata) = read(path, MAX_FILE, EXPECTED, mode).map_err(|error| Box::new(error.into()))?;
    check_owner(path, &metadata).map_err(|error| Box::new(error.into()))?;
    let permissions = mode_of(&metadata);
    let folder = path.parent().unwrap_or(Path::new(""));
    let parsed = match parse_all(path, &text, hooks) {
        Ok(parsed) => parsed,
        Err(invalid) => {
            warnings.extend(invalid.warnings.iter().map(Warning::to_string));
            let mut others: Vec<_> = invalid.others.into_iter().map(LoadError::from).collect();
            for file in invalid.key_files {
                let mut key = KeySource::<PrivateKey>::File(file);
                others.extend(read_key(&mut key, folder, mode, &mut warnings).err());
            }
            let (first, omitted) = (invalid.first.into(), invalid.omitted);
            return Err(Box::new(LoadErrors { first, others, omitted, warnings }));
        }
    };
    let forbidden = if parsed.configuration.has_secrets() { GROUP_AND_OTHERS } else { WRITABLE_BY_OTHERS };
    warnings.extend(permission_warning(path, permissions, forbidden));
    warnings.extend(parsed.warnings.iter().map(Warning::to_string));
    let (mut configuration, server) = (parsed.configuration, parsed.server);
    let mut key_files = Vec::new();
    let mut errors = Vec::new();
    let mut take = |read: Result<Option<PathBuf>, LoadError>| match read {
        Ok(file) => key_files.extend(file),
        Err(error) => errors.push(error),
    };
    take(read_key(&mut configuration.interface.private_key, folder, mode, &mut warnings));
    for key in configuration.peers.iter_mut().filter_map(|peer| peer.preshared_key.as_mut()) {
        take(read_key(key, folder, mode, &mut warnings));
    }
    let mut errors = errors.into_iter();
    match errors.next() {
        Some(first) => Err(Box::new(LoadErrors { first, others: errors.collect(), omitted: 0, warnings })),
        None => Ok(Loaded { configuration, warnings, key_files, server }),
    }
}

/// Replaces a key file by its key. Returns the path of the file, or `None` if the key was inline.
fn read_key<K: FromStr<Err = KeyError>>(
    key: &mut KeySource<K>,
    folder: &Path,
    mode: ReadMode,
    warnings: &mut Vec<String>,
) -> Result<Option<PathBuf>, LoadError> {
    let KeySource::File(path) = key else { return Ok(None) };
    let file = folder.join(path);
    let (text, metadata) = read(&file, MAX_KEY_FILE, "one key in base64", mode)?;
    check_owner(&file, &metadata)?;
    warnings.extend(permission_warning(&file, mode_of(&metadata), GROUP_AND_OTHERS));
    // bytes that are not text are no key either: they are reported as an empty one
    let text = str::from_utf8(&text).unwrap_or_default().trim();
    *key = KeySource::Inline(match text.parse() {
        Ok(key) => key,
        Err(source) => return Err(LoadError::Key { file, source }),
    });
    Ok(Some(file))
}

/// Returns a warning if the file has any of the permission bits `forbidden`.
fn permission_warning(path: &Path, mode: u32, forbidden: u32) -> Option<String> {
    let is_credential = || {
        let folder = std::env::var_os(CREDENTIALS).filter(|folder| !folder.is_empty());
        folder.is_some_and(|folder| path.starts_with(folder))
    };
    (mode & forbidden != 0 && !is_credential()).then(|| {
        format!("{}: mode {mode:04o} lets others read or change its keys: chmod 600 it", path.display())
    })
}

/// Rejects a file that is not root's alone, if any user may have started this program with file
/// capabilities. The check is of the opened file, wherever its path leads.
fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), LoadError> {
    let is_roots = metadata.is_file() && metadata.uid() == 0 && metadata.mode() & WRITABLE_BY_OTHERS == 0;
    if is_roots || !process::is_secure_execution() {
        Ok(())
    } else {
        Err(LoadError::Untrusted(path.to_owned()))
    }
}

/// Returns the mode bits, or 0 if it is not a regular file.
fn mode_of(metadata: &Metadata) -> u32 {
    if metadata.is_file() { metadata.mode() & 0o7777 } else { 0 }
}

/// Returns the content and the metadata of a file.
fn read(
    path: &Path,
    max: u64,
    what: &'static str,
    mode: ReadMode,
) -> Result<(Zeroizing<Vec<u8>>, Metadata), LoadError> {
    let error = |source| LoadError::Read { file: path.to_owned(), source };
    // opening a pipe blocks until there is a writer
    let flags = if mode == ReadMode::NonBlocking { O_NONBLOCK } else { 0 };
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if mode == ReadMode::NonBlocking && !metadata.is_file() {
        return Err(LoadError::NotRegularFile(path.to_owned()));
    }
    let expected = usize::try_from(metadata.len().clamp(MAX_KEY_FILE, max)).unwrap_or_default();
    let text = read_all(file.take(max.saturating_add(1)), expected).map_err(error)?;
    if text.len() as u64 > max {
        return Err(LoadError::TooLarge { file: path.to_owned(), max, what });
    }
    Ok((text, metadata))
}

/// Reads `source` to its end, with room for about `expected` bytes. The size of a pipe's content is
/// unknown, and a vector that grows by itself leaves copies of the keys in memory.
fn read_all(mut source: impl io::Read, expected: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(vec![0; expected.saturating_add(1)]);
    let mut length = 0;
    loop {
        if length == text.len() {
            let mut larger = Zeroizing::new(vec![0; text.len().saturating_mul(2)]);
            if let Some(beginning) = larger.get_mut(..length) {
                beginning.copy_from_slice(&text);
            }
            text = larger;
        }
        match source.read(text.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.truncate(length);
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
            // an existing file may be read-only, even for its owner
            let _ = fs::remove_file(&path);
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
        assert_eq!(loaded.key_files, [folder.0.join("key")]);
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
    fn a_file_without_secrets_may_be_read_and_only_read() {
        let folder = Folder::new("public");
        folder.write("key", KEY, 0o600);
        for (mode, count) in [(0o600, 0), (0o444, 0), (0o644, 0), (0o660, 1), (0o602, 1)] {
            let path = folder.write("wg0.conf", "[Interface]\nPrivateKeyFile = key\n", mode);
            assert_eq!(load(&path, Hooks::Refuse).unwrap().warnings.len(), count, "{mode:o}");
        }
        // a preshared key is a secret too
        let text = format!(
            "[Interface]\nPrivateKeyFile = key\n[Peer]\nPublicKey = {PUBLIC}\nPresharedKey = {KEY}\n"
        );
        let path = folder.write("wg0.conf", &text, 0o644);
        assert_eq!(load(&path, Hooks::Refuse).unwrap().warnings.len(), 1);
    }

    #[test]
    fn a_pipe_is_read_once_and_nobody_waits_for_it_again() {
        let folder = Folder::new("pipe");
        let path = folder.0.join("wg0.conf");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // longer than the initial buffer for a source of unknown length
        let text = format!("{}[Interface]\nPrivateKey = {KEY}\n", "# comment\n".repeat(2000));
        let writer = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, text).unwrap()
        });
        load(&path, Hooks::Refuse).unwrap();
        writer.join().unwrap();
        assert!(matches!(reload(&path, Hooks::Refuse), Err(LoadError::NotRegularFile(_))));
        let path = folder.write("wg1.conf", "[Interface]\nPrivateKeyFile = wg0.conf\n", 0o600);
        assert!(matches!(reload(&path, Hooks::Refuse), Err(LoadError::NotRegularFile(_))));
        folder.write("key", KEY, 0o600);
        let path = folder.write("wg1.conf", "[Interface]\nPrivateKeyFile = key\n", 0o600);
        reload(&path, Hooks::Refuse).unwrap();
    }

    #[test]
    fn all_is_read_whatever_was_expected() {
        for length in [0, 1, 4095, 4096, 4097, 100_000] {
            let bytes = vec![7; length];
            for expected in [0, 1, 4096] {
                assert_eq!(*read_all(&bytes[..], expected).unwrap(), bytes);
            }
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
