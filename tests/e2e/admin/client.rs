//! A client of the page that sends forms as a browser does.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::web_driver::Browser;
use crate::lab::Host;
use crate::setup::server::Server;
use crate::waiting::TIMEOUT;

/// Address of the page on the host itself.
pub(crate) const ON_HOST: &str = "127.0.0.1:51821";
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends `text` to `address` from `host`, and returns the response.
pub(crate) fn send(host: &Host, address: SocketAddr, text: &str) -> Answer {
    let mut stream = host.connect(address);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    parse(&all)
}

/// Parses a response.
pub(crate) fn parse(all: &str) -> Answer {
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {all:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Returns true if `address` accepts a connection from `host` soon.
pub(crate) fn accepts(host: &Host, address: SocketAddr) -> bool {
    host.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(3))).is_ok()
}

/// Somebody who is signed in, on the server's host.
pub(crate) struct Admin<'server> {
    server: &'server Server,
    cookie: String,
}

impl<'server> Admin<'server> {
    /// Signs in by a link, and sets the password if there is none.
    pub(crate) fn first(server: &'server Server) -> Self {
        Self::by_link(server, &server.output(&["admin", "link"]), PASSWORD)
    }

    /// Signs in by one of these links, and sets the password.
    pub(crate) fn by_link(server: &'server Server, links: &str, password: &str) -> Self {
        let link = links.lines().find(|link| link.contains(ON_HOST)).unwrap();
        let token = link.split_once("/link#").unwrap().1;
        let mut admin = Self { server, cookie: String::new() };
        let answer = admin.send_form("/link", &[("link", token)]);
        assert_eq!((answer.status, answer.header("Location")), (303, Some("/account")), "{answer:?}");
        let page = admin.get("/password").body;
        let set = admin.send_form("/account/password", &[("token", token_of(&page)), ("password", password)]);
        assert_eq!((set.status, set.header("Location")), (303, Some("/")), "{set:?}");
        admin
    }

    /// Signs in with the password.
    pub(crate) fn sign_in(server: &'server Server) -> Self {
        let mut admin = Self { server, cookie: String::new() };
        let answer = admin.send_form("/sign-in", &[("password", PASSWORD)]);
        assert_eq!((answer.status, answer.header("Location")), (303, Some("/")), "{answer:?}");
        admin
    }

    /// Signs in as an owner of peers.
    pub(crate) fn sign_in_as(server: &'server Server, name: &str, password: &str) -> Self {
        let mut owner = Self { server, cookie: String::new() };
        let answer = owner.send_form("/sign-in", &[("name", name), ("password", password)]);
        assert_eq!((answer.status, answer.header("Location")), (303, Some("/")), "{answer:?}");
        owner
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {ON_HOST}\r\nCookie: {}\r\n\r\n", self.cookie);
        self.send(&text)
    }

    /// Returns the cookie of the session.
    pub(crate) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Sends a form with the token of this session.
    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.get("/account").body;
        let fields = [&[("token", token_of(&page))], fields].concat();
        self.send_form(path, &fields)
    }

    fn send_form(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let text = form(path, ON_HOST, &format!("http://{ON_HOST}"), &self.cookie, fields);
        self.send(&text)
    }

    fn send(&mut self, text: &str) -> Answer {
        let answer = send(self.server.site.host(), ON_HOST.parse().unwrap(), text);
        if let Some(cookie) = answer.header("Set-Cookie") {
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        answer
    }

    /// Adds a client, and returns its file.
    pub(crate) fn add(&mut self, name: &str) -> String {
        let page = self.post("/new", &[("name", name), ("routes", "vpn")]);
        file_of(&page)
    }

    /// Gives the client with this page new keys, and returns its file.
    pub(crate) fn renew(&mut self, path: &str) -> String {
        let page = self.post(&format!("{path}/renew"), &[]);
        file_of(&page)
    }

    /// Returns the path of a client's page.
    pub(crate) fn path_of(&mut self, name: &str) -> String {
        let list = self.get("/").body;
        let (before, _) =
            list.split_once(&format!("\">{name}</a>")).unwrap_or_else(|| panic!("{name}: {list}"));
        before.rsplit_once('"').unwrap().1.to_owned()
    }
}

/// Returns the file that a page shows.
fn file_of(page: &Answer) -> String {
    assert_eq!(page.status, 200, "{page:?}");
    let (_, rest) = page.body.split_once("<textarea").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split("</textarea>").next().unwrap().to_owned()
}

/// Signs in by a link in a browser, and sets the first password.
pub(super) fn first_sign_in(browser: &Browser<'_>, server: &Server) {
    let links = server.output(&["admin", "link"]);
    browser.open(links.lines().find(|link| link.contains(ON_HOST)).unwrap());
    // the link's token does not stay in the address
    browser.wait_for_path("/password");
    browser.find("input[name=password]").type_in(PASSWORD);
    browser.find("main button").click();
    browser.wait_for_path("/");
}

/// Returns a request with a form.
pub(crate) fn form(path: &str, host: &str, origin: &str, cookie: &str, fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    let body: Vec<_> =
        fields.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    let body = body.join("&");
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nCookie: {cookie}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns the token of the forms of a page.
pub(crate) fn token_of(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap_or_else(|| panic!("no form: {page}"));
    rest.split('"').next().unwrap()
}
