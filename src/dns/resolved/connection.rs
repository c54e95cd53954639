//! A connection to the system's message bus: calls with a deadline, and signals.
//!
//! A user of this host can send signals to any connection, so that they are only a reason to look,
//! and a message that is too long or invalid ends the connection.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use zbus::Type;

use super::wire::{Body, Method, Received, WireError, decode_message, encode_call, message_length};

/// Paths of the bus, as in the specification ("Well-known Message Bus Instances").
const SOCKETS: [&str; 2] = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];
/// The bus itself.
pub(super) const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
/// Authentication by the credentials of the socket, for whatever user they are of, and the end of
/// it: none of it depends on an answer.
const AUTHENTICATION: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
/// Maximum length of a line of the authentication.
const MAX_LINE: usize = 512;
/// Time for one call. resolved answers within milliseconds, unless polkit has to be started.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of signals read at a time.
const DRAIN: usize = 64 * 1024;

/// Reason why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BusError {
    /// There is no bus.
    #[error("D-Bus is not there ({0})")]
    NoBus(String),
    /// The bus does not accept this user.
    #[error("D-Bus refuses this process's user")]
    Refused,
    /// The connection has ended.
    #[error("D-Bus has closed the connection")]
    Closed,
    /// The kernel refused something.
    #[error("the connection to D-Bus failed: {0}")]
    System(String),
    /// There was no answer.
    #[error("no answer from {0} within {seconds} s", seconds = TIMEOUT.as_secs())]
    TimedOut(String),
    /// An invalid message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The method failed.
    #[error("{text} ({name})")]
    Method {
        /// Name of the error.
        name: String,
        /// Its text.
        text: String,
    },
}

impl BusError {
    /// Returns true if the connection cannot be used any more.
    pub(crate) const fn is_fatal(&self) -> bool {
        !matches!(self, Self::Method { .. } | Self::TimedOut(_))
    }
}

fn system(error: &io::Error) -> BusError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => BusError::Closed,
        _ => BusError::System(error.to_string()),
    }
}

/// Connects, and sends all of the authentication and the first call (`Hello`), whose answers
/// [`Connection::greeted`] reads. The bus takes the caller's user for that of the connection, also
/// if another process uses it later.
///
/// # Errors
/// There is no bus.
pub(super) fn connect_and_greet() -> Result<OwnedFd, BusError> {
    let mut last = None;
    for path in SOCKETS {
        match UnixStream::connect(path) {
            Ok(mut stream) => {
                let hello = encode_call(&bus_method("Hello"), 1, true, None::<&()>)?;
                stream.write_all(&[AUTHENTICATION, &hello].concat()).map_err(|error| system(&error))?;
                return Ok(stream.into());
            }
            Err(error) => last = Some(format!("{path}: {error}")),
        }
    }
    Err(BusError::NoBus(last.unwrap_or_default()))
}

const fn bus_method(member: &str) -> Method<'_> {
    Method { destination: BUS, path: BUS_PATH, interface: BUS, member }
}

/// A connection to the bus.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    serial: u32,
    has_signal: bool,
}

impl Connection {
    /// Completes a connection that [`connect_and_greet`] made.
    ///
    /// # Errors
    /// The bus refuses the user that connected, or does not answer.
    pub(crate) fn greeted(socket: OwnedFd) -> Result<Self, BusError> {
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(true).map_err(|error| system(&error))?;
        let mut connection = Self { stream, input: Vec::new(), serial: 1, has_signal: false };
        let deadline = Instant::now() + TIMEOUT;
        for expected in ["DATA", "OK "] {
            // a bus that refuses a user closes the connection, or lists what it would accept
            let line = connection.read_line(deadline).map_err(|error| match error {
                BusError::Closed => BusError::Refused,
                error => error,
            })?;
            if !line.starts_with(expected) {
                return Err(BusError::Refused);
            }
        }
        let answered = connection.wait_for(1, BUS, deadline);
        answered.map_err(|error| if error == BusError::Closed { BusError::Refused } else { error })?;
        Ok(connection)
    }

    /// Calls `method`, and returns the body of its answer.
    ///
    /// # Errors
    /// [`BusError`].
    pub(super) fn call<T: Serialize + Type>(
        &mut self,
        method: &Method<'_>,
        argument: Option<&T>,
    ) -> Result<Body, BusError> {
        let deadline = Instant::now() + TIMEOUT;
        self.serial = self.serial.checked_add(1).unwrap_or(2);
        let bytes = encode_call(method, self.serial, true, argument)?;
        self.write(&bytes, deadline)?;
        self.wait_for(self.serial, method.destination, deadline)
    }

    /// Subscribes to the signals of a rule ("Match Rules" of the specification).
    ///
    /// # Errors
    /// [`BusError`].
    pub(crate) fn add_match(&mut self, rule: &str) -> Result<(), BusError> {
        self.call(&bus_method("AddMatch"), Some(&rule)).map(drop)
    }

    /// Returns the connection that has the well-known name `service`, which is not started.
    ///
    /// # Errors
    /// [`BusError`]; of the bus if none has it.
    pub(crate) fn name_owner(&mut self, service: &str) -> Result<String, BusError> {
        Ok(self.call(&bus_method("GetNameOwner"), Some(&service))?.decode()?)
    }

