//! The addresses at which peers with a host name have answered, kept over a restart: if a look-up
//! is not answered in time, the cached address is tried until it is.
//!
//! A name server on this host cannot be queried while a kill switch of an earlier run is engaged,
//! and the network's may be down. The file, [`CacheFile`], contains public keys and addresses only.
//! It is opened at the start and written in place afterwards, so the sandbox needs no rule for it.
//! A wrong address costs a handshake without an answer: peers authenticate each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use tracing::{debug, warn};

use super::file::ConfigFile;
use crate::config::{PeerAddress, TunName};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Time for an answer before the cached address is tried.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Minimum interval between two writes of the file.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of peers in the file.
const MAX_PEERS: usize = 64;
/// Length of a peer's line in bytes, with its end: a power of two, so that no line crosses a
/// sector.
const LINE_LENGTH: usize = 128;
/// Maximum length of the file in bytes.
const MAX_FILE_LENGTH: usize = MAX_PEERS * LINE_LENGTH;
/// Folders of the file; systemd's StateDirectory replaces both.
const FOLDERS: [&str; 2] = ["/var/lib/wontun", "/run/wontun"];
/// Permission to write for users other than the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The cached addresses, and their use in this run.
#[derive(Debug, Default)]
pub(super) struct EndpointCache {
    cache_file: Option<CacheFile>,
    addresses: BTreeMap<PublicKey, IpAddr>,
    /// Peers whose name is not answered yet, and the time at which the cached address is tried.
    waiting: BTreeMap<PublicKey, Instant>,
    /// Peers whose name was answered in this run, or whose cached address is being tried.
    settled: BTreeSet<PublicKey>,
    /// True if the names were looked up before the routes were set: no further time is allowed.
    has_looked_up: bool,
    /// True if the file must be written.
    is_changed: bool,
    written_at: Option<Instant>,
}

/// The file: lines of a public key and an address, each padded with spaces.
#[derive(Debug)]
struct CacheFile {
    file: File,
    path: PathBuf,
    /// Length of the file in bytes.
    length: usize,
}

impl EndpointCache {
    /// Reads the file of the tunnel called `name`, if peers of `configuration` have host names.
    /// Without a usable folder, nothing is cached.
    pub(super) fn open(name: &TunName, configuration: Option<&ConfigFile>) -> Self {
        let peers = configuration.into_iter().flat_map(|file| &file.configuration.peers);
        let named: BTreeSet<_> = peers
            .filter(|peer| matches!(peer.endpoint, Some(PeerAddress::Name { .. })))
            .map(|peer| peer.public_key)
            .collect();
        if named.is_empty() {
            return Self::default();
        }
        for folder in folders(std::env::var_os("STATE_DIRECTORY").as_deref().map(Path::new)) {
            match CacheFile::open(&folder, name) {
                Ok((cache_file, text)) => {
                    let (mut addresses, bad) = parse(&text);
                    if bad > 0 {
                        let path = cache_file.path.display();
                        warn!(
                            "{path} has {bad} invalid lines, which are ignored: expected a public key and an address"
                        );
                    }
                    addresses.retain(|key, _| named.contains(key));
                    return Self { cache_file: Some(cache_file), addresses, ..Self::default() };
                }
                Err(OpenError::Refused(why)) => {
                    let path = folder.display();
                    warn!("the endpoint cache in {path} is not used: {why}");
                }
                Err(OpenError::System(error)) => {
                    debug!(folder = %folder.display(), %error, "cannot open the endpoint cache");
                }
            }
        }
        Self::default()
    }

    /// Records that the names were looked up already, for the full timeout.
    pub(super) const fn set_looked_up(&mut self) {
        self.has_looked_up = true;
    }

    /// Records that the name of a peer is being looked up.
    pub(super) fn handle_lookup(&mut self, key: &PublicKey, now: Instant) {
        if self.addresses.contains_key(key) && !self.settled.contains(key) {
            let wait = if self.has_looked_up { Duration::ZERO } else { ANSWER_TIMEOUT };
            self.waiting.entry(*key).or_insert(now + wait);
        }
    }

