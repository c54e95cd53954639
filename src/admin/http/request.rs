//! Parses requests of HTTP/1.1 (RFC 9112). What a browser never sends is refused: other versions,
//! chunked bodies, two lengths, a body of GET, folded or foreign hosts.

use std::fmt;

use zeroize::Zeroizing;

use super::host::Hosts;

/// Maximum length of a request's head in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// Maximum length of a request's body in bytes.
pub const MAX_BODY: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// Prefix of cookies that browsers accept and send by HTTPS only.
pub(super) const SECURE_PREFIX: &str = "__Host-";

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: as GET, and the response has no body.
    Head,
    /// POST.
    Post,
    /// PATCH, of the API only.
    Patch,
    /// DELETE, of the API only.
    Delete,
}

/// Type of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
    /// Another, or none.
    Other,
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The part after a `?`, which has no secret.
    pub query: String,
    /// The value of `Host`, which names this server, in lower case.
    pub host: String,
    /// The value of `Origin`.
    pub origin: Option<String>,
    /// The value of `Sec-Fetch-Site`.
    pub fetch_site: Option<String>,
    /// True if it came by HTTPS, to this server or to a proxy in front of it.
    pub is_secure: bool,
    /// The value of the field in which a proxy gives the browser's address, of the last if there
    /// are several.
    pub forwarded: Option<String>,
    /// The values of `Cookie`.
    pub cookies: Vec<Zeroizing<String>>,
    /// The value of `Authorization`.
    pub authorization: Option<Zeroizing<String>>,
    /// Type of the body.
    pub media_type: MediaType,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// True if the connection stays open after the response.
    pub is_persistent: bool,
}

/// Result of parsing the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A request, and the number of its bytes.
    Request(Box<Request>, usize),
    /// The connection ends with this status.
    Refused(Status),
}

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 201.
    Created,
    /// 204: without a body.
    NoContent,
    /// 303: the page to be shown is another.
    SeeOther,
    /// 400.
    BadRequest,
    /// 401: without a valid token.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408.
    RequestTimeout,
    /// 409: the change is not possible.
    Conflict,
    /// 413.
    ContentTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 422: a value is not possible.
    Unprocessable,
    /// 421: the host is another.
    Misdirected,
    /// 429.
    TooManyRequests,
    /// 431.
    HeadTooLarge,
    /// 501: a transfer coding.
    NotImplemented,
    /// 503.
    Unavailable,
    /// 505.
    Version,
}

impl Status {
    /// Returns the code and the phrase.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::Created => "201 Created",
            Self::NoContent => "204 No Content",
            Self::SeeOther => "303 See Other",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::Conflict => "409 Conflict",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::UnsupportedMediaType => "415 Unsupported Media Type",
            Self::Unprocessable => "422 Unprocessable Content",
            Self::Misdirected => "421 Misdirected Request",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::Unavailable => "503 Service Unavailable",
            Self::Version => "505 HTTP Version Not Supported",
        }
    }
}

/// Parses the bytes received so far, on a server with the names `hosts`.
pub fn parse(bytes: &[u8], hosts: &Hosts) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes.get(..MAX_HEAD).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Refused(Status::HeadTooLarge);
        }
        Err(httparse::Error::Version) => return Parsed::Refused(Status::Version),
        Err(_) => return Parsed::Refused(Status::BadRequest),
    };
    match read_head(&head, hosts) {
        Err(status) => Parsed::Refused(status),
        Ok((mut request, body)) => match length.checked_add(body).and_then(|end| bytes.get(length..end)) {
            None => Parsed::Partial,
            Some(text) => {
                request.body = Zeroizing::new(text.to_vec());
                Parsed::Request(Box::new(request), length + body)
            }
        },
    }
}

