//! Landlock rules for the files that a process may open: all others are refused with EACCES. Files
//! opened before stay open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::error::SandboxError;

/// The newest version whose rights have been reviewed one by one; older kernels have fewer.
const REVIEWED_ABI: ABI = ABI::V6;

/// Rights to read files and folders.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Rights to change existing settings under /proc/sys.
const SET: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate});

/// Rights to write, create and remove files.
const REPLACE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile});

/// The kernel's settings for this network namespace.
const SETTINGS: &str = "/proc/sys/net";
/// The folder with the tables of legacy iptables, if any.
const PROC_NET: &str = "/proc/self/net";

/// Folders of the resolver process. It opens no file itself, but the processes that it starts can
/// read no more than it may: the folders of the files in [`CODE_FOLDERS`] and [`LOOK_UP_FILES`],
/// since these are replaced over time, and the folders in which programs that write
/// /etc/resolv.conf keep it.
const RESOLVER_FOLDERS: [&str; 16] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/var/db",
    "/run/systemd",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/dnsmasq",
    "/run/connman",
    "/run/netconfig",
    "/run/nscd",
    "/dev/urandom",
];
/// Port of DNS.
const DNS_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Folders of the programs that /etc/resolv.conf may become a link to.
const RESOLV_CONF_FOLDERS: [&str; 4] =
    ["/run/NetworkManager", "/run/resolvconf", "/run/connman", "/run/netconfig"];
/// Folders in which programs that run a name server on this host list its upstream servers.
const UPSTREAM_FOLDERS: [&str; 2] = ["/run/systemd/resolve", "/run/dnsmasq"];
/// Folders of the code of nsswitch.conf(5) modules.
const CODE_FOLDERS: [&str; 6] = ["/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"];
/// Files that getaddrinfo(3), those modules and [`crate::resolver`] read for one look-up.
const LOOK_UP_FILES: [&str; 17] = [
    RESOLV_CONF,
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    "/etc/hostname",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/mdns.allow",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/dnsmasq/resolv.conf",
    "/dev/urandom",
];

/// Files and folders that a tunnel opens or removes after its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedPaths {
    /// Files that are read again, such as keys.
    pub files: Vec<PathBuf>,
    /// Folders whose files are read.
    pub folders: Vec<PathBuf>,
    /// The folder of the UAPI socket, whose file is removed at the end, and renamed with its
    /// device.
    pub socket_folder: Option<PathBuf>,
}

/// Landlock rules, and descriptors of the folders under /proc to which they refer: without a holder
/// the kernel would recreate these folders, and the rules would not apply to the new ones.
#[derive(Debug)]
pub(super) struct LandlockRules {
    rules: RulesetCreated,
    #[allow(dead_code, reason = "held, not used")]
    proc_folders: Arc<[PathFd]>,
}

impl LandlockRules {
    pub(super) fn for_supervisor(paths: &AllowedPaths) -> Result<Self, RulesetError> {
        // TCP is refused but for a listener of DNS at a new address of the tunnel, and seccomp
        // prevents signals to other processes than the resolver, which is killed at the end
        let mut rules = base()?
            .handle_access(AccessNet::from_all(REVIEWED_ABI))?
            .scope(Scope::AbstractUnixSocket)?
            .create()?;
        for path in paths.files.iter().chain(&paths.folders) {
            rules = allow(rules, path, READ)?;
        }
        if let Some(folder) = &paths.socket_folder {
            rules = allow(rules, folder, AccessFs::RemoveFile | AccessFs::MakeSock)?;
        }
        rules = allow(rules, Path::new(SETTINGS), SET)?;
        rules = allow(rules, Path::new(PROC_NET), READ)?;
        rules = rules.add_rule(NetPort::new(DNS_PORT, AccessNet::BindTcp))?;
        let proc_folders = [SETTINGS, PROC_NET].into_iter().filter_map(|path| PathFd::new(path).ok());
        Ok(Self { rules, proc_folders: proc_folders.collect() })
    }

    /// Creates rules that refuse all files, TCP, and signals and abstract sockets of other
    /// processes.
    pub(super) fn for_tunnel() -> Result<Self, RulesetError> {
        let rules = base()?
            .handle_access(AccessNet::from_all(REVIEWED_ABI))?
            .scope(Scope::from_all(REVIEWED_ABI))?
            .create()?;
        Ok(Self { rules, proc_folders: [].into() })
    }

    pub(super) fn for_resolver() -> Result<Self, RulesetError> {
        let mut rules =
            base()?.handle_access(AccessNet::BindTcp)?.scope(Scope::from_all(REVIEWED_ABI))?.create()?;
        let target = Path::new(RESOLV_CONF).canonicalize().ok();
        let target = target.as_deref().and_then(Path::parent).filter(|folder| *folder != Path::new("/"));
        for path in RESOLVER_FOLDERS.iter().map(Path::new).chain(target) {
            rules = allow(rules, path, READ)?;
        }
        Ok(Self { rules, proc_folders: [].into() })
    }

