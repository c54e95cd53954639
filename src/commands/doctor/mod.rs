//! Implements `wontun doctor`: looks for what keeps a tunnel on this host from working, and says
//! what to do. Changes nothing, and says what this user cannot look at.

mod clock;
mod dns;
mod endpoint;
mod finding;
mod kernel;
mod network;
mod subject;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;

use self::finding::{Finding, Verdict};
use self::subject::Subject;
use super::error::CommandError;
use crate::cli::WireGuardOptions;
use crate::config::TunName;
use crate::config::wg_quick;
use crate::control::health;
use crate::exit::{self, Failure};
use crate::json::document;
use crate::privileges;

/// Options of `wontun doctor`.
#[derive(Debug)]
pub(crate) struct DoctorOptions {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// Name of the TUN device; `None` for the file's name.
    pub tun: Option<TunName>,
    /// Options that the tunnel is started with.
    pub options: WireGuardOptions,
    /// True for JSON output.
    pub json: bool,
}

/// The document of `wontun doctor`.
#[derive(Serialize)]
struct Document<'a> {
    tunnel: &'a TunName,
    findings: &'a [Finding],
}

/// Looks at this host, and prints a line for each thing that was looked at.
///
/// # Errors
/// There is a problem ([`exit::FAILURE`]), or the options are invalid.
pub(crate) fn doctor(options: DoctorOptions) -> Result<(), Failure> {
    let is_json = options.json;
    let (subject, findings) = collect(options)?;
    let text = if is_json {
        document(&Document { tunnel: &subject.name, findings: &findings })
    } else {
        format(&findings)
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // if the reader is gone, the exit code tells the result
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CommandError::Output(failure).into());
        }
        _ => {}
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count() {
        0 => Ok(()),
        1 => Err(Failure::new(exit::FAILURE, "there is 1 problem: see its line above")),
        count => {
            Err(Failure::new(exit::FAILURE, format!("there are {count} problems: see their lines above")))
        }
    }
}

fn collect(options: DoctorOptions) -> Result<(Subject, Vec<Finding>), Failure> {
    let DoctorOptions { file, tun, options, .. } = options;
    let wants_kill_switch = options.full_tunnel.kill_switch.is_some();
    let options = options.file_options()?;
    let of_file = || file.as_deref().map(TunName::of_file).transpose();
    let name = tun.map_or_else(of_file, |name| Ok(Some(name)))?.unwrap_or_default();
    let mut findings = Vec::new();
    let configuration = file.and_then(|file| {
        let loaded = wg_quick::check(&file, options.hooks);
        let path = file.display();
        findings.push(match &loaded {
            Ok(_) => Finding::ok("file", format!("{path} has no error")),
            Err(errors) if errors.first.is_denied() => {
                Finding::unknown("file", format!("{path} is not readable by this user: run this as root"))
            }
            Err(errors) if errors.others.is_empty() => Finding::problem("file", &errors.first),
            Err(_) => {
                Finding::problem("file", format!("{path} has errors: 'wontun check {path}' lists them"))
            }
        });
        loaded.ok().map(|loaded| loaded.configuration)
    });
    let subject = Subject {
        is_running: health::running_tunnels().contains(&name),
        name,
        configuration,
        options,
        wants_kill_switch,
        is_privileged: privileges::require_net_admin().is_ok(),
    };
    kernel::look(&subject, &mut findings);
    network::look(&subject, &mut findings);
    clock::look(&mut findings);
    dns::look(&subject, &mut findings);
    Ok((subject, findings))
}

/// Formats a line for each finding.
fn format(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { verdict, subject, text: found } in findings {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
            Verdict::Unknown => "unknown",
        };
        // writing to memory does not fail
        let _ = writeln!(text, "{verdict:8} {subject:width$}  {found}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let findings = [
            Finding::ok("clock", "it is right"),
            Finding::problem("UDP port", "51820 is\nin use\u{1b}[31m"),
            Finding::unprivileged("INPUT"),
        ];
        assert_eq!(
            format(&findings),
            "ok       clock     it is right\n\
             problem  UDP port  51820 is in use [31m\n\
             unknown  INPUT     needs CAP_NET_ADMIN: run this as root (sudo wontun doctor)\n"
        );
        let json = document(&Document { tunnel: &TunName::default(), findings: &findings });
        assert!(
            json.contains("{\"verdict\":\"ok\",\"subject\":\"clock\",\"text\":\"it is right\"}"),
            "{json}"
        );
        crate::documents::assert_documented(&json, &["Doctor"]);
    }
}
