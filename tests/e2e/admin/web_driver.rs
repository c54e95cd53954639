//! A client of WebDriver (W3C), by which Chromium's own driver, chromedriver, moves the browser.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};

use crate::mounts::Folder;
use crate::waiting::{eventually, holds_within};
use crate::wireguard::site::Site;

const PORT: u16 = 9515;
/// Key of an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Time of one request: a browser on a busy machine is slow to start.
const TIMEOUT: Duration = Duration::from_secs(60);
const TOOLS: &[(&str, &str)] = &[("chromedriver", "chromium-driver"), ("chromium", "chromium")];

/// A browser on a host.
pub(crate) struct Browser<'site> {
    site: &'site Site,
    driver: Child,
    session: String,
    _home: Folder,
}

/// An element of the page.
pub(crate) struct Element<'browser>(&'browser Browser<'browser>, String);

impl<'site> Browser<'site> {
    /// Starts a browser, without a window on a screen.
    pub(crate) fn new(site: &'site Site) -> Self {
        Self::start(site, json!({}))
    }

    /// Starts a browser that records its requests.
    pub(crate) fn with_log(site: &'site Site) -> Self {
        Self::start(site, json!({ "performance": "ALL" }))
    }

    fn start(site: &'site Site, logs: Value) -> Self {
        for (tool, package) in TOOLS {
            let exists = Path::new("/usr/bin").join(tool).exists();
            assert!(exists, "the tool '{tool}' is missing; apt-get install {package}");
        }
        let home = Folder::new();
        let mut command = site.command("chromedriver");
        command.arg(format!("--port={PORT}")).env("HOME", home.path()).env("TMPDIR", home.path());
        let driver = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut browser = Self { site, driver, session: String::new(), _home: home };
        eventually("chromedriver listens", || browser.try_request("GET", "/status", None).is_some());
        let profile = browser._home.path().join("profile");
        // root in a namespace of its own: the browser's sandbox needs another user
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-extensions".to_owned(),
            "--no-first-run".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        let options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        let capabilities = json!({
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options,
            "goog:loggingPrefs": logs,
        });
        let capabilities = json!({ "alwaysMatch": capabilities });
        let session = browser.request("POST", "/session", Some(json!({ "capabilities": capabilities })));
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    /// Sends a request to the driver; `None` if it does not listen.
    fn try_request(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let body = body.map_or_else(String::new, |body| body.to_string());
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        let stream = self.site.host().inside(|| std::net::TcpStream::connect(address));
        let mut stream = stream.ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{PORT}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        // it leaves the connection open
        let mut reader = BufReader::new(stream);
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            match line.strip_prefix("content-length:") {
                Some(digits) => length = digits.trim().parse().ok()?,
                None if status.is_none() => status = line.split(' ').nth(1)?.parse().ok(),
                None => {}
            }
        }
        let status = status?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut value: Value = serde_json::from_slice(&body).ok()?;
        Some((status, value["value"].take()))
    }

    fn request(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.try_request(method, path, body);
        let (status, value) = answer.unwrap_or_else(|| panic!("{method} {path}: no answer"));
        assert_eq!(status, 200, "{method} {path}: {value}");
        value
    }

    fn command(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.request(method, &format!("{}{path}", self.session), body)
    }

    /// Opens a page, and waits until it is loaded.
    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "/url", Some(json!({ "url": url })));
    }

    /// Returns the address of the page.
    pub(crate) fn url(&self) -> String {
        self.command("GET", "/url", None).as_str().unwrap().to_owned()
    }

    /// Waits until the page is at this path.
    pub(crate) fn wait_for_path(&self, path: &str) {
        let mut last = String::new();
        let is_there = holds_within(TIMEOUT, || {
            last = self.url();
            last.split_once("://")
                .and_then(|(_, rest)| rest.split_once('/'))
                .is_some_and(|(_, at)| at == &path[1..])
        });
        assert!(is_there, "the page is at {last}, not at {path}: {}", self.text("body"));
    }

    /// Returns the element that a CSS selector finds first, once there is one.
    pub(crate) fn find(&self, selector: &str) -> Element<'_> {
        let mut found = None;
        let query = json!({ "using": "css selector", "value": selector });
        holds_within(TIMEOUT, || {
            let path = format!("{}/element", self.session);
            found = self.try_request("POST", &path, Some(query.clone())).filter(|(status, _)| *status == 200);
            found.is_some()
        });
        let (_, element) = found.unwrap_or_else(|| panic!("nothing is '{selector}' at {}", self.url()));
        Element(self, format!("/element/{}", element[ELEMENT].as_str().unwrap()))
    }

    /// Returns the text of the element.
    pub(crate) fn text(&self, selector: &str) -> String {
        let script = "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''";
        self.run(script, &[selector]).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the element has this text.
    pub(crate) fn wait_for_text(&self, selector: &str, part: &str) {
        let mut last = String::new();
        let has = holds_within(TIMEOUT, || {
            last = self.text(selector);
            last.contains(part)
        });
        assert!(has, "'{selector}' is '{last}', not '{part}'");
    }

    /// Runs a script in the page.
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> Value {
        self.command("POST", "/execute/sync", Some(json!({ "script": script, "args": arguments })))
    }

    /// Runs a script in the page that calls its last argument with its result.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        self.command("POST", "/execute/async", Some(json!({ "script": script, "args": [] })))
    }

    /// Sends a command of the DevTools protocol.
    fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("POST", "/goog/cdp/execute", Some(body))
    }

    /// Returns the requests since the last call, as the DevTools protocol describes them.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let log = self.command("POST", "/se/log", Some(json!({ "type": "performance" })));
        let entries = log.as_array().unwrap().iter();
        let events =
            entries.map(|entry| serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap());
        let events = events.map(|mut event| event["message"].take());
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|mut event| event["params"]["request"].take()).collect()
    }

    /// Prefers dark or light colours, and lays the page out for this width; 0 for the window's.
    pub(crate) fn emulate(&self, is_dark: bool, width: u32) {
        let value = if is_dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": feature }));
        let metrics = json!({ "width": width, "height": 0, "deviceScaleFactor": 1, "mobile": width > 0 && width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Returns a picture of the page, as WebP.
    pub(crate) fn webp(&self) -> Vec<u8> {
        let picture = self.devtools("Page.captureScreenshot", json!({ "format": "webp", "quality": 80 }));
        Base64::decode_vec(picture["data"].as_str().unwrap()).unwrap()
    }

    /// Sets the size of the window in pixels.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.command("POST", "/window/rect", Some(json!({ "width": width, "height": height })));
    }

    /// Returns true if a script has opened a dialog.
    pub(crate) fn has_dialog(&self) -> bool {
        let path = format!("{}/alert/text", self.session);
        self.try_request("GET", &path, None).is_some_and(|(status, _)| status == 200)
    }
}

impl Element<'_> {
    pub(crate) fn type_in(&self, text: &str) {
        self.0.command("POST", &format!("{}/clear", self.1), Some(json!({})));
        self.0.command("POST", &format!("{}/value", self.1), Some(json!({ "text": text })));
    }

    pub(crate) fn click(&self) {
        self.0.command("POST", &format!("{}/click", self.1), Some(json!({})));
    }

    /// Returns a picture of the element, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let text = self.0.command("GET", &format!("{}/screenshot", self.1), None);
        Base64::decode_vec(text.as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.try_request("DELETE", &self.session, None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
