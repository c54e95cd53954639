//! Writes the manual pages of wontun's commands, made from the definition of the command line:
//! `cargo run --example man -- FOLDER` writes `wontun.1`, `wontun-serve.1` and so on.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("usage: cargo run --example man -- FOLDER");
        return ExitCode::from(2);
    };
    let command = wontun::cli::command().disable_help_subcommand(true);
    match std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
