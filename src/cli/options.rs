//! The options of commands and tunnels.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use tracing::level_filters::LevelFilter;

use crate::config::wg_quick::Hooks;
use crate::config::{
    AdminSettings, AllowedNetwork, ApplyDns, Cidr, ConfigError, DnsUpstream, FileOptions, KillSwitchMode,
    NatMode, PeerAddress, PeerPolicy, PlainConfig, StateFileOption, TunName, Tuning, link_local,
};
use crate::logging::{LogFormat, LogTarget};
use crate::metrics::HostName;
use crate::privileges::UserSpec;

/// Name of a tunnel's device.
#[derive(Clone, Debug, Args)]
pub struct TunOption {
    /// Name of the TUN device [default: tun0, with --config the file's name without .conf]
    #[arg(long, env = "WONTUN_TUN", value_name = "NAME")]
    pub tun: Option<TunName>,
}

/// A running tunnel.
#[derive(Clone, Debug, Args)]
pub struct RunningTunnel {
    /// Name of the TUN device, as an alternative to the argument NAME
    #[arg(long, env = "WONTUN_TUN", value_name = "NAME")]
    pub tun: Option<TunName>,

    /// Configuration file of the tunnel; its name gives that of the tunnel, its folder that of the
    /// control socket
    #[arg(long, env = "WONTUN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The folder of a server, and its tunnel.
#[derive(Clone, Debug, Args)]
pub struct ServerFolder {
    /// Folder of the server's files; the file is named after the TUN device (--tun) [default:
    /// /etc/wontun; of a running server the folder of its file]
    #[arg(long, env = "WONTUN_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Name of the TUN device, and of the file without .conf [default: tun0]
    #[arg(long, env = "WONTUN_TUN", value_name = "NAME")]
    pub tun: Option<TunName>,
}

/// Headings in the help.
pub(super) const OF_ALL: &str = "Options of all tunnels";
pub(super) const OF_PLAIN: &str = "Options of plain tunnels";

/// Folder of a new server's files unless --dir is given.
pub(crate) const DEFAULT_FOLDER: &str = "/etc/wontun";
/// Folders that are searched for a server's files, in this order: that of a new one, and that of
/// the systemd unit.
pub(crate) const SERVER_FOLDERS: [&str; 2] = [DEFAULT_FOLDER, "/var/lib/wontun"];

/// Folder that is searched for control sockets.
#[derive(Clone, Debug, Args)]
pub struct SocketFolder {
    /// Folder that may hold the control socket, besides those where wg(8) looks [default:
    /// /etc/wontun and /var/lib/wontun]
    #[arg(long, env = "WONTUN_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// A tunnel to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The tunnel.
    pub tunnel: TunnelKind,
    /// Options that all tunnels have.
    pub common: TunnelOptions,
}

/// A kind of tunnel, with its options.
#[derive(Clone, Debug)]
pub enum TunnelKind {
    /// The WireGuard tunnel described by a file.
    File {
        /// The file.
        path: PathBuf,
        /// Name of the TUN device; `None` for the file's name.
        tun: Option<TunName>,
        /// Options of the tunnel.
        options: WireGuardOptions,
    },
    /// A WireGuard interface that wg(8) configures.
    Interface(TunName),
    /// A tunnel that does not encrypt.
    Plain {
        /// Name of the TUN device; `None` for the default.
        tun: Option<TunName>,
        /// Options of the tunnel.
        options: PlainOptions,
    },
}

/// Options of a WireGuard tunnel that a file describes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of WireGuard tunnels (serve, --config)")]
pub struct WireGuardOptions {
    /// Ignore PreUp, PostUp, PreDown, PostDown and SaveConfig in the file instead of refusing them
    #[arg(long, env = "WONTUN_IGNORE_HOOKS", value_parser = FalseyValueParser::new())]
    pub ignore_hooks: bool,

    /// Enable forwarding and NAT for clients [default: serve: auto; --config: off]
    #[arg(long, env = "WONTUN_NAT", value_name = "MODE", value_enum)]
    pub nat: Option<NatMode>,