    /// Records that the name of a peer was answered.
    pub(super) fn handle_answered(&mut self, key: &PublicKey) {
        self.waiting.remove(key);
        self.settled.insert(*key);
    }

    /// Returns the address of a peer whose name is not answered, once.
    pub(super) fn take(&mut self, key: &PublicKey) -> Option<IpAddr> {
        self.waiting.remove(key)?;
        self.settled.insert(*key);
        self.addresses.get(key).copied()
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PublicKey> {
        self.waiting.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect()
    }

    /// Records that a peer has answered at `address`, one of its name's if `is_named`. Others are
    /// not kept: only the tunnel process vouches for them. Returns true if it differs from before.
    pub(super) fn handle_reached(&mut self, key: &PublicKey, address: IpAddr, is_named: bool) -> bool {
        let is_kept = self.addresses.get(key) == Some(&address);
        let has_space = self.addresses.contains_key(key) || self.addresses.len() < MAX_PEERS;
        let is_new = !is_kept && is_named && has_space && is_usable(address);
        if is_new {
            self.addresses.insert(*key, address);
            self.is_changed = true;
        }
        is_new
    }

    /// Returns the time at which something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let write = || self.written_at.map_or_else(Instant::default, |at| at + WRITE_INTERVAL);
        let write = self.is_changed.then(write);
        self.waiting.values().copied().chain(write).min()
    }

    /// Writes the file if that is due.
    pub(super) fn serve(&mut self, now: Instant) {
        let is_due = self.written_at.is_none_or(|at| now.since(at) >= WRITE_INTERVAL);
        if self.is_changed && is_due {
            self.written_at = Some(now);
            self.write();
        }
    }

    /// Writes the file if the addresses have changed.
    pub(super) fn write(&mut self) {
        if std::mem::take(&mut self.is_changed)
            && let Some(cache_file) = &mut self.cache_file
            && let Err(error) = cache_file.write(&self.addresses)
        {
            debug!(path = %cache_file.path.display(), %error, "cannot write the endpoint cache");
        }
    }
}