    /// Waits for a signal until `deadline`. Returns false if there was none since the last call.
    ///
    /// # Errors
    /// [`BusError`].
    pub(crate) fn wait_for_signal(&mut self, deadline: Instant) -> Result<bool, BusError> {
        loop {
            while self.next_message()?.is_some() {}
            if std::mem::take(&mut self.has_signal) {
                return Ok(true);
            }
            match self.read_until(deadline) {
                Ok(()) => {}
                Err(BusError::TimedOut(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what has arrived. Returns true if there was a signal since the last call.
    ///
    /// # Errors
    /// [`BusError`]; the connection cannot be used any more.
    pub(crate) fn drain(&mut self) -> Result<bool, BusError> {
        let mut budget = DRAIN;
        loop {
            while self.next_message()?.is_some() {}
            match self.read_some() {
                Ok(length) if length < budget => budget -= length,
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(system(&error)),
            }
        }
        while self.next_message()?.is_some() {}
        Ok(std::mem::take(&mut self.has_signal))
    }

    fn wait_for(&mut self, serial: u32, from: &str, deadline: Instant) -> Result<Body, BusError> {
        loop {
            while let Some(message) = self.next_message()? {
                match message {
                    Received::Reply { serial: answered, result } if answered == serial => {
                        return result.map_err(|(name, text)| BusError::Method {
                            name: one_line(&name),
                            text: one_line(&text),
                        });
                    }
                    _ => {}
                }
            }
            self.read_until(deadline).map_err(|error| match error {
                BusError::TimedOut(_) => BusError::TimedOut(from.to_owned()),
                error => error,
            })?;
        }
    }

    /// Returns the next whole message of the input.
    fn next_message(&mut self) -> Result<Option<Received>, BusError> {
        let Some(length) = message_length(&self.input)?.filter(|length| *length <= self.input.len()) else {
            return Ok(None);
        };
        let rest = self.input.split_off(length);
        let message = decode_message(&std::mem::replace(&mut self.input, rest))?;
        self.has_signal |= message == Received::Signal;
        Ok(Some(message))
    }

    fn read_line(&mut self, deadline: Instant) -> Result<String, BusError> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.input.split_off(end + 2);
                let line = std::mem::replace(&mut self.input, rest);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.input.len() > MAX_LINE {
                return Err(BusError::Refused);
            }
            self.read_until(deadline)?;
        }
    }

    /// Reads something, waiting for it until `deadline`.
    fn read_until(&mut self, deadline: Instant) -> Result<(), BusError> {
        loop {
            match self.read_some() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(system(&error)),
            }
            self.wait(PollFlags::POLLIN, deadline)?;
        }
    }

    /// Reads once, without waiting. Zero bytes, the end of the connection, are an error.
    fn read_some(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                Ok(length) => {
                    self.input.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    return Ok(length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), BusError> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLOUT, deadline)?;
                }
                Err(error) => return Err(system(&error)),
            }
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<(), BusError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(BusError::TimedOut(BUS.to_owned()));
        }
        // rounded up: a timeout of 0 ms would spin until the deadline
        let left = left + Duration::from_millis(1);
        match poll(
            &mut [PollFd::new(self.stream.as_fd(), events)],
            left.try_into().unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(system(&error.into())),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Returns the text as one line of bounded length, for a log.
pub(super) fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::wire::tests::reply;
    use super::*;

    const OK: &[u8] = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n";
    const RETURN: u8 = 2;
    const ERROR: u8 = 3;
    const SIGNAL: u8 = 4;

    /// Returns a connection whose other end has sent `bytes`, and that end.
    fn connection(bytes: &[u8]) -> (Result<Connection, BusError>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        (Connection::greeted(ours.into()), theirs)
    }

    fn greeted() -> (Connection, UnixStream) {
        let (connection, theirs) = connection(&[OK, &reply(RETURN, 1, None, &":1.7")].concat());
        (connection.unwrap(), theirs)
    }

    #[test]
    fn a_bus_that_refuses_the_user_is_an_error() {
        for refusal in [&b"REJECTED EXTERNAL\r\n"[..], b"DATA\r\nREJECTED\r\n", &[b'x'; 4096]] {
            assert_eq!(connection(refusal).0.unwrap_err(), BusError::Refused);
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(Connection::greeted(ours.into()).unwrap_err(), BusError::Refused);
    }

    #[test]
    fn an_answer_is_that_of_its_call() {
        let (mut connection, mut theirs) = greeted();
        let other = reply(RETURN, 99, None, &"another call's");
        let signal = reply(SIGNAL, 2, None, &"a signal");
        theirs.write_all(&[other, signal, reply(RETURN, 2, None, &":1.8")].concat()).unwrap();
        assert_eq!(connection.name_owner("org.example").unwrap(), ":1.8");
        assert!(connection.drain().unwrap() && !connection.drain().unwrap());
        let long = "x".repeat(500) + "\n";
        theirs.write_all(&reply(ERROR, 3, Some("org.example.No"), &long.as_str())).unwrap();
        let Err(BusError::Method { name, text }) = connection.name_owner("org.example") else { panic!() };
        assert_eq!((name.as_str(), text.len()), ("org.example.No", 200));
    }

    #[test]
    fn a_message_in_pieces_is_read() {
        let (mut connection, mut theirs) = greeted();
        let answer = reply(RETURN, 2, None, &":1.8");
        let thread = thread::spawn(move || {
            for byte in answer {
                theirs.write_all(&[byte]).unwrap();
            }
            theirs
        });
        assert_eq!(connection.name_owner("org.example").unwrap(), ":1.8");
        drop(thread.join().unwrap());
        assert_eq!(connection.drain(), Err(BusError::Closed));
    }

    #[test]
    fn what_is_no_message_ends_the_connection() {
        let mut too_long = reply(SIGNAL, 2, None, &"");
        too_long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        for bytes in [too_long, vec![b'l'; 64], reply(9, 2, None, &"")[..20].repeat(4)] {
            let (mut connection, mut theirs) = greeted();
            theirs.write_all(&bytes).unwrap();
            let error = connection.drain().unwrap_err();
            assert!(matches!(error, BusError::Wire(_)) && error.is_fatal(), "{error:?}");
        }
    }
}