    /// With --nat auto: link-local network that clients may reach; repeatable [default: none]
    ///
    /// A cloud's metadata service at 169.254.169.254, which may serve credentials of this host, is
    /// such a network.
    #[arg(long, env = "WONTUN_NAT_ALLOW", value_name = "CIDR", value_delimiter = ',')]
    pub nat_allow: Vec<Cidr>,

    /// Policy for clients without rules of their own: targets that they may reach through this host
    /// [default: that of the file, or open]
    #[arg(long, env = "WONTUN_POLICY", value_name = "POLICY", value_enum)]
    pub policy: Option<PeerPolicy>,

    /// File that keeps the state of peers over a restart, or 'off' [default: the configuration file
    /// with .state instead of .conf, or else a file in /var/lib/wontun]
    ///
    /// It has each peer's last address, so that peers are connected again at once after a restart,
    /// timestamps that protect against replayed handshakes, and counters; no secrets. FILE must be
    /// in a folder that can be written. 'auto' is the default.
    #[arg(long, env = "WONTUN_STATE", value_name = "FILE")]
    pub state: Option<StateFileOption>,

    /// Take the tunnel over from a running process without interruption, then run it
    ///
    /// The sessions of the peers continue, no packet is lost, and the other process ends. Without
    /// one the tunnel is started as usual. Both processes must run as the same user, or the other
    /// one as root.
    #[arg(long, env = "WONTUN_TAKE_OVER", value_parser = FalseyValueParser::new())]
    pub take_over: bool,

    /// Method to apply the file's name servers (DNS = ...) to this host [default: auto]
    ///
    /// auto: by systemd-resolved if it resolves names here, else in /etc/resolv.conf; resolved or
    /// file: only so; off: not at all. The previous name servers come back when the tunnel ends.
    #[arg(long, env = "WONTUN_APPLY_DNS", value_name = "MODE", value_enum)]
    pub apply_dns: Option<ApplyDns>,

    /// With --domain: name server for the names that clients look up, such as 9.9.9.9 (port 53) or
    /// tls://9.9.9.9#dns.quad9.net; repeatable [default: those of this host]
    ///
    /// With tls:// queries are sent over TLS only (port 853, another one as tls://ADDRESS:PORT). The
    /// server's certificate must be of a public authority, for the name after '#' or for the address.
    /// For a server of your own, give the hash of its public key: tls://192.168.1.2#pin-sha256=HASH.
    #[arg(long, env = "WONTUN_DNS_UPSTREAM", value_name = "SERVER", value_delimiter = ',')]
    pub dns_upstream: Vec<DnsUpstream>,

    /// The admin page, if it is served, by options of `serve`.
    #[arg(skip)]
    pub admin: Option<AdminSettings>,

    /// True if invitations are answered, an option of `serve`.
    #[arg(skip)]
    pub invitations: bool,

    /// Options of full tunnels.
    #[command(flatten)]
    pub full_tunnel: FullTunnelOptions,
}

/// Options of a WireGuard tunnel that has the default route.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of full tunnels (--config)")]
pub struct FullTunnelOptions {
    /// With a default route: block all traffic of this host except through the tunnel
    ///
    /// The kill switch stays when the tunnel fails or cannot start. MODE is on (also if it is left
    /// out): until SIGTERM or 'wontun kill-switch off'; keep: after SIGTERM, too; or off.
    #[arg(long, env = "WONTUN_KILL_SWITCH", value_name = "MODE", value_enum, ignore_case = true, num_args = 0..=1, default_missing_value = "on")]
    pub kill_switch: Option<KillSwitchMode>,

    /// With --kill-switch: network that is not blocked, such as that of SSH clients; repeatable
    #[arg(long, env = "WONTUN_KILL_SWITCH_ALLOW", value_name = "CIDR", value_delimiter = ',')]
    pub kill_switch_allow: Vec<AllowedNetwork>,