/// Reason why the file cannot be used.
#[derive(Debug)]
enum OpenError {
    /// Another user could have written it.
    Refused(String),
    System(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

impl CacheFile {
    /// Opens the file in `folder`, and creates both if missing; opens it for reading only if it
    /// cannot be written. Returns its contents.
    fn open(folder: &Path, name: &TunName) -> Result<(Self, String), OpenError> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let flags = OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        // the folder may be a symbolic link, as systemd's with DynamicUser
        let opened = File::from(open(folder, flags | OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?);
        check_owner(&opened)?;
        let name = format!("{name}.endpoints");
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match open_at(&opened, &name, flags | OFlag::O_RDWR | OFlag::O_CREAT) {
            Err(Errno::EROFS | Errno::EACCES) => open_at(&opened, &name, flags | OFlag::O_RDONLY),
            opened => opened,
        };
        let file = match file {
            Ok(file) => File::from(file),
            Err(Errno::ELOOP) => return Err(OpenError::Refused(format!("{name} is a symbolic link"))),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(OpenError::Refused(format!("{name} is not a regular file with a single link")));
        }
        check_owner(&file)?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length > MAX_FILE_LENGTH {
            return Err(OpenError::Refused(format!("{name} has more than {MAX_FILE_LENGTH} bytes")));
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((Self { file, path: folder.join(name), length }, text))
    }

    /// Writes the whole file at once. The rest of its previous length is blank afterwards.
    fn write(&mut self, addresses: &BTreeMap<PublicKey, IpAddr>) -> io::Result<()> {
        let mut text = String::with_capacity(MAX_FILE_LENGTH);
        for (key, address) in addresses.iter().take(MAX_PEERS) {
            let width = LINE_LENGTH - 1;
            let _ = writeln!(text, "{:width$}", format!("{key} {address}"));
        }
        while text.len() < self.length {
            let _ = writeln!(text, "{:width$}", "", width = LINE_LENGTH - 1);
        }
        self.length = text.len();
        let written = self.file.write_at(text.as_bytes(), 0)?;
        if written == text.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}

fn open_at(folder: &File, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// Rejects a file or folder that a user other than root or this process's could have written.
fn check_owner(file: &File) -> Result<(), OpenError> {
    let metadata = file.metadata()?;
    if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
        return Err(OpenError::Refused(format!("it belongs to user {}", metadata.uid())));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(OpenError::Refused("other users may write it: chmod go-w".to_owned()));
    }
    Ok(())
}

/// Returns the folders to try; `state` is systemd's StateDirectory, paths separated by colons.
fn folders(state: Option<&Path>) -> Vec<PathBuf> {
    let Some(state) = state else { return FOLDERS.map(PathBuf::from).to_vec() };
    let first = state.to_str().and_then(|list| list.split(':').next()).map(PathBuf::from);
    first.into_iter().filter(|path| path.is_absolute()).collect()
}

/// Returns the valid lines of a key and an address, and the number of invalid ones.
fn parse(text: &str) -> (BTreeMap<PublicKey, IpAddr>, usize) {
    let (mut addresses, mut bad) = (BTreeMap::new(), 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_ascii_whitespace();
        let key = words.next().and_then(|word| word.parse().ok());
        let address = words.next().and_then(|word| word.parse().ok()).filter(|word| is_usable(*word));
        match (key, address, words.next()) {
            (Some(key), Some(address), None) if addresses.len() < MAX_PEERS => {
                addresses.insert(key, address);
            }
            _ => bad += 1,
        }
    }
    (addresses, bad)
}

/// Returns true if a peer can have this address. A link-local one is useless without its interface.
const fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const KEYS: [&str; 2] =
        ["hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="];

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("wontun-endpoint-cache-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn open(&self) -> Result<(CacheFile, String), OpenError> {
            CacheFile::open(&self.0, &"wg0".parse().unwrap())
        }

        fn file(&self) -> PathBuf {
            self.0.join("wg0.endpoints")
        }

        /// Returns the reason why it is rejected.
        fn refusal(&self) -> String {
            match self.open() {
                Err(OpenError::Refused(why)) => why,
                other => panic!("{other:?}"),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn addresses(pairs: &[(&str, &str)]) -> BTreeMap<PublicKey, IpAddr> {
        pairs.iter().map(|(key, address)| (key.parse().unwrap(), address.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_written_is_read_and_is_for_its_owner_alone() {
        let folder = Folder::new("written");
        let (mut cache_file, text) = folder.open().unwrap();
        assert_eq!(text, "");
        let two = addresses(&[(KEYS[0], "192.0.2.7"), (KEYS[1], "2001:db8:1111:2222:3333:4444:5555:6666")]);
        let one = addresses(&[(KEYS[1], "198.51.100.9")]);
        for wanted in [&two, &one, &two, &BTreeMap::new()] {
            cache_file.write(wanted).unwrap();
            let (_, text) = folder.open().unwrap();
            assert_eq!(parse(&text), (wanted.clone(), 0));
            assert!(text.lines().all(|line| line.len() == LINE_LENGTH - 1));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&folder.file())), (0o700, 0o600));
    }

    #[test]
    fn bad_lines_are_left_out() {
        let [a, b] = KEYS;
        let text = format!(
            "\n{a} 192.0.2.7\n{b} 192.0.2.7 more\n{b}\n{b} 0.0.0.0\n{b} 224.0.0.1\n{b} fe80::1\n{b} $(id)\nx \
             192.0.2.8\n\
             {b} 192.0.2.7:1\n\u{fffd}\u{1b}[31m\n"
        );
        assert_eq!(parse(&text), (addresses(&[(a, "192.0.2.7")]), 9));
        let many: String =
            (0..100).map(|byte| format!("{} 192.0.2.7\n", PublicKey::from_bytes([byte; 32]))).collect();
        let (kept, bad) = parse(&many);
        assert_eq!((kept.len(), bad), (MAX_PEERS, 100 - MAX_PEERS));
    }

    #[test]
    fn what_others_could_have_put_there_is_refused() {
        let folder = Folder::new("refused");
        folder.open().unwrap();
        let other = folder.0.join("other");
        fs::write(&other, "").unwrap();
        fs::remove_file(folder.file()).unwrap();
        symlink(&other, folder.file()).unwrap();
        assert!(folder.refusal().contains("symbolic link"));
        fs::remove_file(folder.file()).unwrap();
        fs::hard_link(&other, folder.file()).unwrap();
        assert!(folder.refusal().contains("is not a regular file with a single link"));
        fs::remove_file(folder.file()).unwrap();
        nix::unistd::mkfifo(&folder.file(), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(folder.refusal().contains("is not a regular file with a single link"));
        fs::remove_file(folder.file()).unwrap();
        fs::write(folder.file(), vec![b' '; MAX_FILE_LENGTH + 1]).unwrap();
        fs::set_permissions(folder.file(), Permissions::from_mode(0o600)).unwrap();
        assert!(folder.refusal().contains("bytes"));
        fs::set_permissions(folder.file(), Permissions::from_mode(0o622)).unwrap();
        assert!(folder.refusal().contains("other users may write it"));
        fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
        assert!(folder.refusal().contains("other users may write it"));
    }

    #[test]
    fn systemd_says_where() {
        assert_eq!(folders(None), FOLDERS.map(PathBuf::from));
        assert_eq!(folders(Some(Path::new("/var/lib/a:/var/lib/b"))), [PathBuf::from("/var/lib/a")]);
        assert_eq!(folders(Some(Path::new("a"))), Vec::<PathBuf>::new());
    }

    #[test]
    fn an_address_from_before_is_tried_once_and_after_the_answer_never() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let [a, b] = KEYS.map(|key| key.parse::<PublicKey>().unwrap());
        let before = addresses(&[(KEYS[0], "192.0.2.7"), (KEYS[1], "192.0.2.8")]);
        let mut endpoint_cache = EndpointCache { addresses: before, ..EndpointCache::default() };
        endpoint_cache.handle_lookup(&a, at(0));
        endpoint_cache.handle_lookup(&b, at(1));
        assert_eq!(endpoint_cache.deadline(), Some(at(2000)));
        assert_eq!(endpoint_cache.take_due(at(1999)), []);
        endpoint_cache.handle_answered(&b);
        assert_eq!(endpoint_cache.take_due(at(9000)), [a]);
        assert_eq!(endpoint_cache.take(&a), "192.0.2.7".parse().ok());
        for key in [a, b] {
            endpoint_cache.handle_lookup(&key, at(9000));
            assert_eq!((endpoint_cache.take(&key), endpoint_cache.deadline()), (None, None));
        }
        let mut asked =
            EndpointCache { addresses: endpoint_cache.addresses.clone(), ..EndpointCache::default() };
        asked.set_looked_up();
        asked.handle_lookup(&a, at(5));
        assert_eq!(asked.take_due(at(5)), [a]);
    }

    #[test]
    fn only_addresses_of_the_name_are_kept() {
        let key: PublicKey = KEYS[0].parse().unwrap();
        let [a, b] = ["192.0.2.7", "192.0.2.8"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut endpoint_cache = EndpointCache::default();
        assert!(!endpoint_cache.handle_reached(&key, a, false));
        assert_eq!((endpoint_cache.addresses.len(), endpoint_cache.is_changed), (0, false));
        assert!(endpoint_cache.handle_reached(&key, a, true));
        assert_eq!((endpoint_cache.addresses.get(&key), endpoint_cache.is_changed), (Some(&a), true));
        endpoint_cache.serve(Instant::from_boot(Duration::from_secs(5)));
        // the same address again, and one that does not belong to the name
        assert!(
            !endpoint_cache.handle_reached(&key, a, true) && !endpoint_cache.handle_reached(&key, b, false)
        );
        assert!(!endpoint_cache.is_changed);
        // at most every ten seconds
        assert!(endpoint_cache.handle_reached(&key, b, true));
        endpoint_cache.serve(Instant::from_boot(Duration::from_secs(14)));
        assert!(endpoint_cache.is_changed);
        endpoint_cache.serve(Instant::from_boot(Duration::from_secs(15)));
        assert!(!endpoint_cache.is_changed);
    }
}
