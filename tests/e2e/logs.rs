//! The destination of the log: journald under systemd, standard error otherwise; and a log that
//! nobody reads, which must not affect the tunnel.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::{Daemon, END, Launch, Stopped, best_stop, read_all};
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::streams::Connection;
use crate::waiting::{TIMEOUT, uninterrupted};

/// One entry of the journal.
type Entry = BTreeMap<String, String>;

/// A datagram socket that simulates journald, in a directory that a program sees as
/// /run/systemd/journal.
#[derive(Debug)]
struct Journal {
    folder: Folder,
    socket: UnixDatagram,
    /// Entries that came before one that was waited for: processes write in any order.
    others: RefCell<Vec<Entry>>,
}

impl Journal {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { folder, socket, others: RefCell::default() }
    }

    /// Returns shell lines that mount this journal, whether or not the machine has a /run/systemd.
    fn mounts(&self) -> String {
        let path = self.folder.path().display();
        format!(
            "mount -t tmpfs none /run; mkdir -p /run/systemd/journal; mount --bind {path} /run/systemd/journal;"
        )
    }

    /// Prepares wontun as systemd would start it, with JOURNAL_STREAM naming its standard error.
    fn start<'host>(&self, host: &'host Host, args: &[&str]) -> (Launch<'host>, PipeReader, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let launch =
            Launch::plain(host, args).prepare(&self.mounts()).env("JOURNAL_STREAM", &stream_name(&writer));
        (launch, reader, writer)
    }

    /// Returns the first entry whose MESSAGE contains `needle`, and which was not returned yet;
    /// waits for it. Panics with the others if it does not come.
    fn wait_for(&self, needle: &str) -> Entry {
        let is_it = |entry: &Entry| entry.get("MESSAGE").is_some_and(|message| message.contains(needle));
        let (start, mut others) = (Instant::now(), self.others.borrow_mut());
        if let Some(place) = others.iter().position(is_it) {
            return others.remove(place);
        }
        let mut buffer = vec![0; 256 * 1024];
        while start.elapsed() < TIMEOUT {
            let Ok(length) = uninterrupted(|| self.socket.recv(&mut buffer)) else { break };
            let entry = parse(&buffer[..length]);
            if is_it(&entry) {
                return entry;
            }
            others.push(entry);
        }
        panic!("no entry with {needle:?} in the journal; there are {others:#?}");
    }
}

/// Returns device and inode of a pipe, as systemd writes them in JOURNAL_STREAM.
fn stream_name(pipe: &PipeWriter) -> String {
    let status = nix::sys::stat::fstat(pipe).unwrap();
    format!("{}:{}", status.st_dev, status.st_ino)
}

/// Parses the native protocol: `KEY=value `, or `KEY `, a 64-bit little-endian length, the value
/// and ` `.
fn parse(mut datagram: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !datagram.is_empty() {
        let end = datagram.iter().position(|byte| *byte == b'\n').expect("a line without an end");
        let (line, rest) = (&datagram[..end], &datagram[end + 1..]);
        let (key, value, rest) = if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            (&line[..equals], &line[equals + 1..], rest)
        } else {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8 + length], b'\n', "a value must end with a line feed");
            (line, &rest[8..8 + length], &rest[9 + length..])
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        entry.insert(text(key), text(value));
        datagram = rest;
    }
    entry
}

fn has(entry: &Entry, key: &str, value: &str) {
    assert_eq!(entry.get(key).map(String::as_str), Some(value), "{key} of {entry:#?}");
}

