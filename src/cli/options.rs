//! The options of commands and tunnels.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use tracing::level_filters::LevelFilter;

use crate::config::{
    AllowedNetwork, Cidr, KillSwitchMode, NatMode, PeerAddress, PeerPolicy, TunName, Tuning,
};
use crate::logging::LogTarget;
use crate::metrics::HostName;
use crate::privileges::UserSpec;
use crate::server::{ClientDns, ClientEndpoint, Subnet};

/// The folder of a server.
#[derive(Clone, Debug, Args)]
pub struct Dir {
    /// Folder of the server's files; the file is named after the TUN device (--tun)
    #[arg(long, env = "WONTUN_DIR", value_name = "DIR", default_value = "/etc/wontun", global = true)]
    pub dir: PathBuf,
}

/// Options of a server.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Address that clients connect to; the port is 51820 unless given
    #[arg(long, env = "WONTUN_ENDPOINT", value_name = "HOST[:PORT]")]
    pub endpoint: Option<ClientEndpoint>,

    /// Network of the clients' addresses: one of IPv4, one of IPv6, or both; for a new file only
    /// [default: 10.8.0.0/24 and a random fd…/64]
    #[arg(long, env = "WONTUN_SUBNET", value_name = "CIDR", value_delimiter = ',')]
    pub subnet: Vec<Subnet>,

    /// UDP port to listen on; for a new file only [default: the port of --endpoint]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: Option<u16>,

    /// Name servers for the clients' configurations, separated by commas, or 'none'
    /// [default: for full tunnels those of Quad9]
    #[arg(long, env = "WONTUN_DNS", value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,

    /// File that contains the private key, such as a systemd credential; for a new file only, which
    /// refers to it by PrivateKeyFile [default: a new key in the new file]
    #[arg(long, env = "WONTUN_PRIVATE_KEY_FILE", value_name = "FILE", value_parser = key_file)]
    pub private_key_file: Option<PathBuf>,
}

/// Options that complete an imported file.
#[derive(Clone, Debug, Args)]
pub struct Missing {
    /// Address that clients connect to, for clients added later; the port is 51820 unless given
    #[arg(long, env = "WONTUN_ENDPOINT", value_name = "HOST[:PORT]")]
    pub endpoint: Option<ClientEndpoint>,

    /// UDP port to listen on, which a file of wg-easy does not contain [default: the port of --endpoint, 51820]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: Option<u16>,

    /// Name servers for clients added later, separated by commas, or 'none'
    #[arg(long, env = "WONTUN_DNS", value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,
}

/// Options of a running tunnel.
#[derive(Debug, Args)]
pub struct Run {
    /// Create a WireGuard interface of this name for wg(8) to configure, and go to the background
    #[arg(value_name = "NAME", conflicts_with_all = ["config", "tun", "peer", "address", "mtu", "no_configure", "listen", "listen_port", "keepalive"])]
    pub interface: Option<TunName>,

    /// With NAME: stay in the foreground
    #[arg(short, long, requires = "interface")]
    pub foreground: bool,

    /// Run the WireGuard tunnel described by FILE (wg-quick format); SIGHUP reads it again
    #[arg(long, env = "WONTUN_CONFIG", value_name = "FILE", conflicts_with_all = ["peer", "address", "mtu", "no_configure", "listen", "listen_port", "keepalive"])]
    pub config: Option<PathBuf>,

    /// Ignore PreUp, PostUp, PreDown, PostDown and SaveConfig in the file instead of refusing them
    #[arg(long, env = "WONTUN_IGNORE_HOOKS", value_parser = FalseyValueParser::new(), global = true)]
    pub ignore_hooks: bool,

    /// Enable forwarding and NAT for clients [default: serve: auto; --config: off]
    #[arg(long, env = "WONTUN_NAT", value_name = "MODE", value_enum, global = true)]
    pub nat: Option<NatMode>,

    /// With --nat auto: link-local network that clients may reach; repeatable [default: none]
    ///
    /// A cloud's metadata service at 169.254.169.254, which may serve credentials of this host, is
    /// such a network.
    #[arg(long, env = "WONTUN_NAT_ALLOW", value_name = "CIDR", value_delimiter = ',', global = true)]
    pub nat_allow: Vec<Cidr>,

    /// Traffic allowed between clients through this host [default: open]
    #[arg(long, env = "WONTUN_POLICY", value_name = "POLICY", value_enum, global = true)]
    pub policy: Option<PeerPolicy>,

    /// With a default route: block all traffic of this host except through the tunnel
    ///
    /// The kill switch stays when the tunnel fails or cannot start. MODE is on (also if it is left
    /// out): until SIGTERM or 'wontun kill-switch off'; keep: after SIGTERM, too; or off.
    #[arg(long, env = "WONTUN_KILL_SWITCH", value_name = "MODE", num_args = 0..=1, default_missing_value = "on", global = true)]
    pub kill_switch: Option<KillSwitchMode>,

