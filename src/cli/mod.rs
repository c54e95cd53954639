//! The command line and its environment variables.

mod bare;
mod command;
mod options;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser};

pub use command::{Command, KillSwitchCommand, PeerCommand};
pub use options::{Dir, Missing, Offload, PlainOptions, Run, Server, Switch, TuningOptions};

use crate::config::TunName;
use crate::exit::{self, Failure};

/// Minimum Jaro-Winkler similarity of a NAME to a command for it to count as misspelled, from 0 to
/// 1.
const MISSPELLED: f64 = 0.85;

/// WireGuard tunnels in userspace: servers, clients, and interfaces for wg(8).
///
/// 'wontun serve' creates and runs a WireGuard server, 'wontun peer add' adds a client to it.
/// 'wontun --config FILE' runs the WireGuard tunnel described by FILE (wg-quick format). 'wontun
/// NAME' creates a WireGuard interface for wg(8) to configure. 'wontun plain' runs a tunnel that
/// does not encrypt: the server (tun0 is 10.8.0.1/24, UDP port 19988), or with --peer its client
/// (tun0 is 10.8.0.3/24).
#[derive(Debug, Parser)]
#[command(name = "wontun", version, max_term_width = 110)]
#[command(
    after_help = "Options may be set as environment variables, shown as [env: ...]. Without arguments, WONTUN_CONFIG and WONTUN_PEER, the variable WONTUN_COMMAND selects the command to run: serve or plain."
)]
pub struct Cli {
    /// The command; `None` to run the tunnel of --config, NAME or --peer.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Name of the TUN device [default: tun0, with --config the file's name without .conf]
    #[arg(long, env = "WONTUN_TUN", value_name = "NAME", global = true)]
    pub tun: Option<TunName>,

    /// Options of the tunnel.
    #[command(flatten)]
    pub run: Run,
}

impl Cli {
    /// Parses the command line and the environment. An empty variable counts as unset, since
    /// container set-ups pass unset options that way. Prints help and version if they are requested,
    /// and then returns `None`.
    ///
    /// # Errors
    /// The error in an option.
    pub fn read() -> Result<Option<Self>, Failure> {
        let cli = match Self::parse_all() {
            Ok(cli) => cli,
            Err(error) if error.use_stderr() => return Err(usage(&error)),
            Err(help) => {
                return match help.print() {
                    Ok(()) => Ok(None),
                    Err(error) => Err(Failure::new(exit::FAILURE, format!("cannot write the help: {error}"))),
                };
            }
        };
        match cli.refusal() {
            Some(message) => Err(Failure::new(exit::USAGE, message)),
            None => Ok(Some(cli)),
        }
    }

    fn parse_all() -> Result<Self, clap::Error> {
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

    /// Returns the message for a NAME that is a misspelled command, or a start that selects no tunnel:
    /// the unencrypted one is started by its name only.
    fn refusal(&self) -> Option<String> {
        let Run { interface, foreground, config, plain, .. } = &self.run;
        // wg-quick, which sets this variable, passes the name of a file, and never -f
        let is_checked = !foreground && std::env::var_os("WG_QUICK_USERSPACE_IMPLEMENTATION").is_none();
        if let Some((name, command)) = self.misspelled().filter(|_| is_checked) {
            return Some(format!(
                "unknown command '{name}', did you mean '{command}'? to create an interface of that name, add -f"
            ));
        }
        let is_specified =
            self.command.is_some() || interface.is_some() || config.is_some() || plain.peer.is_some();
        (!is_specified).then(|| bare::refusal(std::env::args_os().skip(1)))
    }

    /// Returns NAME and the command that it resembles, if it resembles one.
    fn misspelled(&self) -> Option<(&str, String)> {
        let name = self.run.interface.as_ref()?.as_str();
        let command = Self::command();
        let similarity = |known: &str| strsim::jaro_winkler(name, known);
        let nearest = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
        (similarity(nearest) > MISSPELLED).then(|| (name, nearest.to_owned()))
    }

    /// Returns the names of all environment variables that are read.
    pub fn variables() -> Vec<String> {
        let mut names = vec![bare::VARIABLE.to_owned()];
        with_arguments(Self::command(), &mut |argument: clap::Arg| {
            names.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
            argument
        });
        names
    }
}

/// Shortens the error to one line.
fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    let message = lines.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    Failure::new(exit::USAGE, format!("{message}; see wontun --help"))
}

/// Applies `change` to each argument of the command and of its subcommands.
fn with_arguments(command: clap::Command, change: &mut impl FnMut(clap::Arg) -> clap::Arg) -> clap::Command {
    command.mut_args(&mut *change).mut_subcommands(|command| with_arguments(command, change))
}
