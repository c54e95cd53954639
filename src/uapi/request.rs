//! Incremental parser of requests.

use super::changes::Changes;
use super::error::{RequestError, RequestErrorKind, describe};
use super::limits::{MAX_LINE, MAX_REQUEST};
use super::line;
use super::secret_text::SecretText;
use crate::config::OwnerName;

/// Request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `get=1`: returns the configuration, secrets included, and the traffic counters.
    Get,
    /// `status=1`, an extension for `wontun show`: like `get=1`, without secrets and with
    /// additional state. See [`super::ResponseFormat::Status`].
    Status,
    /// `file=1`, an extension for `wontun peer`: returns the path of the configuration file.
    File,
    /// `reload=1`, an extension for `wontun peer`: reads the configuration file again, as SIGHUP.
    /// The answer comes after it was applied; if it was refused, with the reason.
    Reload,
    /// `admin=1`, an extension for `wontun admin link`: returns links to the admin page that can be
    /// used once, each of which is a secret. `admin_owner=NAME` returns those of an owner of peers.
    AdminLink(Option<OwnerName>),
    /// `admin_tokens=1`, an extension for `wontun admin token`: reads the tokens of the admin
    /// page's API again. The answer comes when they are in force.
    AdminTokens,
    /// `set=1`: applies the changes.
    Set(Changes),
}

/// Result of parsing a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    /// Number of input bytes consumed. All of them, unless a request ended: the rest belongs to the
    /// next one.
    pub consumed: usize,
    /// The request that ended there, if any.
    pub request: Option<Result<Request, RequestError>>,
}

/// Parses requests. Holds the parsed part of the request and at most one line of its text.
#[derive(Debug, Default)]
pub struct RequestParser {
    state: State,
    /// The beginning of an incomplete line.
    partial: SecretText,
    /// Number of complete lines of this request.
    lines: usize,
    /// Number of bytes of this request.
    bytes: usize,
}

#[derive(Debug, Default)]
enum State {
    /// The next line names the operation.
    #[default]
    Start,
    /// Only the empty line is valid.
    NoArguments(Request, &'static str),
    Set(Changes),
    /// The rest of the request is ignored.
    Invalid(RequestError),
}

impl RequestParser {
    /// Parses bytes up to the end of one request.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Progress {
        let mut consumed = 0;
        while let Some(rest) = input.get(consumed..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|&b| b == b'\n');
            let taken = end.map_or(rest.len(), |end| end + 1);
            consumed += taken;
            self.bytes = self.bytes.saturating_add(taken);
            if self.bytes > MAX_REQUEST {
                self.fail(RequestErrorKind::TooLong);
                return Progress { consumed, request: Some(self.finish()) };
            }
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if end.is_none() {
                self.keep(piece);
                break;
            }
            if self.partial.as_bytes().is_empty() {
                if self.handle_line(piece) {
                    return Progress { consumed, request: Some(self.finish()) };
                }
            } else {
                self.keep(piece);
                let line = std::mem::take(&mut self.partial);
                self.handle_line(line.as_bytes());
            }
            self.lines += 1;
        }
        Progress { consumed, request: None }
    }

    /// Handles the end of the connection. Returns an error if it was in the middle of a request.
    pub fn handle_end(&mut self) -> Option<RequestError> {
        if self.bytes == 0 {
            return None;
        }
        self.fail(RequestErrorKind::Unfinished);
        self.finish().err()
    }

    /// Appends to the incomplete line, up to one byte more than a line may have.
    fn keep(&mut self, piece: &[u8]) {
        let room = (MAX_LINE + 1).saturating_sub(self.partial.as_bytes().len());
        self.partial.push(piece.get(..room).unwrap_or(piece));
    }

    /// Handles one line. Returns true if the request ends with it.
    fn handle_line(&mut self, text: &[u8]) -> bool {
        if text.len() > MAX_LINE {
            if !matches!(self.state, State::Invalid(_)) {
                self.fail(RequestErrorKind::LongLine);
            }
            return false;
        }
        let kind = match &mut self.state {
            State::Invalid(_) => None,
            State::Start => match text {
                b"get=1" => self.start(State::NoArguments(Request::Get, "get=1")),
                b"status=1" => self.start(State::NoArguments(Request::Status, "status=1")),
                b"file=1" => self.start(State::NoArguments(Request::File, "file=1")),
                b"reload=1" => self.start(State::NoArguments(Request::Reload, "reload=1")),
                b"admin=1" => self.start(State::NoArguments(Request::AdminLink(None), "admin=1")),
                b"admin_tokens=1" => self.start(State::NoArguments(Request::AdminTokens, "admin_tokens=1")),
                b"set=1" => self.start(State::Set(Changes::default())),
                _ => match owner_of(text) {
                    Some(owner) => {
                        self.start(State::NoArguments(Request::AdminLink(Some(owner)), "admin_owner=NAME"))
                    }
                    None => Some(RequestErrorKind::Operation(describe(text))),
                },
            },
            State::NoArguments(..) | State::Set(_) if text.is_empty() => None,
            State::NoArguments(_, operation) => Some(RequestErrorKind::Trailing(operation)),
            State::Set(changes) => line::apply(changes, text).err(),
        };
        if let Some(kind) = kind {
            self.fail(kind);
        }
        text.is_empty()
    }

    fn start(&mut self, state: State) -> Option<RequestErrorKind> {
        self.state = state;
        None
    }

    fn fail(&mut self, kind: RequestErrorKind) {
        self.state = State::Invalid(RequestError { line: self.lines + 1, kind });
    }

    /// Returns the request and resets the parser for the next one.
    fn finish(&mut self) -> Result<Request, RequestError> {
        match std::mem::take(self).state {
            State::NoArguments(request, _) => Ok(request),
            State::Set(changes) => Ok(Request::Set(changes)),
            State::Invalid(error) => Err(error),
            // not reached: an empty line has failed already in that state
            State::Start => Err(RequestError { line: 1, kind: RequestErrorKind::Operation(describe(b"")) }),
        }
    }
}

/// Parses `admin_owner=NAME`.
fn owner_of(line: &[u8]) -> Option<OwnerName> {
    std::str::from_utf8(line).ok()?.strip_prefix("admin_owner=")?.parse().ok()
}
