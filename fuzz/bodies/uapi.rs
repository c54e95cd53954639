//! The UAPI: any socket input is answered in one line and without its secrets, independent of how
//! it is split into reads, and a parsed request is unchanged after being written and read again.
//! Shared by the fuzzer and by the ordinary test that replays its corpus.

use wontun::uapi::{Request, RequestError, RequestParser};

/// More consecutive letters and digits than any word of a message has, and fewer than half of a key
/// has.
const LONGEST_WORD: usize = 30;

fn check_error(error: &RequestError) {
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
    let longest = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '+').map(str::len).max();
    assert!(longest <= Some(LONGEST_WORD), "may be a secret: {message}");
    assert!(message.len() < 600, "{message}");
    assert!(error.errno() < 0 && error.line > 0);
}

fn check_request(request: Request) {
    let Request::Set(changes) = request else { return };
    let printed = changes.to_request();
    let again = RequestParser::default().handle_bytes(&printed);
    assert_eq!(again.consumed, printed.len());
    assert_eq!(again.request, Some(Ok(Request::Set(changes))), "what was printed is read");
}

/// Parses the input of one connection.
///
/// # Panics
/// If the parser violates an invariant.
pub(crate) fn run(text: &[u8]) {
    let mut whole = RequestParser::default();
    let mut rest = text;
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let progress = whole.handle_bytes(rest);
        assert!(progress.consumed > 0);
        assert!(progress.request.is_some() || progress.consumed == rest.len());
        rest = &rest[progress.consumed..];
        requests.extend(progress.request);
    }
    let end = whole.handle_end();

    // the sizes of the pieces are the text's own bytes
    let mut torn = RequestParser::default();
    let mut rest = text;
    let mut again = Vec::new();
    while let Some(&size) = rest.first() {
        let piece = &rest[..rest.len().min(usize::from(size % 16) + 1)];
        let progress = torn.handle_bytes(piece);
        rest = &rest[progress.consumed..];
        again.extend(progress.request);
    }
    assert_eq!(requests, again);
    assert_eq!(end, torn.handle_end());

    requests.iter().filter_map(|request| request.as_ref().err()).chain(&end).for_each(check_error);
    requests.into_iter().flatten().for_each(check_request);
}