    /// With --kill-switch: network that is not blocked, such as that of SSH clients; repeatable
    #[arg(long, env = "WONTUN_KILL_SWITCH_ALLOW", value_name = "CIDR", value_delimiter = ',', global = true)]
    pub kill_switch_allow: Vec<AllowedNetwork>,

    /// Name server for endpoints that are names, queried outside the tunnel before those of
    /// /etc/resolv.conf; repeatable
    #[arg(long, env = "WONTUN_RESOLVER", value_name = "ADDRESS", value_delimiter = ',', global = true)]
    pub resolver: Vec<IpAddr>,

    /// With a default route: let DNS queries bypass the tunnel to resolve an endpoint
    ///
    /// If the address of an endpoint's name cannot be found otherwise, all queries to name servers
    /// (ports 53 and 853) bypass the tunnel for at most 5 s. For a host with a name server of its
    /// own; prefer --resolver. Excludes --kill-switch.
    #[arg(long, env = "WONTUN_DNS_BYPASS", value_parser = FalseyValueParser::new(), global = true)]
    pub dns_bypass: bool,

    /// Options of a plain tunnel; --peer starts its client without the command 'plain', too.
    #[command(flatten)]
    pub plain: PlainOptions,

    /// Switch to this user once everything is open, keeping CAP_NET_ADMIN: a name, UID or UID:GID
    #[arg(long, env = "WONTUN_USER", value_name = "USER", global = true)]
    pub user: Option<UserSpec>,

    /// Disable the sandbox (seccomp and Landlock), for debugging
    #[arg(long, env = "WONTUN_NO_SANDBOX", value_parser = FalseyValueParser::new(), global = true)]
    pub no_sandbox: bool,

    /// Tuning options.
    #[command(flatten)]
    pub tuning: TuningOptions,

    /// Serve Prometheus metrics at this address, path /metrics, without authentication
    #[arg(long, env = "WONTUN_METRICS", value_name = "ADDRESS:PORT", global = true)]
    pub metrics: Option<SocketAddr>,

    /// Host name under which metrics may be requested, besides addresses and localhost; repeatable
    #[arg(long, env = "WONTUN_METRICS_HOST", value_name = "NAME", value_delimiter = ',', global = true)]
    pub metrics_host: Vec<HostName>,

    /// Minimum level of log messages
    #[arg(long, env = "WONTUN_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = log_level(), global = true)]
    pub log_level: LevelFilter,

    /// Destination of the log
    #[arg(long, env = "WONTUN_LOG_TARGET", value_name = "TARGET", value_enum, default_value_t = LogTarget::Auto, global = true)]
    pub log_target: LogTarget,
}

/// Options of a plain tunnel.
#[derive(Clone, Debug, Args)]
pub struct PlainOptions {
    /// Server to connect to: a name, an IPv4 address or an IPv6 address in brackets
    /// [default port: 19988]
    #[arg(long, env = "WONTUN_PEER", value_name = "HOST:PORT")]
    pub peer: Option<PeerAddress>,

    /// Address of the TUN device, IPv4 or IPv6; repeatable [default: 10.8.0.1/24, as a client 10.8.0.3/24]
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

/// Performance options, common to all tunnels.
#[derive(Debug, Args)]
pub struct TuningOptions {
    /// Threads that carry packets, 1 to 256 [default: the CPUs that the process may use]
    #[arg(long, env = "WONTUN_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS), global = true)]
    pub workers: Option<u16>,

    /// Segmentation offloads of the kernel
    #[arg(long, env = "WONTUN_OFFLOAD", value_name = "MODE", value_enum, default_value_t = Offload::Auto, global = true)]
    pub offload: Offload,

    /// Lower the MSS of TCP connections to avoid fragmentation [default: on; plain mode: off]
    #[arg(long, env = "WONTUN_CLAMP_MSS", value_name = "SWITCH", value_enum, global = true)]
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

/// Parses a path, makes it absolute, and rejects one that cannot be written to a configuration file.
fn key_file(text: &str) -> Result<PathBuf, String> {
    if text.contains('#') || text.contains(char::is_control) || text.trim() != text {
        return Err("expected a path without '#', control characters, and spaces at its ends, none of which can be written to the configuration file".to_owned());
    }
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// Parses a number of seconds, which may have a fraction.
pub(super) fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("expected a number of seconds from 0.1 to 3600")
}

/// Returns the parser of a log level. `LevelFilter` itself also accepts numbers and the empty text.
fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|name| name.parse::<LevelFilter>())
}
