//! The command line and its environment variables.

mod bare;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::config::{
    AllowedNetwork, Cidr, KillSwitchMode, NatMode, PeerAddress, PeerPolicy, TunName, Tuning,
};
use crate::logging::Target;
use crate::metrics::HostName;
use crate::privileges::UserSpec;
use crate::server::{ClientDns, ClientEndpoint, PeerName, Subnet};

/// How alike a name must be to a command's for a slip of the fingers to be supposed, from 0 to 1.
const ALIKE: f64 = 0.85;

/// Joins hosts into a private network: IP packets from a TUN device, carried in UDP.
///
/// 'wontun serve' makes and runs a WireGuard server, 'wontun peer add' gives it a client. With
/// --config it is WireGuard, as the file says, which is one of wg-quick's. With a NAME it is a
/// WireGuard interface that wg(8) configures. 'wontun plain' does not encrypt: it is a server (tun0
/// is 10.8.0.1/24, UDP port 19988 is open), or with --peer the client of that server (tun0 is
/// 10.8.0.3/24).
#[derive(Debug, Parser)]
#[command(name = "wontun", version, max_term_width = 110)]
#[command(
    after_help = "Without an argument, WONTUN_CONFIG and WONTUN_PEER, the variable WONTUN_COMMAND gives the command to run: serve or plain."
)]
pub struct Cli {
    /// The command; none: run the tunnel of --config, NAME or --peer.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Name of the TUN device, of the tunnel to run or to ask [default: tun0, with --config the file's name without .conf]
    #[arg(long, env = "WONTUN_TUN", value_name = "NAME", global = true)]
    pub tun: Option<TunName>,

    /// What to run.
    #[command(flatten)]
    pub run: Run,
}

/// Commands beside running a tunnel.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Tell whether the running tunnel's loop is alive and its device up: exit code 0 if so, else 1
    Health {
        /// Name of its device; none: the only one that runs
        name: Option<TunName>,
        /// Fail also if no peer has completed a handshake for so long, in seconds
        #[arg(long, env = "WONTUN_MAX_HANDSHAKE_AGE", value_name = "SECONDS")]
        max_handshake_age: Option<u32>,
    },
    /// Have a running tunnel read its configuration again and put back its state on the host
    /// (SIGHUP)
    Reload {
        /// Name of its device; none: the only one that runs
        name: Option<TunName>,
    },
    /// Make a WireGuard server's key and configuration, DIR/tun0.conf; what is there already stays as it is
    Init {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// What.
        #[command(flatten)]
        server: Server,
    },
    /// Run the WireGuard server of DIR/tun0.conf, which is made first if there is none
    Serve {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// What.
        #[command(flatten)]
        server: Server,
    },
    /// Run a tunnel that does not encrypt or authenticate anything, for labs and trusted wires: the
    /// server, or with --peer its client
    Plain {
        /// Options of the tunnel.
        #[command(flatten)]
        plain: PlainOptions,
    },
    /// Make DIR/tun0.conf of another set-up's file, with its keys, so that its clients go on as they are. Nothing of the file
    /// is run; what wontun does in another way, or not at all, is said
    Import {
        /// wg-quick's file, or the wg0.json of wg-easy 14 and before; '-' is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Write nothing, and print the file that would be made without its secrets
        #[arg(long)]
        dry_run: bool,

        /// Where.
        #[command(flatten)]
        dir: Dir,

        /// What.
        #[command(flatten)]
        missing: Missing,
    },
    /// Add, list, show, remove or rename the clients of the server, in DIR/tun0.conf and in the tunnel that runs
    Peer {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// Which of these.
        #[command(subcommand)]
        command: PeerCommand,
    },
    /// Show running WireGuard tunnels: peers, endpoints, handshakes, transfer, drops by reason; never a secret
    Show {
        /// Where its socket may be, besides where wg(8) looks.
        #[command(flatten)]
        dir: Dir,

        /// Name of the tunnel [default: that of --tun, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a running WireGuard tunnel on this terminal: peers, rates, handshakes, drops
    Top {
        /// Where its socket may be, besides where wg(8) looks.
        #[command(flatten)]
        dir: Dir,

        /// Name of the tunnel [default: that of --tun, or the only one, or a list to choose from]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// Time between two looks, from 0.1 to 3600
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
        interval: Duration,
    },
    /// Engage a kill switch before its tunnel runs, or take one away: see --kill-switch
    KillSwitch {
        /// Which of these.
        #[command(subcommand)]
        command: KillSwitchCommand,
    },
    /// Same as 'kill-switch off'
    Unlock {
        /// Name of the tunnel [default: that of --tun or --config, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,
    },
    /// Print a new private key
    Genkey,
    /// Read a private key from standard input and print its public key
    Pubkey,
    /// Print a new preshared key
    Genpsk,
}

