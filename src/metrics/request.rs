//! Parses requests in HTTP/1.1 or 1.0 (RFC 9112), and formats the heads of answers. Every answer
//! ends its connection.

use super::host::{HostCheck, HostNames};

/// Maximum length of a request's head in bytes: Prometheus sends some 300.
pub(super) const MAX_HEAD: usize = 4096;
const MAX_FIELDS: usize = 32;
const HINT: &str = "wontun: metrics are at /metrics\n";
const MISDIRECTED: &str =
    "wontun: not served under this name: use an address, or allow the name with --metrics-host\n";

/// A parsed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) status: Status,
    /// True for HEAD: the answer has no body.
    pub(super) is_head: bool,
    /// True if the client supports chunked encoding, with which it can detect a truncated body.
    pub(super) accepts_chunks: bool,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The metrics.
    Metrics,
    /// `/`: a text with the path of the metrics.
    Hint,
    /// An unknown path.
    NotFound,
    /// A method other than GET and HEAD.
    Method,
    /// A host name that is not accepted.
    Misdirected,
    /// Not HTTP.
    Bad,
    /// More than [`MAX_HEAD`] bytes or [`MAX_FIELDS`] fields.
    TooLarge,
}

/// Parses the bytes received so far, on a server with the names `hosts`; returns `None` if the
/// request is incomplete.
pub(super) fn parse(bytes: &[u8], hosts: &HostNames) -> Option<Request> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let status = match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.and_then(|path| path.split('?').next());
            match (host(&request, hosts), request.method, path) {
                (HostCheck::Malformed, ..) => Status::Bad,
                (HostCheck::Foreign, ..) => Status::Misdirected,
                (_, Some("GET" | "HEAD"), Some("/metrics")) => Status::Metrics,
                (_, Some("GET" | "HEAD"), Some("/")) => Status::Hint,
                (_, Some("GET" | "HEAD"), _) => Status::NotFound,
                _ => Status::Method,
            }
        }
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Status::TooLarge,
        Err(_) => Status::Bad,
    };
    Some(Request {
        status,
        is_head: request.method == Some("HEAD"),
        accepts_chunks: request.version == Some(1),
    })
}

/// Classifies the host of a request. HTTP/1.1 requires one `Host` field, HTTP/1.0 none; no browser
/// uses the latter.
fn host(request: &httparse::Request<'_, '_>, hosts: &HostNames) -> HostCheck {
    let mut fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    match (fields.next(), fields.next()) {
        (Some(field), None) => hosts.classify(field.value),
        (None, _) if request.version == Some(0) => HostCheck::Accepted,
        _ => HostCheck::Malformed,
    }
}

impl Request {
    /// Returns the head of the answer, and its body if it is a short text.
    pub(super) fn response(self) -> Vec<u8> {
        let (code, kind, body) = match self.status {
            Status::Metrics => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", ""),
            Status::Hint => ("200 OK", "text/plain; charset=utf-8", HINT),
            Status::NotFound => ("404 Not Found", "text/plain; charset=utf-8", HINT),
            Status::Method => ("405 Method Not Allowed", "text/plain; charset=utf-8", "GET or HEAD\n"),
            Status::Misdirected => ("421 Misdirected Request", "text/plain; charset=utf-8", MISDIRECTED),
            Status::Bad => ("400 Bad Request", "text/plain; charset=utf-8", "invalid request\n"),
            Status::TooLarge => {
                ("431 Request Header Fields Too Large", "text/plain; charset=utf-8", "too large\n")
            }
        };
        let mut head = format!("HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nConnection: close\r\n");
        if self.status == Status::Method {
            head += "Allow: GET, HEAD\r\n";
        }
        if self.status != Status::Metrics {
            head += &format!("Content-Length: {}\r\n", body.len());
        } else if self.accepts_chunks {
            head += "Transfer-Encoding: chunked\r\n";
        }
        head += "\r\n";
        if !self.is_head {
            head += body;
        }
        head.into_bytes()
    }