/// Returns the request without its body, and the length of that.
fn read_head(head: &httparse::Request<'_, '_>, hosts: &Hosts) -> Result<(Request, usize), Status> {
    if head.version != Some(1) {
        return Err(Status::Version);
    }
    let host = one(head, "host")?.ok_or(Status::BadRequest)?;
    let host = hosts.accept(host).ok_or(Status::Misdirected)?;
    let target = head.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_api = is_api(path);
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        Some("PATCH") if is_api => Method::Patch,
        Some("DELETE") if is_api => Method::Delete,
        _ => return Err(Status::MethodNotAllowed),
    };
    if one(head, "transfer-encoding")?.is_some() || one(head, "expect")?.is_some() {
        return Err(Status::NotImplemented);
    }
    let body = one(head, "content-length")?.map_or(Ok(0), content_length)?;
    if body > 0 && !matches!(method, Method::Post | Method::Patch) {
        return Err(Status::BadRequest);
    }
    if !path.starts_with('/') {
        return Err(Status::BadRequest);
    }
    let text = |name| Ok(one(head, name)?.map(|value| String::from_utf8_lossy(value).into_owned()));
    let cookies = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    let content_type = text("content-type")?.unwrap_or_default();
    let media_type = match content_type.split(';').next().unwrap_or_default().trim() {
        form if form.eq_ignore_ascii_case("application/x-www-form-urlencoded") => MediaType::Form,
        json if json.eq_ignore_ascii_case("application/json") => MediaType::Json,
        _ => MediaType::Other,
    };
    let authorization =
        one(head, "authorization")?.map(|value| Zeroizing::new(String::from_utf8_lossy(value).into_owned()));
    let request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        host,
        origin: text("origin")?,
        fetch_site: text("sec-fetch-site")?,
        is_secure: false,
        forwarded: hosts.proxy_field().and_then(|field| last(head, field)),
        cookies: cookies
            .map(|field| Zeroizing::new(String::from_utf8_lossy(field.value).into_owned()))
            .collect(),
        authorization,
        media_type,
        body: Zeroizing::default(),
        is_persistent: !text("connection")?.is_some_and(|value| value.to_ascii_lowercase().contains("close")),
    };
    Ok((request, body))
}

/// Returns true if a path is the API's.
pub(in crate::admin) fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Returns the value of a field that may be there once.
fn one<'a>(head: &httparse::Request<'_, 'a>, name: &str) -> Result<Option<&'a [u8]>, Status> {
    let mut fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    match (fields.next(), fields.next()) {
        (field, None) => Ok(field.map(|field| field.value)),
        _ => Err(Status::BadRequest),
    }
}

/// Returns the value of the last field of this name.
fn last(head: &httparse::Request<'_, '_>, name: &str) -> Option<String> {
    let mut fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    fields.next_back().map(|field| String::from_utf8_lossy(field.value).into_owned())
}

fn content_length(value: &[u8]) -> Result<usize, Status> {
    let digits = std::str::from_utf8(value).map_err(|_| Status::BadRequest)?.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Status::BadRequest);
    }
    // too many digits are too much as well
    let length = digits.parse().unwrap_or(usize::MAX);
    if length > MAX_BODY { Err(Status::ContentTooLarge) } else { Ok(length) }
}

