//! Short texts for narrow columns.

use std::time::Duration;

use ratatui::text::Span;

use crate::uapi::TunnelPeer;

/// Bars of a sparkline, the lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Number of characters of a key that are shown instead of a name.
const KEY_CHARS: usize = 10;

/// Formats a number of bytes in at most eight columns, as `12.3 MiB`.
pub(in crate::commands) fn amount(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // an approximation is sufficient
    #[allow(clippy::cast_precision_loss)]
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in UNITS.into_iter().skip(1) {
        // values from here on would be rounded to four digits
        if amount < 999.5 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    let decimals = match amount {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{amount:.decimals$} {unit}")
}

/// Formats a rate in at most ten columns.
pub(super) fn rate(bytes: u64) -> String {
    format!("{}/s", amount(bytes))
}

/// Formats the time since a handshake in at most eight columns.
pub(in crate::commands) fn age(then: Duration, now: Duration) -> String {
    if then.is_zero() {
        return "never".to_owned();
    }
    let Some(seconds) = now.as_secs().checked_sub(then.as_secs()) else { return "future".to_owned() };
    let pair = |large: u64, unit: &str, small: u64, part: &str| format!("{large}{unit} {small:02}{part}");
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds / 60 % 60, "m"),
        86_400..8_640_000 => pair(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
        _ => format!("{}d", (seconds / 86_400).min(9_999_999)),
    }
}

/// Returns the peer's name, or the beginning of its key.
pub(in crate::commands) fn name(peer: &TunnelPeer) -> String {
    match &peer.name {
        Some(name) => name.as_str().to_owned(),
        None => format!("{}…", peer.public_key.to_string().chars().take(KEY_CHARS).collect::<String>()),
    }
}

/// Returns the number of columns of `text`.
pub(in crate::commands) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Shortens `text` to `width` columns, with an ellipsis, and removes control characters, which
/// could move the cursor.
pub(in crate::commands) fn fit(text: &str, width: usize) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if Span::raw(text.as_str()).width() <= width {
        return text;
    }
    let mut fitting = String::new();
    for c in text.chars() {
        fitting.push(c);
        if Span::raw(fitting.as_str()).width() >= width {
            fitting.pop();
            break;
        }
    }
    if width > 0 {
        fitting.push('…');
    }
    fitting
}

/// Draws a sparkline of `values` in `width` columns, the newest at the right, scaled to the
/// maximum.
pub(super) fn sparkline(values: impl Iterator<Item = u64>, width: usize) -> String {
    let values: Vec<u64> = values.collect();
    let most = values.iter().copied().max().unwrap_or_default().max(1);
    let bars = values.iter().map(|&value| {
        let height = u128::from(value) * 7 / u128::from(most);
        // values above zero are always visible
        let height = if value > 0 { height.max(1) } else { 0 };
        usize::try_from(height).ok().and_then(|height| BARS.get(height)).unwrap_or(&' ')
    });
    let gap = std::iter::repeat_n(&' ', width.saturating_sub(values.len()));
    gap.chain(bars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1.00 KiB"),
            (12_595, "12.3 KiB"),
            (1024 * 999, "999 KiB"),
            (1024 * 1000, "0.98 MiB"),
            (123 << 20, "123 MiB"),
            (5 << 40, "5.00 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(amount(bytes), text);
        }
        assert_eq!(rate(12_595), "12.3 KiB/s");
    }

    #[test]
    fn ages_are_short() {
        let then = Duration::from_secs(1_000_000_000);
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (63, "1m 03s"),
            (7500, "2h 05m"),
            (90_000, "1d 01h"),
            (100 * 86_400, "100d"),
        ] {
            assert_eq!(age(then, then + Duration::from_secs(seconds)), text);
        }
        assert_eq!(age(Duration::ZERO, then), "never");
        assert_eq!(age(then, then - Duration::from_secs(1)), "future");
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        assert_eq!(fit("phone", 5), "phone");
        assert_eq!(fit("phones", 5), "phon…");
        assert_eq!(fit("電話電話", 5), "電話…");
        assert_eq!(fit("電話電話", 4), "電…");
        assert_eq!(fit("a\u{1b}[2Jb", 9), "a[2Jb");
        assert_eq!((fit("phone", 1).as_str(), fit("phone", 0).as_str()), ("…", ""));
    }

    #[test]
    fn bars_stand_at_the_right() {
        assert_eq!(sparkline([0, 1, 70, 35].into_iter(), 6), "  ▁▂█▄");
        assert_eq!(sparkline([].into_iter(), 3), "   ");
        assert_eq!(sparkline([0, 0].into_iter(), 2), "▁▁");
    }

    proptest! {
        #[test]
        fn no_text_is_wider_than_its_column(bytes: u64, then: u64, now: u64, text: String, width in 0..40_usize) {
            prop_assert!(amount(bytes).len() <= 8 && rate(bytes).len() <= 10);
            prop_assert!(age(Duration::from_secs(then), Duration::from_secs(now)).len() <= 8);
            prop_assert!(Span::raw(fit(&text, width)).width() <= width);
            prop_assert!(!fit(&text, width).contains(char::is_control));
        }

        #[test]
        fn a_sparkline_has_its_width(values in prop::collection::vec(any::<u64>(), 0..30)) {
            prop_assert_eq!(sparkline(values.into_iter(), 30).chars().count(), 30);
        }
    }
}
