//! The command line and its environment variables.
//!
//! Each command has the options that it uses, and no others. They may also stand before the
//! command: `Arguments` moves them behind it. Without a command, the options select and describe
//! the tunnel to run.

mod access;
mod admin_page;
mod arguments;
mod bare;
mod command;
mod delivery;
mod enroll;
mod hints;
mod limits;
mod options;
mod peer;
mod peer_settings;
mod rules;
mod unknown_word;
mod usage;

use std::ffi::OsString;
use std::io;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use command::{AdminCommand, Command, KillSwitchCommand, Shell, TokenCommand};
pub use delivery::DeliveryOptions;
pub use enroll::CodeArgument;
pub(crate) use options::{DEFAULT_FOLDER, SERVER_FOLDERS};
pub use options::{
    FullTunnelOptions, LogLevel, Offload, PlainOptions, RunOptions, RunningTunnel, ServerFolder,
    SocketFolder, Switch, TunOption, TuningOptions, TunnelKind, TunnelOptions, WireGuardOptions,
};
pub use peer::{
    AddOptions, InviteOptions, Ipv6Option, NewClientOptions, PeerCommand, RenewOptions, SetOptions,
    TestOptions,
};
pub use peer_settings::{ClientOptions, PeerSettingsOptions};

use crate::config::TunName;
use crate::exit::{self, Failure};
use arguments::Arguments;

/// Variable by which wg-quick is told to run this program.
const WG_QUICK: &str = "WG_QUICK_USERSPACE_IMPLEMENTATION";

/// Version, revision if known, features and target.
const LONG_VERSION: &str = include_str!(concat!(env!("OUT_DIR"), "/version.txt"));

/// The command or tunnel that the command line selects.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// A command.
    Command(Box<Command>),
    /// A tunnel to run.
    Tunnel {
        /// The tunnel and its options.
        options: Box<RunOptions>,
        /// True if it runs in the background once it is ready.
        is_background: bool,
    },
}

/// WireGuard tunnels in userspace: servers, clients, and interfaces for wg(8).
///
/// 'wontun serve' creates and runs a WireGuard server, 'wontun peer add' adds a client to it.
/// 'wontun --config FILE' runs the WireGuard tunnel described by FILE (wg-quick format). 'wontun
/// interface NAME' creates a WireGuard interface for wg(8) to configure. 'wontun plain' runs a
/// tunnel that does not encrypt: the server (tun0 is 10.8.0.1/24, UDP port 19988), or with --peer
/// its client (tun0 is 10.8.0.3/24).
#[derive(Debug, Parser)]
#[command(name = "wontun", version, long_version = LONG_VERSION, max_term_width = 110)]
#[command(
    override_usage = "wontun <COMMAND> [OPTIONS]\n       wontun --config <FILE> [OPTIONS]",
    after_help = "Options may be set as environment variables, shown as [env: ...]. Without arguments, WONTUN_CONFIG and WONTUN_PEER, the variable WONTUN_COMMAND selects the command to run: serve or plain."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<AnyCommand>,

    /// Run the WireGuard tunnel described by FILE (wg-quick format); SIGHUP reads it again
    #[arg(long, env = "WONTUN_CONFIG", value_name = "FILE", conflicts_with_all = ["peer", "address", "mtu", "no_configure", "listen", "listen_port", "keepalive"])]
    config: Option<std::path::PathBuf>,

    #[command(flatten)]
    tun: TunOption,

    #[command(flatten)]
    options: WireGuardOptions,

    #[command(flatten)]
    common: TunnelOptions,

    #[command(flatten)]
    plain: PlainOptions,
}

/// All commands.
#[derive(Debug, Subcommand)]
enum AnyCommand {
    #[command(flatten)]
    Command(Command),
    /// Create a WireGuard interface for wg(8) to configure, and go to the background
    ///
    /// MTU 1420, and a control socket for wg(8). Addresses, routes and keys are set by other tools.
    /// 'wontun -f NAME' is the same as 'wontun interface -f NAME'.
    Interface {
        /// Name of the interface
        #[arg(value_name = "NAME")]
        name: TunName,

        /// Stay in the foreground
        #[arg(short, long)]
        foreground: bool,

        /// Options of other tunnels: an error if set.
        #[command(flatten)]
        options: WireGuardOptions,

        /// Options that all tunnels have.
        #[command(flatten)]
        common: TunnelOptions,
    },
}

