//! From bytes, in whatever pieces they come, to requests.

use super::changes::Changes;
use super::error::{RequestError, RequestFault, shown};
use super::limits::{MAX_LINE, MAX_REQUEST};
use super::line;
use super::secret_text::SecretText;

/// What is asked of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `get=1`: how it is configured, secrets included, and what it carried.
    Get,
    /// `status=1`, an operation of our own for `wontun show`: as `get=1`, without secrets, and with what else is of
    /// interest. See [`super::Report::Status`].
    Status,
    /// `set=1`: change this.
    Set(Changes),
}

/// How far a parser came.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that were taken. All, unless there is a request: the rest belongs to the next.
    pub consumed: usize,
    /// The request that ended there.
    pub request: Option<Result<Request, RequestError>>,
}

/// Reads requests. It holds what the request says and at most one line of its text.
#[derive(Debug, Default)]
pub struct RequestParser {
    state: State,
    /// The beginning of a line whose end has not come.
    partial: SecretText,
    /// Lines of this request that have ended.
    lines: usize,
    /// Bytes of this request.
    bytes: usize,
}

#[derive(Debug, Default)]
enum State {
    /// The next line names the operation.
    #[default]
    Start,
    /// Nothing but the empty line may come.
    Bare(Request, &'static str),
    Set(Changes),
    /// The rest of the request is passed over.
    Wrong(RequestError),
}

impl RequestParser {
    /// Takes in bytes up to the end of one request.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Progress {
        let mut consumed = 0;
        while let Some(rest) = input.get(consumed..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|&b| b == b'\n');
            let taken = end.map_or(rest.len(), |end| end + 1);
            consumed += taken;
            self.bytes = self.bytes.saturating_add(taken);
            if self.bytes > MAX_REQUEST {
                self.fail(RequestFault::TooLong);
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

    /// The connection has ended: what is wrong, if that was in the middle of a request.
    pub fn handle_end(&mut self) -> Option<RequestError> {
        if self.bytes == 0 {
            return None;
        }
        self.fail(RequestFault::Unfinished);
        self.finish().err()
    }

    /// Adds to the line that has not ended; no more than makes it too long.
    fn keep(&mut self, piece: &[u8]) {
        let room = (MAX_LINE + 1).saturating_sub(self.partial.as_bytes().len());
        self.partial.push(piece.get(..room).unwrap_or(piece));
    }

    /// Takes in one line and tells whether the request ends with it.
    fn handle_line(&mut self, text: &[u8]) -> bool {
        if text.len() > MAX_LINE {
            if !matches!(self.state, State::Wrong(_)) {
                self.fail(RequestFault::LongLine);
            }
            return false;
        }
        let fault = match &mut self.state {
            State::Wrong(_) => None,
            State::Start => match text {
                b"get=1" => self.start(State::Bare(Request::Get, "get=1")),
                b"status=1" => self.start(State::Bare(Request::Status, "status=1")),
                b"set=1" => self.start(State::Set(Changes::default())),
                _ => Some(RequestFault::Operation(shown(text))),
            },
            State::Bare(..) | State::Set(_) if text.is_empty() => None,
            State::Bare(_, operation) => Some(RequestFault::Trailing(operation)),
            State::Set(changes) => line::apply(changes, text).err(),
        };
        if let Some(fault) = fault {
            self.fail(fault);
        }
        text.is_empty()
    }

    fn start(&mut self, state: State) -> Option<RequestFault> {
        self.state = state;
        None
    }

    fn fail(&mut self, fault: RequestFault) {
        self.state = State::Wrong(RequestError { line: self.lines + 1, fault });
    }

    /// Gives the request and is ready for the next.
    fn finish(&mut self) -> Result<Request, RequestError> {
        match std::mem::take(self).state {
            State::Bare(request, _) => Ok(request),
            State::Set(changes) => Ok(Request::Set(changes)),
            State::Wrong(error) => Err(error),
            // an empty line fails there, so this is not reached
            State::Start => Err(RequestError { line: 1, fault: RequestFault::Operation(shown(b"")) }),
        }
    }
}