    /// With a default route: let DNS queries bypass the tunnel to resolve an endpoint
    ///
    /// If the address of an endpoint's name cannot be found otherwise, all queries to name servers
    /// (ports 53 and 853) bypass the tunnel for at most 5 s. For a host with a name server of its
    /// own; prefer --resolver. Excludes --kill-switch.
    #[arg(long, env = "WONTUN_DNS_BYPASS", value_parser = FalseyValueParser::new())]
    pub dns_bypass: bool,
}

/// Options of all tunnels.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = OF_ALL)]
pub struct TunnelOptions {
    /// Name server for endpoints that are names, queried outside the tunnel before those of
    /// /etc/resolv.conf; repeatable
    #[arg(long, env = "WONTUN_RESOLVER", value_name = "ADDRESS", value_delimiter = ',')]
    pub resolver: Vec<IpAddr>,

    /// Tuning options.
    #[command(flatten)]
    pub tuning: TuningOptions,

    /// Serve Prometheus metrics at this address, path /metrics, without authentication
    #[arg(long, env = "WONTUN_METRICS", value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,

    /// Host name under which metrics may be requested, besides addresses and localhost; repeatable
    #[arg(long, env = "WONTUN_METRICS_HOST", value_name = "NAME", value_delimiter = ',')]
    pub metrics_host: Vec<HostName>,

    /// Switch to this user once everything is open, keeping CAP_NET_ADMIN: a name, UID or UID:GID
    #[arg(long, env = "WONTUN_USER", value_name = "USER")]
    pub user: Option<UserSpec>,

    /// Disable the sandbox (seccomp and Landlock), for debugging
    #[arg(long, env = "WONTUN_NO_SANDBOX", value_parser = FalseyValueParser::new())]
    pub no_sandbox: bool,

    /// Minimum level of log messages
    #[arg(long, env = "WONTUN_LOG_LEVEL", value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,

    /// Destination of the log
    #[arg(long, env = "WONTUN_LOG_TARGET", value_name = "TARGET", value_enum, default_value_t = LogTarget::Auto)]
    pub log_target: LogTarget,

    /// Format of the log on standard error
    #[arg(long, env = "WONTUN_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl WireGuardOptions {
    /// Returns the options as used by a tunnel, except those of the kill switch.
    ///
    /// # Errors
    /// [`ConfigError::NotLinkLocal`].
    pub fn file_options(self) -> Result<FileOptions, ConfigError> {
        Ok(FileOptions {
            hooks: if self.ignore_hooks { Hooks::Ignore } else { Hooks::Refuse },
            nat: self.nat.unwrap_or_default(),
            nat_allow: link_local(&self.nat_allow)?,
            policy: self.policy,
            dns_bypass: self.full_tunnel.dns_bypass,
            apply_dns: self.apply_dns.unwrap_or_default(),
            dns_upstream: self.dns_upstream.try_into()?,
            state: self.state.unwrap_or_default(),
            admin: self.admin,
            invitations: self.invitations,
        })
    }

    /// Checks that no option is set, for a tunnel that no file describes.
    ///
    /// # Errors
    /// [`ConfigError::NoFile`].
    pub fn require_none(&self) -> Result<(), ConfigError> {
        self.first_set().map_or(Ok(()), |option| Err(ConfigError::NoFile(option)))
    }

    /// Returns the first option that has no effect without a file, if one is set.
    fn first_set(&self) -> Option<&'static str> {
        let Self {
            ignore_hooks,
            nat,
            nat_allow,
            policy,
            state,
            take_over,
            apply_dns,
            dns_upstream,
            admin: _,
            invitations: _,
            full_tunnel,
        } = self;
        let FullTunnelOptions { kill_switch, kill_switch_allow, dns_bypass } = full_tunnel;
        let options = [
            ("--ignore-hooks", *ignore_hooks),
            ("--kill-switch", kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off)),
            ("--kill-switch-allow", !kill_switch_allow.is_empty()),
            ("--nat auto", *nat == Some(NatMode::Auto)),
            ("--nat-allow", !nat_allow.is_empty()),
            ("--policy", policy.is_some()),
            ("--take-over", *take_over),
            ("--dns-upstream", !dns_upstream.is_empty()),
            ("--apply-dns", apply_dns.is_some_and(|mode| mode != ApplyDns::Off)),
            ("--state", matches!(state, Some(StateFileOption::File(_)))),
            ("--dns-bypass", *dns_bypass),
        ];
        options.into_iter().find(|(_, is_set)| *is_set).map(|(name, _)| name)
    }
}

