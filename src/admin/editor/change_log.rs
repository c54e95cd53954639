//! The file of the latest changes: `NAME.changes`, beside the configuration. A line is a time, the
//! address of the browser, `by=NAME` if an owner of peers made it or `token=NAME` if the API was
//! used, and the change, which has no secret.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::messages::{ChangeRecord, Principal, SettingText};
use crate::config::TunName;
use crate::net::timer::unix_now;
use crate::server::Writer;

/// Number of changes that are kept.
const MAX_RECORDS: usize = 500;
/// Maximum number of changes that are shown, and their size in bytes.
const MAX_SHOWN: usize = 100;
const MAX_SHOWN_SIZE: usize = 24 * 1024;
/// Beginning of the word with the name of an owner of peers.
const BY: &str = "by=";
/// Beginning of the word with the name of a token.
const TOKEN: &str = "token=";

/// The file.
#[derive(Debug)]
pub(super) struct ChangeLog(PathBuf);

impl ChangeLog {
    pub(super) fn new(folder: &Path, tunnel: &TunName) -> Self {
        Self(folder.join(format!("{tunnel}.changes")))
    }

    /// Adds a change, and removes the oldest ones.
    ///
    /// # Errors
    /// A text for the log.
    pub(super) fn add(&self, from: IpAddr, by: &Principal, change: &str) -> Result<(), String> {
        let time = i64::try_from(unix_now().as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok());
        let change: String = change.chars().filter(|letter| !letter.is_control()).collect();
        let by = match by {
            // the change itself tells an enrolment by a link
            Principal::Admin | Principal::Invitation => String::new(),
            Principal::Owner(name) => format!("{BY}{name} "),
            Principal::Token(name) => format!("{TOKEN}{name} "),
        };
        let line = format!("{} {from} {by}{change}\n", time.unwrap_or_default());
        let writer = Writer::lock(&self.0).map_err(|error| error.to_string())?;
        let before = self.read()?;
        let text = match &before {
            None => line,
            Some(text) => {
                let excess = (text.lines().count() + 1).saturating_sub(MAX_RECORDS);
                let kept: String = text.split_inclusive('\n').skip(excess).collect();
                format!("{kept}{line}")
            }
        };
        let text = text.as_bytes();
        let written = if before.is_some() { writer.replace(text) } else { writer.create(text) };
        written.map_err(|error| error.to_string())
    }

    /// Returns the latest changes, the newest first. Lines that are none are left out.
    ///
    /// # Errors
    /// A text for the page.
    pub(super) fn latest(&self) -> Result<Vec<ChangeRecord>, String> {
        let text = self.read()?.unwrap_or_default();
        let mut left = MAX_SHOWN_SIZE;
        let records = text.lines().rev().filter_map(parse).take(MAX_SHOWN).take_while(|record| {
            let size = record.text.as_str().len() + 128;
            left = left.saturating_sub(size);
            left > 0
        });
        Ok(records.collect())
    }

    fn read(&self) -> Result<Option<String>, String> {
        match fs::read(&self.0) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{} cannot be read: {error}", self.0.display())),
        }
    }
}

fn parse(line: &str) -> Option<ChangeRecord> {
    let (time, rest) = line.split_once(' ')?;
    let (from, rest) = rest.split_once(' ')?;
    // a change begins with a verb
    let name_and_text = |prefix| rest.strip_prefix(prefix).and_then(|rest: &str| rest.split_once(' '));
    let (by, text) = if let Some((name, text)) = name_and_text(BY) {
        (Principal::Owner(name.parse().ok()?), text)
    } else if let Some((name, text)) = name_and_text(TOKEN) {
        (Principal::Token(name.parse().ok()?), text)
    } else {
        (Principal::Admin, rest)
    };
    let at = time.parse::<Timestamp>().ok()?.as_second().try_into().ok()?;
    Some(ChangeRecord { at, from: from.parse().ok()?, by, text: SettingText::cut(text.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_changes_are_kept() {
        let folder = std::env::temp_dir().join(format!("wontun-changes-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = ChangeLog::new(&folder, &TunName::default());
        assert_eq!(log.latest(), Ok(Vec::new()));
        let from: IpAddr = "fd00::2".parse().unwrap();
        for number in 0..3 {
            let by = match number {
                1 => Principal::Token("grafana".parse().unwrap()),
                _ => Principal::Admin,
            };
            log.add(from, &by, &format!("add 'phone {number}\n'")).unwrap();
        }
        let latest = log.latest().unwrap();
        assert_eq!(
            latest.iter().map(|record| record.text.as_str()).collect::<Vec<_>>(),
            ["add 'phone 2'", "add 'phone 1'", "add 'phone 0'"]
        );
        let token = Principal::Token("grafana".parse().unwrap());
        let by: Vec<_> = latest.iter().map(|record| &record.by).collect();
        assert_eq!(by, [&Principal::Admin, &token, &Principal::Admin]);
        assert!(fs::read_to_string(&log.0).unwrap().contains(" fd00::2 token=grafana add 'phone 1'\n"));
        assert!(latest[0].from == from && latest[0].at > 1_700_000_000);
        // what is no record is no error, and the file does not grow
        fs::write(&log.0, format!("?\n{}", "2026-11-29T20:00:00Z 10.8.0.2 x\n".repeat(MAX_RECORDS))).unwrap();
        log.add(from, &Principal::Owner("anna".parse().unwrap()), "last").unwrap();
        let text = fs::read_to_string(&log.0).unwrap();
        assert!(text.lines().count() == MAX_RECORDS && text.ends_with(" fd00::2 by=anna last\n"), "{text}");
        let latest = log.latest().unwrap();
        assert_eq!((latest.len(), latest[0].by.to_string()), (MAX_SHOWN, "anna".to_owned()));
        assert_eq!((latest[0].text.as_str(), &latest[1].by), ("last", &Principal::Admin));
        fs::remove_dir_all(&folder).unwrap();
    }
}