impl Request {
    /// Returns the value of a cookie: by HTTPS, of the one that `SECURE_PREFIX` protects. A name
    /// that is there twice has none: another page of this host may have set the second.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let prefix = if self.is_secure { SECURE_PREFIX } else { "" };
        let pairs = self.cookies.iter().flat_map(|text| text.split(';'));
        let mut values = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(key, _)| key.strip_prefix(prefix) == Some(name))
            .map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    }

    /// Returns the value of a field of the form in the body; empty if it is missing.
    pub fn field(&self, name: &str) -> Zeroizing<String> {
        let found = form_urlencoded::parse(&self.body).find(|(key, _)| key == name);
        Zeroizing::new(found.map(|(_, value)| value.into_owned()).unwrap_or_default())
    }

    /// Returns the names and values of the form in the body.
    pub fn fields(&self) -> impl Iterator<Item = (String, String)> {
        form_urlencoded::parse(&self.body).map(|(name, value)| (name.into_owned(), value.into_owned()))
    }

    /// Returns the value of a field of the query; `None` if it is missing.
    pub fn query_field(&self, name: &str) -> Option<String> {
        let found = form_urlencoded::parse(self.query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }

    /// Returns true if the request was made by a page of this server, as browsers say with each
    /// POST: `Origin` is this host's, and `Sec-Fetch-Site`, if it is there, says so too.
    pub fn is_same_origin(&self) -> bool {
        let scheme = if self.is_secure { "https" } else { "http" };
        let own = format!("{scheme}://{}", self.host);
        self.origin.as_deref().is_some_and(|origin| origin.eq_ignore_ascii_case(&own))
            && self.fetch_site.as_deref().is_none_or(|site| site == "same-origin")
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, host, origin, body, .. } = self;
        f.debug_struct("Request")
            .field("method", method)
            .field("path", path)
            .field("host", host)
            .field("origin", origin)
            .field("body", &body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes(), &Hosts::default()) {
            Parsed::Request(request, length) => {
                assert_eq!(length, text.len());
                *request
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refused(text: &str) -> Status {
        match parse(text.as_bytes(), &Hosts::default()) {
            Parsed::Refused(status) => status,
            other => panic!("{text}: {other:?}"),
        }
    }

    const POST: &str = "POST /peers?x=1 HTTP/1.1\r\nHost: LocalHost:8080\r\nOrigin: http://localhost:8080\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\nCookie: a=1; b=2\r\n\
         Content-Length: 23\r\n\r\nname=%3Cb%3E+x&note=&a=1";

    #[test]
    fn a_form_is_read() {
        let post = POST.replace("23", "24");
        let read = request(&post);
        assert_eq!(
            (read.method, read.path.as_str(), read.host.as_str()),
            (Method::Post, "/peers", "localhost:8080")
        );
        assert!(read.media_type == MediaType::Form && read.is_persistent && read.is_same_origin());
        assert_eq!((read.field("name").as_str(), read.field("note").as_str()), ("<b> x", ""));
        assert_eq!((read.cookie("b"), read.cookie("c")), (Some("2"), None));
        for end in 0..post.len() {
            assert_eq!(parse(&post.as_bytes()[..end], &Hosts::default()), Parsed::Partial, "{end}");
        }
        assert!(!format!("{read:?}").contains("%3C"), "{read:?}");
    }

    #[test]
    fn the_api_has_more_methods_and_secrets_that_are_not_shown() {
        let patch = "PATCH /api/v1/peers/a%20b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x-secret\r\n\
             Content-Type: application/JSON; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}";
        let read = request(patch);
        assert_eq!((read.method, read.media_type), (Method::Patch, MediaType::Json));
        assert_eq!(read.authorization.as_deref().map(String::as_str), Some("Bearer x-secret"));
        assert!(!format!("{read:?}").contains("secret"), "{read:?}");
        let delete = request("DELETE /api/v1/peers/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((delete.method, delete.media_type), (Method::Delete, MediaType::Other));
    }

    #[test]
    fn a_cookie_twice_is_none() {
        let read = request("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: a=1; b=2\r\nCookie: a=3\r\n\r\n");
        assert_eq!((read.cookie("a"), read.cookie("b")), (None, Some("2")));
    }

    #[test]
    fn another_origin_is_seen() {
        for (origin, site, is_same) in [
            ("Origin: http://localhost:8080\r\n", "", true),
            ("Origin: http://LOCALHOST:8080\r\n", "Sec-Fetch-Site: same-origin\r\n", true),
            ("Origin: http://localhost:8080\r\n", "Sec-Fetch-Site: same-site\r\n", false),
            ("Origin: https://localhost:8080\r\n", "", false),
            ("Origin: http://localhost\r\n", "", false),
            ("Origin: null\r\n", "", false),
            ("Origin: http://evil.example\r\n", "", false),
            ("", "", false),
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: localhost:8080\r\n{origin}{site}\r\n");
            assert_eq!(request(&text).is_same_origin(), is_same, "{text}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        for (text, status) in [
            (with("Transfer-Encoding: chunked\r\n"), Status::NotImplemented),
            (with("Content-Length: 1\r\nContent-Length: 1\r\n"), Status::BadRequest),
            (with("Content-Length: +1\r\n"), Status::BadRequest),
            (with("Content-Length: 16385\r\n"), Status::ContentTooLarge),
            (with("Content-Length: 99999999999999999999999\r\n"), Status::ContentTooLarge),
            (with("Host: localhost\r\n"), Status::BadRequest),
            (with("").replace("localhost", "evil.example"), Status::Misdirected),
            (with("").replace("Host", "Hast"), Status::BadRequest),
            (with("").replace("1.1", "1.0"), Status::Version),
            (with("").replace("POST", "TRACE"), Status::MethodNotAllowed),
            (with("").replace("POST", "DELETE"), Status::MethodNotAllowed),
            (with("").replace("POST /", "PATCH /apis"), Status::MethodNotAllowed),
            (with("Content-Length: 1\r\n").replace("POST /", "DELETE /api/"), Status::BadRequest),
            (with("Authorization: a\r\nAuthorization: b\r\n"), Status::BadRequest),
            (with("").replace("POST /", "POST http://localhost/"), Status::BadRequest),
            (with("Content-Length: 1\r\n").replace("POST", "GET"), Status::BadRequest),
            (with(&"a: b\r\n".repeat(MAX_FIELDS)), Status::HeadTooLarge),
            (format!("GET /{}", "a".repeat(MAX_HEAD)), Status::HeadTooLarge),
            (with("a : b\r\n"), Status::BadRequest),
            ("\u{16}\u{3}\u{1}\r\n".to_owned(), Status::BadRequest),
        ] {
            assert_eq!(refused(&text), status, "{text:.80}");
        }
    }

    #[test]
    fn the_next_request_is_left() {
        let two = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /b HTTP/1.1\r\n";
        let Parsed::Request(first, length) = parse(two.as_bytes(), &Hosts::default()) else { panic!() };
        assert_eq!((first.path.as_str(), &two[length..]), ("/a", "GET /b HTTP/1.1\r\n"));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Parsed::Request(_, length) = parse(&bytes, &Hosts::default()) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