    /// Creates rules for the folders in which programs keep /etc/resolv.conf, and for connections
    /// to name servers; the filter of calls has no bind(2).
    pub(super) fn for_names() -> Result<Self, RulesetError> {
        let rules = base()?.handle_access(AccessNet::from_all(REVIEWED_ABI))?;
        let mut rules = rules.scope(Scope::from_all(REVIEWED_ABI))?.create()?;
        let link = Path::new(RESOLV_CONF);
        let target = link.canonicalize().ok();
        for path in [Some(link), target.as_deref()].into_iter().flatten() {
            rules = allow(rules, path, READ)?;
            if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("/")) {
                rules = allow(rules, folder, READ)?;
            }
        }
        for folder in RESOLV_CONF_FOLDERS.iter().chain(&UPSTREAM_FOLDERS) {
            rules = allow(rules, Path::new(folder), READ)?;
        }
        rules = rules.add_rule(NetPort::new(DNS_PORT, AccessNet::ConnectTcp))?;
        Ok(Self { rules, proc_folders: [].into() })
    }

    /// Creates rules that refuse all files, and all of TCP but connections to these ports.
    pub(super) fn for_names_over_tls(ports: &[u16]) -> Result<Self, RulesetError> {
        let Self { mut rules, proc_folders } = Self::for_tunnel()?;
        for port in ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        Ok(Self { rules, proc_folders })
    }

    /// Creates rules for the folder of /etc/resolv.conf, that of its target, and those of possible
    /// targets, in which other programs replace the file. The filter of calls restricts the process
    /// to the file itself.
    pub(super) fn for_resolv_conf() -> Result<Self, RulesetError> {
        let mut rules = base()?
            .handle_access(AccessNet::from_all(REVIEWED_ABI))?
            .scope(Scope::from_all(REVIEWED_ABI))?
            .create()?;
        let link = Path::new(RESOLV_CONF);
        let target = link.canonicalize().ok();
        for path in [Some(link), target.as_deref()].into_iter().flatten() {
            // a file that is a mount is not beneath its folder
            rules = allow(rules, path, REPLACE)?;
            if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("/")) {
                rules = allow(rules, folder, REPLACE)?;
            }
        }
        for folder in RESOLV_CONF_FOLDERS {
            rules = allow(rules, Path::new(folder), REPLACE)?;
        }
        Ok(Self { rules, proc_folders: [].into() })
    }

    /// Creates rules for files that are read, and for folders in which files are replaced.
    pub(super) fn for_editor(paths: &AllowedPaths) -> Result<Self, RulesetError> {
        let mut rules = base()?
            .handle_access(AccessNet::from_all(REVIEWED_ABI))?
            .scope(Scope::from_all(REVIEWED_ABI))?
            .create()?;
        for file in &paths.files {
            rules = allow(rules, file, READ)?;
        }
        for folder in &paths.folders {
            rules = allow(rules, folder, REPLACE)?;
        }
        Ok(Self { rules, proc_folders: [].into() })
    }

    /// Creates rules that refuse signals to processes outside. No rules for files, since helpers
    /// have their own.
    pub(super) fn for_nursery() -> Result<Self, RulesetError> {
        Ok(Self { rules: Ruleset::default().scope(Scope::Signal)?.create()?, proc_folders: [].into() })
    }

    /// Creates rules for the files that have these names now: a rule refers to a file, not to its
    /// name.
    pub(super) fn for_look_up() -> Result<Self, RulesetError> {
        let mut rules =
            base()?.handle_access(AccessNet::BindTcp)?.scope(Scope::from_all(REVIEWED_ABI))?.create()?;
        for path in CODE_FOLDERS.into_iter().chain(LOOK_UP_FILES) {
            rules = allow(rules, Path::new(path), READ)?;
        }
        Ok(Self { rules, proc_folders: [].into() })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { rules: self.rules.try_clone()?, proc_folders: Arc::clone(&self.proc_folders) })
    }

    /// Applies the rules to this thread and to those that it starts from now on.
    pub(super) fn restrict(&self) -> Result<RestrictionStatus, SandboxError> {
        Ok(self.rules.try_clone().map_err(SandboxError::Clone)?.restrict_self()?)
    }
}

/// Creates a ruleset that handles all rights to paths.
fn base() -> Result<Ruleset, RulesetError> {
    Ruleset::default().handle_access(AccessFs::from_all(REVIEWED_ABI))
}

/// Allows `access` to the file or folder at `path`, and below it; nothing if it does not exist.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    // rights to folders do not apply to a file
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(REVIEWED_ABI) };
    rules.add_rule(PathBeneath::new(fd, access))
}

impl AllowedPaths {
    /// Returns the places needed to read the configuration at `path` and its `keys` again: its
    /// folder, where it may be replaced; the folder of its target if `path` is a link; and of other
    /// folders only the files with keys.
    pub(crate) fn for_configuration(path: &Path, keys: &[PathBuf]) -> Self {
        let folder = |path: &Path| match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) => folder.to_owned(),
            None => PathBuf::from("/"),
        };
        let mut folders = vec![folder(path)];
        if let Ok(real) = path.canonicalize() {
            let real = folder(&real);
            if folders.iter().all(|known| known.canonicalize().ok().as_ref() != Some(&real)) {
                folders.push(real);
            }
        }
        Self { files: keys.to_vec(), folders, socket_folder: None }
    }
}
