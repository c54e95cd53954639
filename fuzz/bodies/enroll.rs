//! Enrolment: arbitrary bytes are a request of a device, an answer to it, a code, or none of them.
//! Shared by the fuzzer and by the ordinary test that replays its corpus.

use wontun::enroll::code::InvitationCode;
use wontun::enroll::datagram::{Answer, MAX_DATAGRAM, Request};

/// Reads bytes as a request, as an answer and as a code.
///
/// # Panics
/// If what is read is written otherwise.
pub(crate) fn run(input: &[u8]) {
    if let Some((identifier, request)) = Request::parse(input) {
        assert_eq!(*request.to_bytes(&identifier), input);
        assert!(Answer::parse(input).is_none(), "a request is no answer");
    }
    if let Some((identifier, answer)) = Answer::parse(input) {
        assert!(input.len() <= MAX_DATAGRAM);
        assert_eq!(*answer.to_bytes(&identifier), input);
    }
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(code) = text.parse::<InvitationCode>() {
        assert_eq!(code.to_text().parse(), Ok(code), "a code is read again");
    }
}
