//! Implements `wontun check`: lists the errors of a configuration file, and what its tunnel would
//! set up.

mod json;
mod report;
mod text;

use std::io::{self, Write as _};
use std::path::PathBuf;

use self::report::{Plan, Problem, Report};
use super::error::CommandError;
use crate::cli::{FullTunnelOptions, WireGuardOptions};
use crate::config::wg_quick::{self, LoadErrors, Loaded};
use crate::config::{KillSwitchOptions, TunName};
use crate::exit::{self, ExitCode, Failure};
use crate::supervisor::preview;

/// Options of `wontun check`.
#[derive(Debug)]
pub(crate) struct CheckOptions {
    /// The file.
    pub file: PathBuf,
    /// Name of the TUN device; `None` for the file's name.
    pub tun: Option<TunName>,
    /// Options that the tunnel is started with.
    pub options: WireGuardOptions,
    /// True for JSON output.
    pub json: bool,
}

/// Checks a file, and prints its errors and warnings, and without an error what its tunnel would
/// set up.
///
/// # Errors
/// The file or the options have errors ([`exit::CONFIG`]), or the file cannot be read.
pub(crate) fn check(options: CheckOptions) -> Result<(), Failure> {
    let is_json = options.json;
    let (report, code) = collect(options);
    let text = if is_json { json::format(&report) } else { text::format(&report) };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // if the reader is gone, the exit code tells the result
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CommandError::Output(failure).into());
        }
        _ => {}
    }
    match report.errors.len().saturating_add(report.omitted) {
        0 => Ok(()),
        count => Err(Failure::new(code, format!("{}: {}", report.file.display(), text::errors(count)))),
    }
}

/// Returns the outcome, and the exit code of the first error.
fn collect(options: CheckOptions) -> (Report, u8) {
    let CheckOptions { file, tun, options, .. } = options;
    let mut report = Report { file, errors: Vec::new(), omitted: 0, warnings: Vec::new(), plan: None };
    let mut code = exit::CONFIG;
    let FullTunnelOptions { kill_switch, kill_switch_allow, .. } = &options.full_tunnel;
    let kill_switch = report.take(KillSwitchOptions::new(*kill_switch, kill_switch_allow)).flatten();
    let name = tun.map_or_else(|| report.take(TunName::of_file(&report.file.clone())), Some);
    // without them, hooks are refused
    let options = report.take(options.file_options());
    let hooks = options.as_ref().map(|options| options.hooks).unwrap_or_default();
    let loaded = match wg_quick::check(&report.file, hooks) {
        Ok(loaded) => Some(loaded),
        Err(errors) => {
            let LoadErrors { first, others, omitted, warnings } = *errors;
            code = first.exit_code();
            report.errors.extend([first].iter().chain(&others).map(Problem::from));
            (report.omitted, report.warnings) = (omitted, warnings);
            None
        }
    };
    if let (Some(Loaded { configuration, warnings, server, .. }), Some(mut options), Some(name)) =
        (loaded, options, name)
    {
        report.warnings = warnings;
        options.policy = options.policy.or(server.policy);
        if kill_switch.is_some() {
            report.take(KillSwitchOptions::check(&configuration, &options));
        }
        if report.errors.is_empty() {
            let preview = match preview(&name, &configuration, &options, kill_switch.as_ref()) {
                Ok(mut preview) => {
                    report.warnings.append(&mut preview.warnings);
                    Some(preview)
                }
                Err(error) => {
                    report.warnings.push(format!("what would be set up is not known: {error}"));
                    None
                }
            };
            report.plan = Some(Plan { name, configuration, options, kill_switch, preview });
        }
    }
    report.errors.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    (report, code)
}

#[cfg(test)]
mod tests;