/// Subcommands of `wontun kill-switch`.
#[derive(Clone, Debug, Subcommand)]
pub enum KillSwitchCommand {
    /// Let nothing leave this host but through the tunnel, which need not run yet; for the boot,
    /// before any network
    On {
        /// Name of the tunnel
        #[arg(value_name = "NAME")]
        name: TunName,

        /// Network that everything may be sent to; repeatable. To be the same as the tunnel's
        /// --kill-switch-allow
        #[arg(long, value_name = "CIDR", value_delimiter = ',')]
        allow: Vec<AllowedNetwork>,
    },
    /// Let everything leave this host again. A tunnel that runs goes on without a kill switch until
    /// its next start
    Off {
        /// Name of the tunnel [default: that of --tun or --config, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,
    },
}

/// The folder of a server.
#[derive(Clone, Debug, Args)]
pub struct Dir {
    /// Folder of the server's files; its tunnel's is called as the TUN device, tun0.conf unless --tun says otherwise
    #[arg(long, env = "WONTUN_DIR", value_name = "DIR", default_value = "/etc/wontun", global = true)]
    pub dir: PathBuf,
}

/// What a server is to be.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Name or address by which clients find this server; without a port it is 51820
    #[arg(long, env = "WONTUN_ENDPOINT", value_name = "HOST[:PORT]")]
    pub endpoint: Option<ClientEndpoint>,

    /// Network that clients get their addresses from, one of IPv4, one of IPv6 or both; for a new file only
    /// [default: 10.8.0.0/24 and a random fd…/64]
    #[arg(long, env = "WONTUN_SUBNET", value_name = "CIDR", value_delimiter = ',')]
    pub subnet: Vec<Subnet>,

    /// UDP port to listen on; for a new file only [default: the endpoint's]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: Option<u16>,

    /// Name servers that clients are told, separated by commas, or 'none' [default: for a full tunnel those of Quad9]
    #[arg(long, env = "WONTUN_DNS", value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,

    /// File with the private key, such as a credential of systemd's; for a new file only, which then says
    /// PrivateKeyFile = FILE [default: a new key, in the new file itself]
    #[arg(long, env = "WONTUN_PRIVATE_KEY_FILE", value_name = "FILE", value_parser = key_file)]
    pub private_key_file: Option<PathBuf>,
}

/// What another set-up's file does not say.
#[derive(Clone, Debug, Args)]
pub struct Missing {
    /// Name or address by which clients find this server, for those that are added later
    #[arg(long, env = "WONTUN_ENDPOINT", value_name = "HOST[:PORT]")]
    pub endpoint: Option<ClientEndpoint>,

    /// UDP port that the server listens on, which wg-easy's file does not say [default: the endpoint's, 51820]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: Option<u16>,

    /// Name servers that clients are told that are added later, separated by commas, or 'none'
    #[arg(long, env = "WONTUN_DNS", value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,
}

