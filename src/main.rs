//! The entry point: runs a helper process, a command or a tunnel.

use std::process::ExitCode;

use wontun::cli::Invocation;
use wontun::exit::{self, Failure};
use wontun::run::{self, OnReady};
use wontun::{admin, commands, daemon, dns, enroll, names, process, resolver};

fn main() -> ExitCode {
    if let Some((role, channel)) = process::helper_role() {
        return ExitCode::from(match role.as_str() {
            "tunnel" => daemon::main(channel),
            "resolver" => resolver::main(channel),
            "dns" => dns::main(channel),
            "names" => names::main(channel),
            "enroll" => enroll::main(channel),
            "admin" => admin::main(channel),
            "editor" => admin::editor::main(channel),
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
    let options = match Invocation::read()? {
        Some(Invocation::Command(command)) => commands::dispatch(*command)?,
        Some(Invocation::Tunnel { is_background: true, .. }) => return run::start_in_background(),
        Some(Invocation::Tunnel { options, is_background: false }) => Some((*options, OnReady::Nothing)),
        // help or version
        None => None,
    };
    Ok(options.map_or(0, |(options, on_ready)| run::run(options, on_ready)))
}