    /// Returns true if the metrics follow.
    pub(super) fn wants_metrics(self) -> bool {
        self.status == Status::Metrics && !self.is_head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(text: &str) -> Option<Status> {
        parse(text.as_bytes(), &HostNames::default()).map(|request| request.status)
    }

    #[test]
    fn what_is_asked_is_understood() {
        let request =
            parse(b"GET /metrics HTTP/1.1\r\nHost: [::1]:9586\r\nAccept: */*\r\n\r\n", &HostNames::default());
        let request = request.unwrap();
        assert_eq!(request, Request { status: Status::Metrics, is_head: false, accepts_chunks: true });
        let request = parse(b"HEAD /metrics?debug=1 HTTP/1.0\r\n\r\n", &HostNames::default()).unwrap();
        assert_eq!(request, Request { status: Status::Metrics, is_head: true, accepts_chunks: false });
        assert_eq!(status("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n"), Some(Status::Hint));
        for path in ["/metrics/", "/../etc/passwd", "*", "//metrics"] {
            assert_eq!(status(&format!("GET {path} HTTP/1.0\r\n\r\n")), Some(Status::NotFound), "{path}");
        }
        assert_eq!(status("POST /metrics HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"), Some(Status::Method));
    }

    #[test]
    fn a_request_for_another_host_is_refused_whatever_it_asks() {
        for head in
            ["GET /metrics HTTP/1.1", "GET / HTTP/1.0", "GET /other HTTP/1.1", "POST /metrics HTTP/1.1"]
        {
            let foreign = format!("{head}\r\nhOST:  evil.example:9586 \r\n\r\n");
            assert_eq!(status(&foreign), Some(Status::Misdirected), "{foreign}");
            let twice = format!("{head}\r\nHost: localhost\r\nHost: evil.example\r\n\r\n");
            assert_eq!(status(&twice), Some(Status::Bad), "{twice}");
        }
        assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), Some(Status::Bad), "HTTP/1.1 requires the field");
        assert_eq!(status("GET /metrics HTTP/1.0\r\n\r\n"), Some(Status::Metrics));
    }

    #[test]
    fn what_is_not_whole_is_waited_for_and_what_is_wrong_is_not() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(status(&whole[..end]), None, "{end}");
        }
        for bad in
            ["\u{0}\r\n\r\n", "GET /metrics HTTP/2.0\r\n\r\n", "GET /metrics\r\n\r\n", "\u{16}\u{3}\u{1}"]
        {
            assert_eq!(status(bad), Some(Status::Bad), "{bad:?}");
        }
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), Some(Status::TooLarge));
        assert_eq!(status(&format!("GET /{}", "a".repeat(MAX_HEAD))), Some(Status::TooLarge));
    }

    #[test]
    fn answers_say_how_long_they_are() {
        let answer = |text: &str| {
            let text = text.replace("\r\n\r\n", "\r\nHost: localhost\r\n\r\n");
            String::from_utf8(parse(text.as_bytes(), &HostNames::default()).unwrap().response()).unwrap()
        };
        let hint = answer("GET / HTTP/1.1\r\n\r\n");
        assert!(
            hint.contains("Content-Length: 32\r\n") && hint.ends_with(HINT) && HINT.len() == 32,
            "{hint}"
        );
        assert!(answer("HEAD / HTTP/1.1\r\n\r\n").ends_with("32\r\n\r\n"));
        assert!(answer("DELETE / HTTP/1.1\r\n\r\n").contains("\r\nAllow: GET, HEAD\r\n"));
        assert!(answer("GET /metrics HTTP/1.1\r\n\r\n").contains("Transfer-Encoding: chunked"));
        // in HTTP/1.0 the end of the connection ends the body
        assert!(!answer("GET /metrics HTTP/1.0\r\n\r\n").contains("Transfer-Encoding"));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(request) = parse(&bytes, &HostNames::default()) {
                prop_assert!(request.response().starts_with(b"HTTP/1.1 "));
            }
        }
    }
}