/// What to do with the clients of a server.
#[derive(Clone, Debug, Subcommand)]
pub enum PeerCommand {
    /// Add a client and print its configuration, a file for wg-quick, wontun and the WireGuard apps. Its private key is
    /// nowhere else: print it to a file of mode 0600, or show it as a QR code
    Add {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: PeerName,

        /// Have it send everything through the tunnel, instead of what is for the server and its other clients
        #[arg(long)]
        full_tunnel: bool,

        /// The client's own public key: it keeps the private one to itself, and its configuration is printed without
        #[arg(long, value_name = "KEY", conflicts_with_all = ["qr", "qr_file"])]
        public_key: Option<String>,

        /// Name servers for this client, separated by commas, or 'none' [default: as wontun init was told]
        #[arg(long, value_name = "ADDRESSES")]
        dns: Option<ClientDns>,

        /// Show the configuration as a QR code too, on standard error
        #[arg(long)]
        qr: bool,

        /// Write the configuration as a QR code too, into a new SVG file of mode 0600
        #[arg(long, value_name = "FILE")]
        qr_file: Option<PathBuf>,
    },
    /// List the clients
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of a client; its private key is not
    Show {
        /// Its name or public key
        #[arg(value_name = "NAME")]
        name: String,

        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a client: it is cut off at once
    Remove {
        /// Its name or public key
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Give a client another name
    Rename {
        /// Its name or public key
        #[arg(value_name = "NAME")]
        name: String,

        /// What to call it
        #[arg(value_name = "NEW-NAME")]
        new_name: PeerName,
    },
}

/// Options of a running tunnel.
#[derive(Debug, Args)]
pub struct Run {
    /// Make a WireGuard interface of this name for wg(8) to configure, and go to the background once it is there
    #[arg(value_name = "NAME", conflicts_with_all = ["config", "tun", "peer", "address", "mtu", "no_configure", "listen", "listen_port", "keepalive"])]
    pub interface: Option<TunName>,

    /// With NAME: stay in the foreground
    #[arg(short, long, requires = "interface")]
    pub foreground: bool,

    /// Be what this WireGuard configuration says, a file as wg-quick's; read again on SIGHUP
    #[arg(long, env = "WONTUN_CONFIG", value_name = "FILE", conflicts_with_all = ["peer", "address", "mtu", "no_configure", "listen", "listen_port", "keepalive"])]
    pub config: Option<PathBuf>,

    /// Leave PreUp, PostUp, PreDown, PostDown and SaveConfig of the file out instead of refusing it; none is ever run
    #[arg(long, env = "WONTUN_IGNORE_HOOKS", value_parser = FalseyValueParser::new(), global = true)]
    pub ignore_hooks: bool,

    /// With serve or --config: let the peers out to the rest of the world, with this host's address. auto: unless a
    /// peer has the default route [default: with serve auto, with --config off]
    #[arg(long, env = "WONTUN_NAT", value_name = "MODE", value_enum, global = true)]
    pub nat: Option<NatMode>,

    /// With --nat auto: let the peers reach this link-local network with this host's address, such
    /// as 169.254.169.254/32, where a cloud serves this host's credentials; repeatable [default:
    /// none of 169.254.0.0/16, fe80::/10]
    #[arg(long, env = "WONTUN_NAT_ALLOW", value_name = "CIDR", value_delimiter = ',', global = true)]
    pub nat_allow: Vec<Cidr>,

    /// With serve or --config: what the peers may send each other through this host. open: all that
    /// their AllowedIPs allow; isolate: nothing [default: open]
    #[arg(long, env = "WONTUN_POLICY", value_name = "POLICY", value_enum, global = true)]
    pub policy: Option<PeerPolicy>,

    /// With --config and a default route: let nothing leave this host but through the tunnel, not
    /// even when it fails or cannot start. on, which is also meant without a MODE: until SIGTERM or
    /// 'wontun kill-switch off'; keep: after SIGTERM, too
    #[arg(long, env = "WONTUN_KILL_SWITCH", value_name = "MODE", num_args = 0..=1, default_missing_value = "on", global = true)]
    pub kill_switch: Option<KillSwitchMode>,

    /// With --kill-switch: network that everything may be sent to, past the tunnel too; repeatable.
    /// For SSH, say
    #[arg(long, env = "WONTUN_KILL_SWITCH_ALLOW", value_name = "CIDR", value_delimiter = ',', global = true)]
    pub kill_switch_allow: Vec<AllowedNetwork>,

    /// Name server that is asked first for the address of a peer's name, before those of
    /// /etc/resolv.conf, and past the tunnel; repeatable
    #[arg(long, env = "WONTUN_RESOLVER", value_name = "ADDRESS", value_delimiter = ',', global = true)]
    pub resolver: Vec<IpAddr>,

    /// With --config and a default route, not with --kill-switch: where the address of a peer's
    /// name cannot be found otherwise, let all questions to name servers (port 53 and 853) pass the
    /// tunnel by for at most 5 s. For a host with a name server of its own; --resolver is better
    #[arg(long, env = "WONTUN_DNS_BYPASS", value_parser = FalseyValueParser::new(), global = true)]
    pub dns_bypass: bool,

    /// Options of a plain tunnel; with --peer they start its client without the command 'plain',
    /// too.
    #[command(flatten)]
    pub plain: PlainOptions,

    /// Become this user once all is open, and keep CAP_NET_ADMIN: a name, UID or UID:GID
    #[arg(long, env = "WONTUN_USER", value_name = "USER", global = true)]
    pub user: Option<UserSpec>,

    /// Do without the sandbox (seccomp and Landlock), to find out whether it is in the way
    #[arg(long, env = "WONTUN_NO_SANDBOX", value_parser = FalseyValueParser::new(), global = true)]
    pub no_sandbox: bool,

    /// Tuning options.
    #[command(flatten)]
    pub tuning: TuningOptions,

    /// Serve metrics for Prometheus on this address, at /metrics, to whoever reaches it: there is
    /// no password
    #[arg(long, env = "WONTUN_METRICS", value_name = "ADDRESS:PORT", global = true)]
    pub metrics: Option<SocketAddr>,

    /// Name of this host under which metrics are requested, besides its addresses and localhost;
    /// repeatable
    #[arg(long, env = "WONTUN_METRICS_HOST", value_name = "NAME", value_delimiter = ',', global = true)]
    pub metrics_host: Vec<HostName>,

    /// Least serious message to log
    #[arg(long, env = "WONTUN_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = log_level(), global = true)]
    pub log_level: LevelFilter,

    /// Destination of the log; auto: to journald if systemd connected stderr to it, else to stderr
    #[arg(long, env = "WONTUN_LOG_TARGET", value_name = "TARGET", value_enum, default_value_t = Target::Auto, global = true)]
    pub log_target: Target,
}

/// Options of a plain tunnel.
#[derive(Clone, Debug, Args)]
pub struct PlainOptions {
    /// Be the client of this server: a name, an IPv4 address or an IPv6 address in brackets, then :PORT
    #[arg(long, env = "WONTUN_PEER", value_name = "HOST:PORT")]
    pub peer: Option<PeerAddress>,

    /// Address of the TUN device, IPv4 or IPv6; repeatable [default: 10.8.0.1/24, as a client 10.8.0.3/24]
    #[arg(long, env = "WONTUN_ADDRESS", value_name = "CIDR", value_delimiter = ',')]
    pub address: Vec<Cidr>,

    /// MTU of the TUN device in bytes [default: 1472, over IPv6 1452]
    #[arg(long, env = "WONTUN_MTU", value_name = "BYTES")]
    pub mtu: Option<u32>,

    /// Leave the TUN device's addresses, MTU and state to other tools
    #[arg(long, env = "WONTUN_NO_CONFIGURE", value_parser = FalseyValueParser::new())]
    pub no_configure: bool,

    /// Local address to listen on; repeatable [default: 0.0.0.0 and ::]
    #[arg(long, env = "WONTUN_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Vec<IpAddr>,

    /// UDP port to bind, 0 for any that is free [default: 19988; a client takes another if that is taken]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT")]
    pub listen_port: Option<u16>,

    /// Seconds between two hello? of a client that was answered; 0 for none. A server lets a client that was
    /// silent for three of them be replaced
    #[arg(long, env = "WONTUN_KEEPALIVE", value_name = "SECONDS", default_value_t = 25)]
    pub keepalive: u16,
}

/// How the work is done, whichever the protocol.
#[derive(Debug, Args)]
pub struct TuningOptions {
    /// Threads that carry packets, 1 to 256 [default: one for each core that the process may run on]
    #[arg(long, env = "WONTUN_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS), global = true)]
    pub workers: Option<u16>,

    /// Let the kernel join and cut packets, which is what makes it fast; off: each packet by itself
    #[arg(long, env = "WONTUN_OFFLOAD", value_name = "WHETHER", value_enum, default_value_t = Offload::Auto, global = true)]
    pub offload: Offload,

    /// Lower the MSS of TCP connections to what crosses the tunnel unfragmented [default: on, in plain mode off]
    #[arg(long, env = "WONTUN_CLAMP_MSS", value_name = "WHETHER", value_enum, global = true)]
    pub clamp_mss: Option<Switch>,
}

/// Queues that a TUN device can have (the kernel's `MAX_TAP_QUEUES`).
const MAX_WORKERS: i64 = 256;

/// Whether the kernel is asked to join and cut packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Offload {
    /// As far as it can.
    Auto,
    /// Not at all.
    Off,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

impl TuningOptions {
    /// The options as the tunnel takes them.
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

/// A path that can stand in a configuration and means the same wherever it is read.
fn key_file(text: &str) -> Result<PathBuf, String> {
    if text.contains('#') || text.contains(char::is_control) || text.trim() != text {
        return Err("no line of the configuration can hold this path: give one without '#', line breaks and spaces at its ends".to_owned());
    }
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// Seconds, with a fraction if need be.
fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("expected a number of seconds from 0.1 to 3600")
}

/// `LevelFilter` itself also reads numbers, and an empty text as a level.
fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|name| name.parse::<LevelFilter>())
}

impl Cli {
    /// Reads the command line and the environment, in which an empty variable is as good as none: that is how
    /// container set-ups pass an option that nobody chose.
    ///
    /// # Errors
    /// What is wrong with an option, or the help that was asked for.
    pub fn read() -> Result<Self, clap::Error> {
        let unset = |argument: clap::Arg| {
            let empty = argument
                .get_env()
                .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
            if empty { argument.env(None) } else { argument }
        };
        let mut command = with_arguments(Self::command(), &mut { unset });
        let mut arguments: Vec<_> = std::env::args_os().collect();
        if arguments.len() <= 1 {
            let of_environment = bare::command(|name| std::env::var_os(name));
            let name = of_environment.map_err(|message| command.error(ErrorKind::InvalidValue, message))?;
            arguments.extend(name.map(Into::into));
        }
        let matches = command.try_get_matches_from_mut(arguments)?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        if let Some((known, _)) = matches.subcommand() {
            if let Some(name) = cli.misplaced(&matches) {
                let message =
                    format!("{name} stands before the command '{known}': try wontun {known} --help");
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
            if let (Some(Command::Plain { .. }), Some(file)) = (&cli.command, &cli.run.config) {
                let message = format!(
                    "a plain tunnel has no file, and --config or WONTUN_CONFIG gives {}: leave that or 'plain' out",
                    file.display()
                );
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
        }
        Ok(cli)
    }

    /// Returns what was given before a command and has no effect there: a name, or an option of a
    /// plain tunnel.
    fn misplaced(&self, matches: &clap::ArgMatches) -> Option<String> {
        if let Some(name) = &self.run.interface {
            return Some(format!("'{name}'"));
        }
        let options = PlainOptions::augment_args(clap::Command::new(""));
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let option = options.get_arguments().find(|argument| given(argument.get_id().as_str()))?;
        option.get_long().map(|name| format!("--{name}"))
    }

    /// Returns the message for a start that says how to run a tunnel, or nothing at all, and not
    /// which tunnel: the unencrypted one is started by its name only.
    pub fn refusal(&self) -> Option<String> {
        let Run { interface, config, plain, .. } = &self.run;
        let is_told =
            self.command.is_some() || interface.is_some() || config.is_some() || plain.peer.is_some();
        (!is_told).then(|| bare::refusal(std::env::args_os().skip(1)))
    }

    /// The name of the interface to make, if it looks like a command that was meant, and that command.
    pub fn misspelled(&self) -> Option<(&str, String)> {
        let name = self.run.interface.as_ref()?.as_str();
        let command = Self::command();
        let alike = |known: &str| strsim::jaro_winkler(name, known);
        let nearest = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(nearest) > ALIKE).then(|| (name, nearest.to_owned()))
    }

    /// The names of all variables that options are read from.
    pub fn variables() -> Vec<String> {
        let mut names = vec![bare::VARIABLE.to_owned()];
        with_arguments(Self::command(), &mut |argument: clap::Arg| {
            names.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
            argument
        });
        names
    }
}

/// The command with each argument of it, and of the commands below it, as `change` makes it.
fn with_arguments(command: clap::Command, change: &mut impl FnMut(clap::Arg) -> clap::Arg) -> clap::Command {
    command.mut_args(&mut *change).mut_subcommands(|command| with_arguments(command, change))
}
