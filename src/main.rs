//! The entry point: runs a helper process, a command or a tunnel.

use std::process::ExitCode;

use wontun::cli::{Cli, Command, Run};
use wontun::commands;
use wontun::exit::{self, Failure};
use wontun::{daemon, process, resolver, run};

fn main() -> ExitCode {
    if let Some((role, channel)) = process::helper_role() {
        return ExitCode::from(match role.as_str() {
            "tunnel" => daemon::main(channel),
            "resolver" => resolver::main(channel),
            _ => exit::USAGE,
        });
    }
    ExitCode::from(start().unwrap_or_else(|failure| {
        failure.print();
        failure.code
    }))
}

/// Runs what the command line selects, and returns the exit code.
fn start() -> Result<u8, Failure> {
    let Some(Cli { command, tun, run: options }) = Cli::read()? else { return Ok(0) };
    match command {
        Some(Command::Plain { plain }) => Ok(run::run(tun, Run { plain, ..options }, None)),
        Some(command) => match commands::dispatch(command, tun.clone(), &options)? {
            Some(config) => run::serve(config, tun, options),
            None => Ok(0),
        },
        None if options.interface.is_some() && !options.foreground => run::start_in_background(),
        None => Ok(run::run(tun, options, None)),
    }
}
