//! Requests to the admin page and its API: any bytes are a request of this host, an error or
//! incomplete, independent of how they are split into reads, and a limit bounds what is waited for.
//! Shared by the fuzzer and by the ordinary test that replays its corpus.

use wontun::admin::api;
use wontun::admin::http::{Hosts, MAX_BODY, MAX_HEAD, Method, Parsed, parse};

/// Parses the input of one connection.
///
/// # Panics
/// If the parser violates an invariant.
pub(crate) fn run(bytes: &[u8]) {
    let hosts = Hosts::new(vec!["10.8.0.1".parse().expect("an address")]);
    let mut rest = bytes;
    loop {
        let whole = parse(rest, &hosts);
        // the first part that is enough says the same
        let first = (0..=rest.len()).rev().step_by(rest.len() / 64 + 1).last().unwrap_or_default();
        for end in [first, rest.len() / 2, rest.len().saturating_sub(1)] {
            match (parse(&rest[..end], &hosts), &whole) {
                (Parsed::Partial, _) => {}
                (Parsed::Request(request, length), whole) => {
                    assert_eq!(whole, &Parsed::Request(request, length), "what follows changes nothing");
                }
                (Parsed::Refused(status), whole) => assert_eq!(whole, &Parsed::Refused(status)),
            }
        }
        match whole {
            Parsed::Partial => {
                assert!(rest.len() < MAX_HEAD + MAX_BODY, "{} bytes are waited for", rest.len());
                return;
            }
            Parsed::Refused(status) => {
                assert!(status.line().len() > 4);
                return;
            }
            Parsed::Request(request, length) => {
                assert!(length > 0 && length <= rest.len());
                assert!(request.path.starts_with('/') && request.body.len() <= MAX_BODY);
                let has_body = matches!(request.method, Method::Post | Method::Patch);
                assert!(has_body || request.body.is_empty());
                let is_of_api = matches!(request.method, Method::Patch | Method::Delete);
                assert!(!is_of_api || request.path.starts_with("/api"), "{request:?}");
                let is_valid = api::check(&request);
                assert!(!is_valid || request.path.starts_with("/api/v1/"), "{request:?}");
                let host = request.host.rsplit_once(':').map_or(request.host.as_str(), |(host, _)| host);
                assert!(
                    ["localhost", "10.8.0.1"].contains(&host)
                        || host.starts_with("127.")
                        || host.starts_with('['),
                    "{host}"
                );
                let _ = (request.field("name"), request.cookie("wontun-tun0"), request.is_same_origin());
                rest = &rest[length..];
            }
        }
    }
}