/// Options of a plain tunnel.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = OF_PLAIN)]
pub struct PlainOptions {
    /// Server to connect to: a name, an IPv4 address or an IPv6 address in brackets
    /// [default port: 19988]
    #[arg(long, env = "WONTUN_PEER", value_name = "HOST:PORT")]
    pub peer: Option<PeerAddress>,

    /// Address of the TUN device, IPv4 or IPv6; repeatable [default: 10.8.0.1/24, as a client
    /// 10.8.0.3/24]
    #[arg(long, env = "WONTUN_ADDRESS", value_name = "CIDR", value_delimiter = ',')]
    pub address: Vec<Cidr>,

    /// MTU of the TUN device in bytes [default: 1472, over IPv6 1452]
    #[arg(long, env = "WONTUN_MTU", value_name = "BYTES")]
    pub mtu: Option<u32>,

    /// Leave addresses, MTU and state of the TUN device to other tools
    #[arg(long, env = "WONTUN_NO_CONFIGURE", value_parser = FalseyValueParser::new())]
    pub no_configure: bool,

    /// Local address to listen on; repeatable [default: 0.0.0.0 and ::]
    #[arg(long, env = "WONTUN_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Vec<IpAddr>,

    /// UDP port, 0 for any free port [default: 19988; a client uses another one if that is in use]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT")]
    pub listen_port: Option<u16>,

    /// Keepalive interval in seconds, 0 for none; use the same value on both sides
    ///
    /// A client sends 'hello?' at this interval once the server has answered. A server allows a
    /// client that is silent for three intervals to be replaced.
    #[arg(long, env = "WONTUN_KEEPALIVE", value_name = "SECONDS", default_value_t = 25)]
    pub keepalive: u16,
}

impl PlainOptions {
    /// Returns the options as used by a tunnel.
    pub fn config(self, tun: Option<TunName>) -> PlainConfig {
        PlainConfig {
            peer: self.peer,
            tun: tun.unwrap_or_default(),
            addresses: self.address,
            mtu: self.mtu,
            configure: !self.no_configure,
            listen: self.listen,
            listen_port: self.listen_port,
            keepalive: Duration::from_secs(self.keepalive.into()),
        }
    }
}

/// Performance options, common to all tunnels.
#[derive(Clone, Debug, Args)]
pub struct TuningOptions {
    /// Threads that carry packets, 1 to 256 [default: the CPUs that the process may use]
    #[arg(long, env = "WONTUN_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS))]
    pub workers: Option<u16>,

    /// Segmentation offloads of the kernel
    #[arg(long, env = "WONTUN_OFFLOAD", value_name = "MODE", value_enum, default_value_t = Offload::Auto)]
    pub offload: Offload,

    /// Lower the MSS of TCP connections to avoid fragmentation [default: on; plain mode: off]
    #[arg(long, env = "WONTUN_CLAMP_MSS", value_name = "SWITCH", value_enum)]
    pub clamp_mss: Option<Switch>,
}

/// Maximum number of queues of a TUN device (the kernel's `MAX_TAP_QUEUES`).
const MAX_WORKERS: i64 = 256;

/// The value of `--offload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Offload {
    /// Use those that the kernel supports.
    Auto,
    /// Handle each packet alone, several times slower.
    Off,
}

/// The value of an option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

/// The value of `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Failures that end the tunnel.
    Error,
    /// Problems that the tunnel survives.
    Warn,
    /// Start, stop, peers, changes of the network.
    Info,
    /// Also drops by reason, and addresses of peers.
    Debug,
    /// Also every packet.
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl TuningOptions {
    /// Returns the options as used by a tunnel.
    pub fn tuning(&self) -> Tuning {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let most = usize::try_from(MAX_WORKERS).unwrap_or(usize::MAX);
        Tuning {
            workers: self.workers.map_or_else(|| cores().min(most), usize::from),
            offload: self.offload == Offload::Auto,
            clamp_mss: self.clamp_mss.map(|switch| switch == Switch::On),
        }
    }
}

/// Parses a number of seconds, which may have a fraction.
pub(super) fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("expected a number of seconds from 0.1 to 3600")
}
