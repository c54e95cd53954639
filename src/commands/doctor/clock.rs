//! The wall clock: a handshake carries its time, and a server refuses those that are older than the
//! latest.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::Finding;

/// Time of the build's sources in seconds since 1970; empty if it is not known.
const BUILT: &str = include_str!(concat!(env!("OUT_DIR"), "/time.txt"));
/// Time before which nothing that has this command can run: 2026-11-29.
const OLDEST: u64 = 1_795_910_400;
/// Time after which a clock is not plausible: 2100-01-01.
const NEWEST: u64 = 4_102_444_800;
/// File that systemd-timesyncd touches once it has set the clock.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

pub(super) fn look(findings: &mut Vec<Finding>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let built = BUILT.trim().parse().unwrap_or(0);
    findings.push(judge(now.as_secs(), built, Path::new(SYNCHRONIZED).exists()));
}

/// Judges the time `now`; `built` is that of the program's sources.
fn judge(now: u64, built: u64, is_synchronized: bool) -> Finding {
    let date = date(now);
    if now < built.max(OLDEST) || now > NEWEST {
        return Finding::problem(
            "clock",
            format!(
                "it is {date} UTC by the clock of this host, which cannot be: servers refuse handshakes from the past; \
                 set the clock (timedatectl set-ntp true)"
            ),
        );
    }
    let note = if is_synchronized { ", synchronized by systemd-timesyncd" } else { "" };
    Finding::ok("clock", format!("it is {date} UTC{note}"))
}

/// Returns the day of a time since 1970, as `2026-11-29`, by the algorithm of Howard Hinnant's
/// `civil_from_days`.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, after) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Verdict;

    #[test]
    fn days_have_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (OLDEST, "2026-11-29"),
            (NEWEST, "2100-01-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_clock_is_plausible_from_the_build_on() {
        for (now, built, expected) in [
            (OLDEST, 0, Verdict::Ok),
            (OLDEST - 1, 0, Verdict::Problem),
            (OLDEST + 5, OLDEST + 10, Verdict::Problem),
            (NEWEST + 1, 0, Verdict::Problem),
            (0, 0, Verdict::Problem),
        ] {
            assert_eq!(judge(now, built, false).verdict, expected, "{now}");
        }
        assert!(judge(OLDEST, 0, true).text.contains("synchronized"));
    }
}