#[test]
fn under_systemd_the_log_goes_to_journald_with_its_fields() {
    let (lab, journal) = (Lab::new(2), Journal::new());
    let (launch, reader, writer) = journal.start(lab.server(), &[]);
    let server = launch.spawn_with_stderr(writer.into());
    let warning = journal.wait_for("plain mode is not encrypted");
    has(&warning, "PRIORITY", "4");
    has(&warning, "SYSLOG_IDENTIFIER", "wontun");
    let ready = journal.wait_for("ready");
    has(&ready, "PRIORITY", "6");
    has(&ready, "SYSLOG_IDENTIFIER", "wontun");
    for (key, value) in
        [("WONTUN_ROLE", "server"), ("WONTUN_TUN", "tun0"), ("WONTUN_MTU", "1472"), ("WONTUN_PORT", "19988")]
    {
        has(&ready, key, value);
    }
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    has(&journal.wait_for("peer connected"), "PRIORITY", "6");
    assert!(lab.client().ping_once(INNER_SERVER, 972));
    // that of a stop may be lost: the tunnel waits 10 ms for it
    server.signal(Signal::SIGUSR1);
    let summary = journal.wait_for("summary");
    for (key, value) in [
        ("WONTUN_TX_PACKETS", "1"),
        ("WONTUN_TX_BYTES", "1000"),
        ("WONTUN_RX_PACKETS", "1"),
        ("WONTUN_RX_BYTES", "1000"),
        ("WONTUN_DROPS", "none"),
        ("PRIORITY", "6"),
    ] {
        has(&summary, key, value);
    }
    client.stop();
    assert_eq!(server.stop().status.code(), Some(0));
    journal.wait_for("stopping");
    assert_eq!(read_all(reader), "", "and nothing goes to standard error");
}

#[test]
fn priorities_follow_the_level() {
    let (lab, journal) = (Lab::new(2), Journal::new());
    let (launch, _reader, writer) =
        journal.start(lab.server(), &["--log-level", "trace", "--offload", "off"]);
    let _server = launch.spawn_with_stderr(writer.into());
    journal.wait_for("ready");
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    // At this level there are entries of debug or trace, all of priority 7.
    let mut buffer = vec![0; 256 * 1024];
    let found = (0..1000).map_while(|_| {
        uninterrupted(|| journal.socket.recv(&mut buffer)).ok().map(|length| parse(&buffer[..length]))
    });
    let entry = found.into_iter().find(|entry| entry["PRIORITY"] == "7");
    assert!(entry.is_some(), "no entry of priority 7 at trace level");
}

#[test]
fn a_fatal_error_is_an_entry_of_priority_3() {
    let (lab, journal) = (Lab::new(2), Journal::new());
    let (launch, reader, writer) = journal.start(lab.server(), &["--listen", "192.0.2.99"]);
    let stopped = launch.spawn_with_stderr(writer.into()).wait_exit();
    assert_eq!(stopped.status.code(), Some(69), "{stopped:?}");
    has(&journal.wait_for("192.0.2.99"), "PRIORITY", "3");
    // Standard error of a unit is the journal too: at most the one line for users.
    assert!(read_all(reader).lines().count() <= 1);
}

/// JOURNAL_STREAM is inherited by everything a unit starts; it counts only while it names the
/// process's own stream.
#[test]
fn a_redirected_standard_error_gets_the_log_whatever_journal_stream_says() {
    let (lab, journal) = (Lab::new(2), Journal::new());
    let launch = Launch::plain(lab.server(), &[]).prepare(&journal.mounts()).env("JOURNAL_STREAM", "1:1");
    let server = launch.spawn();
    server.wait_ready();
    server.stop();
    journal.socket.set_nonblocking(true).unwrap();
    assert!(uninterrupted(|| journal.socket.recv(&mut [0; 16])).is_err(), "an entry in the journal");
}

#[test]
fn log_target_overrules_what_systemd_says() {
    let (lab, journal) = (Lab::new(2), Journal::new());
    let (launch, reader, writer) = journal.start(lab.server(), &["--log-target", "stderr"]);
    let mut server = launch.spawn_with_stderr(writer.into());
    server.capture(reader);
    server.wait_ready();
    server.summary();
    server.stop();
    journal.socket.set_nonblocking(true).unwrap();
    assert!(uninterrupted(|| journal.socket.recv(&mut [0; 16])).is_err(), "an entry in the journal");
    journal.socket.set_nonblocking(false).unwrap();
    let args = ["--log-target", "journald"];
    let server = Launch::plain(lab.server(), &args).prepare(&journal.mounts()).spawn();
    has(&journal.wait_for("ready"), "WONTUN_ROLE", "server");
    assert_eq!(server.stop().lines, [""; 0], "nothing on standard error");
}

