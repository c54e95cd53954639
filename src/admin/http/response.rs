//! Responses, and the headers that all of them have.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::request::{SECURE_PREFIX, Status};

/// Headers of every response: nothing is cached, framed or guessed, and a page loads nothing but
/// this server's own files, runs no inline script and sends forms nowhere else.
const COMMON: &str = "Cache-Control: no-store\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n";

/// Value of `Referrer-Policy`; with `no-referrer`, browsers would hide the origin of forms.
const REFERRER: &str = "same-origin";

/// Header of responses by HTTPS (RFC 6797): browsers use nothing else for this name from then on.
const SECURE: &str = "Strict-Transport-Security: max-age=31536000\r\n";

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Response {
    pub(in crate::admin) status: Status,
    content_type: &'static str,
    referrer: &'static str,
    /// Further fields of the head.
    fields: Vec<(&'static str, String)>,
    /// The cookie without its prefix.
    cookie: Option<Zeroizing<String>>,
    body: Zeroizing<Vec<u8>>,
}

impl Response {
    /// Creates a response with a body, which is wiped once it is sent.
    pub(in crate::admin) fn new(status: Status, content_type: &'static str, body: Vec<u8>) -> Self {
        let body = Zeroizing::new(body);
        Self { status, content_type, referrer: REFERRER, fields: Vec::new(), cookie: None, body }
    }

    /// Creates a response with a line of text.
    pub(in crate::admin) fn text(status: Status, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
    }

    /// Creates a response that leads to another page.
    pub(in crate::admin) fn redirect(path: &str) -> Self {
        Self::text(Status::SeeOther, path).with_field("Location", path.to_owned())
    }

    /// Adds a field to the head. Its value is printable ASCII.
    pub(in crate::admin) fn with_field(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Has the page tell no other where its reader came from. It must have no form.
    pub(in crate::admin) fn without_referrer(self) -> Self {
        Self { referrer: "no-referrer", ..self }
    }

    /// Sets a cookie, given as name and value; without a value it is removed. By HTTPS it is one
    /// that [`SECURE_PREFIX`] protects.
    pub(in crate::admin) fn with_cookie(mut self, name: &str, value: Option<&str>) -> Self {
        let (value, end) = value.map_or(("", "; Max-Age=0"), |value| (value, ""));
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{end}");
        self.cookie = Some(Zeroizing::new(cookie));
        self
    }

    /// Returns the bytes to be sent.
    pub(in crate::admin) fn to_bytes(
        &self,
        is_head: bool,
        is_persistent: bool,
        is_secure: bool,
    ) -> Zeroizing<Vec<u8>> {
        let mut head = Zeroizing::new(String::with_capacity(768));
        let connection = if is_persistent { "" } else { "Connection: close\r\n" };
        // writing to memory does not fail
        let _ = write!(
            head,
            "HTTP/1.1 {}\r\n{connection}{COMMON}Referrer-Policy: {}\r\n",
            self.status.line(),
            self.referrer
        );
        // a status that has no body has no length either (RFC 9110 section 8.6)
        if self.status != Status::NoContent {
            let _ = write!(
                head,
                "Content-Type: {}\r\nContent-Length: {}\r\n",
                self.content_type,
                self.body.len()
            );
        }
        head.push_str(if is_secure { SECURE } else { "" });
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.status == Status::MethodNotAllowed && self.fields.is_empty() {
            head.push_str("Allow: GET, HEAD, POST\r\n");
        }
        if let Some(cookie) = &self.cookie {
            let (prefix, end) = if is_secure { (SECURE_PREFIX, "; Secure") } else { ("", "") };
            let _ = write!(head, "Set-Cookie: {prefix}{}{end}\r\n", **cookie);
        }
        head.push_str("\r\n");
        let body = if is_head { &[][..] } else { &self.body[..] };
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + body.len()));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Returns the head of a stream of server-sent events.
pub(super) fn event_stream_head(is_secure: bool) -> Vec<u8> {
    let secure = if is_secure { SECURE } else { "" };
    format!(
        "HTTP/1.1 {}\r\nContent-Type: text/event-stream\r\nConnection: close\r\n{COMMON}\
         Referrer-Policy: {REFERRER}\r\n{secure}\r\n",
        Status::Ok.line()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_strict() {
        let bytes =
            Response::redirect("/").with_cookie("wontun-tun0", Some("ab")).to_bytes(false, true, false);
        let text = std::str::from_utf8(&bytes).unwrap();
        for line in [
            "HTTP/1.1 303 See Other",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: same-origin",
            "Location: /",
            "Set-Cookie: wontun-tun0=ab; Path=/; HttpOnly; SameSite=Strict",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
        }
        assert!(text.contains("default-src 'none'") && text.contains("frame-ancestors 'none'"), "{text}");
        assert!(!text.contains("Secure") && !text.contains("Strict-Transport"), "{text}");
        assert!(!text.contains("unsafe") && text.ends_with("\r\n\r\n/\n"), "{text}");
    }

    #[test]
    fn https_is_kept_to() {
        let response = Response::redirect("/").with_cookie("wontun-tun0", None);
        let bytes = response.to_bytes(false, true, true);
        let text = std::str::from_utf8(&bytes).unwrap();
        for line in [
            "Strict-Transport-Security: max-age=31536000",
            "Set-Cookie: __Host-wontun-tun0=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
        }
        assert!(String::from_utf8(event_stream_head(true)).unwrap().contains("Strict-Transport-Security"));
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let bytes = Response::text(Status::NotFound, "nothing").to_bytes(true, false, false);
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains("Content-Length: 8\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
    }
}