impl Invocation {
    /// Parses the command line and the environment. An empty variable counts as unset, since
    /// container set-ups pass unset options that way. Prints help and version if they are
    /// requested, and then returns `None`.
    ///
    /// # Errors
    /// An error of the command line, in one line: what is given, what is expected, and an example.
    pub fn read() -> Result<Option<Self>, Failure> {
        let mut arguments: Vec<_> = std::env::args_os().collect();
        if arguments.len() <= 1 {
            let name = bare::command(|name| std::env::var_os(name))
                .map_err(|message| Failure::new(exit::USAGE, format!("{message}; see wontun --help")))?;
            arguments.extend(name.map(Into::into));
        }
        Self::parse(arguments, std::env::var_os(WG_QUICK).is_some_and(|value| !value.is_empty()))
    }

    fn parse(arguments: Vec<OsString>, is_by_wg_quick: bool) -> Result<Option<Self>, Failure> {
        let usage = |message| Failure::new(exit::USAGE, message);
        let mut root = command();
        let arguments = Arguments::new(&root, arguments, is_by_wg_quick);
        if !arguments.path.is_empty() {
            // of the options without a command, which have variables in common with those of
            // commands
            root = root.mut_args(|argument| argument.env(None));
        }
        root = map_arguments(root, &mut |argument| {
            let value = argument.get_env().and_then(std::env::var_os);
            if value.is_some_and(|value| value.is_empty()) { argument.env(None) } else { argument }
        });
        let parsed = root.try_get_matches_from_mut(arguments.all());
        match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
            Ok(cli) => cli.invocation(&arguments).map(Some),
            Err(error) if error.use_stderr() => Err(usage(usage::message(&error, &mut root, &arguments))),
            Err(help) => match help.print() {
                Ok(()) => Ok(None),
                // it is no error if the reader is gone
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
                Err(error) => Err(Failure::new(exit::FAILURE, format!("cannot write the help: {error}"))),
            },
        }
    }
}

impl Cli {
    fn invocation(self, arguments: &Arguments) -> Result<Invocation, Failure> {
        let usage = |message| Err(Failure::new(exit::USAGE, message));
        let Self { command, config, tun: TunOption { tun }, options, common, plain } = self;
        if let Some(AnyCommand::Command(Command::Plain { .. })) = command
            && let Some(file) = std::env::var_os("WONTUN_CONFIG").filter(|file| !file.is_empty())
        {
            return usage(format!(
                "a plain tunnel has no file, and WONTUN_CONFIG is {}: unset it, or leave 'plain' out; see wontun plain \
                 --help",
                file.display()
            ));
        }
        let (tunnel, common, is_background) = match (command, config) {
            (Some(AnyCommand::Command(command)), _) => return Ok(Invocation::Command(Box::new(command))),
            (Some(AnyCommand::Interface { name, foreground, options, common }), _) => {
                options.require_none()?;
                (TunnelKind::Interface(name), common, !foreground)
            }
            (None, Some(path)) => (TunnelKind::File { path, tun, options }, common, false),
            (None, None) if plain.peer.is_some() => {
                options.require_none()?;
                (TunnelKind::Plain { tun, options: plain }, common, false)
            }
            (None, None) => return usage(bare::refusal(arguments.given().map(OsString::from))),
        };
        Ok(Invocation::Tunnel { options: Box::new(RunOptions { tunnel, common }), is_background })
    }
}

/// Returns the definition of the command line, from which help, completions and manual pages are
/// made.
pub fn command() -> clap::Command {
    let (full_tunnel, all) = (hide::<FullTunnelOptions>(), hide::<WireGuardOptions>());
    let command = map_arguments(Cli::command(), &mut |argument| argument.hide_env_values(true));
    command.mut_subcommands(|command| match command.get_name() {
        // these are accepted there for the sake of an error that says why they are refused
        "serve" => command.mut_args(&full_tunnel),
        "plain" | "interface" => command.mut_args(&all),
        _ => command,
    })
}

/// Returns a function that hides an argument if it is one of `T`.
fn hide<T: Args>() -> impl Fn(clap::Arg) -> clap::Arg {
    let hidden: Vec<_> = T::augment_args(clap::Command::new(""))
        .get_arguments()
        .map(|argument| argument.get_id().clone())
        .collect();
    move |argument| {
        let is_hidden = hidden.contains(argument.get_id());
        argument.hide(is_hidden)
    }
}

/// Returns the names of all environment variables that are read.
pub fn variables() -> Vec<String> {
    let mut names = vec![bare::VARIABLE.to_owned()];
    map_arguments(command(), &mut |argument: clap::Arg| {
        let name = argument.get_env().map(|name| name.to_string_lossy().into_owned());
        names.extend(name.filter(|name| !names.contains(name)));
        argument
    });
    names
}

/// Applies `change` to each argument of the command and of its subcommands.
fn map_arguments(command: clap::Command, change: &mut impl FnMut(clap::Arg) -> clap::Arg) -> clap::Command {
    command.mut_args(&mut *change).mut_subcommands(|command| map_arguments(command, change))
}

#[cfg(test)]
mod tests;