#[test]
fn journald_asked_for_and_absent_falls_back_to_standard_error_and_says_so() {
    let lab = Lab::new(2);
    let no_journald = "mount -t tmpfs none /run;";
    let server = Launch::plain(lab.server(), &["--log-target", "journald"]).prepare(no_journald).spawn();
    server.wait_ready();
    let said = server.wait_for("journald");
    assert!(said.contains("WARN"), "{said}");
    assert_eq!(server.count("journald"), 1);
}

// The tests that need many lines have the offloads off: one line per packet.

/// A journal that accepts and never reads: its queue is full after some entries.
#[test]
fn a_journald_that_hangs_does_not_hold_up_the_tunnel() {
    let (lab, journal) = (Lab::new(2), Journal::new());
    let stopped = best_stop(is_in_time, || {
        let (launch, _reader, writer) =
            journal.start(lab.server(), &["--log-level", "trace", "--offload", "off"]);
        works_without_a_reader(&lab, launch.spawn_with_stderr(writer.into()))
    });
    assert!(is_in_time(&stopped), "took {:?} to end", stopped.elapsed);
    journal.wait_for("ready");
}

/// A container's log driver that stops reading: the pipe is full after 64 KiB.
#[test]
fn a_standard_error_that_nobody_reads_does_not_hold_up_the_tunnel() {
    let lab = Lab::new(2);
    let stopped = best_stop(is_in_time, || {
        let (reader, writer) = std::io::pipe().unwrap();
        let server = Launch::plain(lab.server(), &["--log-level", "trace", "--offload", "off"])
            .spawn_with_stderr(writer.into());
        let stopped = works_without_a_reader(&lab, server);
        let log = read_all(reader);
        assert!(log.len() >= 60_000, "the pipe was never full: {} bytes", log.len());
        stopped
    });
    assert!(is_in_time(&stopped), "took {:?} to end", stopped.elapsed);
}

fn is_in_time(stopped: &Stopped) -> bool {
    stopped.elapsed < END
}

fn works_without_a_reader(lab: &Lab, server: Daemon) -> Stopped {
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(5_000_000);
    lab.client().ping(INNER_SERVER);
    server.stop()
}

/// Lines that could not be written are counted, and the count is logged.
#[test]
fn lost_lines_are_counted() {
    let lab = Lab::new(2);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Launch::plain(lab.server(), &["--log-level", "trace", "--offload", "off"])
        .spawn_with_stderr(writer.into());
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(20_000_000);
    // Now the pipe is read again.
    server.capture(reader);
    lab.client().ping(INNER_SERVER);
    server.wait_for("lost");
    lab.client().ping(INNER_SERVER);
    // and lines are written as before
    server.summary();
    assert_eq!(server.stop().status.code(), Some(0));
}

#[test]
fn the_warning_about_plain_mode_comes_once_in_either_role() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    for daemon in [server, client] {
        let lines = daemon.stop().lines;
        let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("not encrypted")).collect();
        let [warning] = warnings.as_slice() else { panic!("exactly one expected: {warnings:?}") };
        assert!(warning.contains("WARN") && warning.contains("plain mode is not encrypted"), "{warning}");
    }
}

#[test]
fn the_log_is_one_plain_line_an_event_and_names_no_address_at_info() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    lab.server().ping(INNER_CLIENT);
    client.stop();
    let lines = server.stop().lines;
    for line in &lines {
        assert!(!line.contains('\u{1b}'), "colour where no terminal is: {line:?}");
        assert!(!line.contains("192.0.2.2"), "a peer's address above debug: {line}");
    }
    // And the level applies: at error there is nothing to log.
    let quiet = Launch::plain(lab.server(), &["--log-level", "error"]).spawn();
    crate::waiting::eventually("the server is up", || lab.server().has_device("tun0"));
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert_eq!(quiet.stop().lines, [""; 0]);
    let chatty = Daemon::server(lab.server(), &["--log-level", "debug"]);
    lab.client().ping(INNER_SERVER);
    chatty.wait_for("192.0.2.2");
}
