//! wg-quick's configuration: any file is answered in one line and without its secrets, and a parsed
//! configuration is unchanged after being written and read again. Shared by the fuzzer and by the
//! ordinary test that replays its corpus.

use std::path::Path;

use wontun::config::wg_quick::{ErrorKind, Hooks, Warning, WgQuickError, parse, parse_all};

/// More consecutive base64 characters than any word of a message has, and fewer than half of a key
/// has.
const LONGEST_WORD: usize = 24;

fn check_message(message: &str) {
    assert!(message.starts_with("tun0.conf:"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let longest = message.split(|c| !is_base64(c)).map(str::len).max();
    assert!(longest <= Some(LONGEST_WORD), "may be a secret: {message}");
}

/// Checks the message of an error, without the names of peers: they are no secrets, whatever they
/// look like.
fn check_error(error: &WgQuickError) {
    let mut message = error.to_string();
    match &error.kind {
        ErrorKind::SameForward { peer, other, .. } => message = message.replace(peer, "").replace(other, ""),
        ErrorKind::ForwardOfTunnel { peer, .. } => message = message.replace(peer, ""),
        _ => {}
    }
    check_message(&message);
}

fn lines_grow(warnings: &[Warning]) -> bool {
    warnings.is_sorted_by_key(|warning| warning.line)
}

/// Parses one file.
///
/// # Panics
/// If the parser violates an invariant.
pub(crate) fn run(text: &[u8]) {
    let file = Path::new("tun0.conf");
    let strict = parse(file, text, Hooks::Refuse);
    let lenient = parse(file, text, Hooks::Ignore);
    for result in [&strict, &lenient] {
        match result {
            Ok(parsed) => {
                assert!(lines_grow(&parsed.warnings));
                parsed.warnings.iter().for_each(|warning| check_message(&warning.to_string()));
            }
            Err(error) => {
                assert!((1..=text.split(|&byte| byte == b'\n').count()).contains(&error.line));
                check_error(error);
            }
        }
    }
    match (parse_all(file, text, Hooks::Refuse), &strict) {
        (Ok(all), strict) => assert_eq!(strict.as_ref(), Ok(&all)),
        (Err(invalid), strict) => {
            assert_eq!(strict.as_ref(), Err(&invalid.first), "the first error is the one that ends a start");
            assert!(lines_grow(&invalid.warnings));
            for error in &invalid.others {
                assert!((1..=text.split(|&byte| byte == b'\n').count()).contains(&error.line));
                check_error(error);
            }
        }
    }
    if let Ok(strict) = &strict {
        assert_eq!(lenient.as_ref(), Ok(strict), "without hooks there is nothing to ignore");
    }
    if let Ok(lenient) = lenient {
        let printed = lenient.configuration.to_text();
        let again = parse(file, printed.as_bytes(), Hooks::Refuse).expect("what was printed is read");
        assert_eq!(again.configuration, lenient.configuration);
    }
}
