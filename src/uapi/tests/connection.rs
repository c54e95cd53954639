//! Tests of a connection: split requests, several in a row, answers that are not read.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use zeroize::Zeroizing;

use super::*;
use crate::uapi::limits::MAX_REQUEST;

fn pair() -> (UnixStream, UapiConnection) {
    let (client, server) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    (client, UapiConnection::new(server))
}

/// Returns the answers received so far.
fn received(client: &mut UnixStream) -> String {
    client.set_nonblocking(true).unwrap();
    let mut text = Vec::new();
    // an error means that there is no more
    let _ = client.read_to_end(&mut text);
    client.set_nonblocking(false).unwrap();
    String::from_utf8(text).unwrap()
}

const REQUEST: &[u8] = b"set=1\nlisten_port=7\n\n";

fn listen_port(poll: &RequestPoll) -> Option<u16> {
    match poll {
        RequestPoll::Request(Request::Set(changes)) => changes.listen_port,
        _ => None,
    }
}

#[test]
fn a_request_may_come_in_two_pieces() {
    for cut in 1..REQUEST.len() {
        let (mut client, mut stream) = pair();
        client.write_all(&REQUEST[..cut]).unwrap();
        assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Blocked), "{cut}");
        client.write_all(&REQUEST[cut..]).unwrap();
        assert_eq!(listen_port(&stream.poll_request().unwrap()), Some(7), "{cut}");
    }
}

#[test]
fn several_requests_are_answered_one_after_the_other() {
    let (mut client, mut stream) = pair();
    client.write_all(&[REQUEST, b"get=1\n\nstatus=1\n\n"].concat()).unwrap();
    assert_eq!(listen_port(&stream.poll_request().unwrap()), Some(7));
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Blocked), "the first has no answer yet");
    stream.respond(ok_response()).unwrap();
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Request(Request::Get)));
    stream.respond(error_response(-5)).unwrap();
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Request(Request::Status)));
    stream.respond(ok_response()).unwrap();
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Blocked));
    assert_eq!(received(&mut client), "errno=0\n\nerrno=-5\n\nerrno=0\n\n");
    drop(client);
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Closed));
}

#[test]
fn a_wrong_request_is_answered_and_the_next_one_understood() {
    let (mut client, mut stream) = pair();
    client.write_all(b"set=1\nlisten_port=x\nfwmark=1\n\n").unwrap();
    client.write_all(REQUEST).unwrap();
    let RequestPoll::Rejected(error) = stream.poll_request().unwrap() else { panic!("refused") };
    assert_eq!(
        error.to_string(),
        "line 2 of the request: listen_port: found 'x', expected a UDP port from 0 to 65535"
    );
    assert_eq!(received(&mut client), "errno=-22\n\n");
    assert_eq!(listen_port(&stream.poll_request().unwrap()), Some(7));
}

#[test]
fn an_end_in_the_middle_is_an_error_and_changes_nothing() {
    let (mut client, mut stream) = pair();
    client.write_all(&REQUEST[..REQUEST.len() - 1]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let RequestPoll::Rejected(error) = stream.poll_request().unwrap() else { panic!("refused") };
    assert_eq!(error.kind, RequestErrorKind::Unfinished);
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Closed));
    assert_eq!(received(&mut client), "errno=-71\n\n");
}

#[test]
fn a_large_request_is_read_in_turns() {
    const NETWORKS: usize = 100_000;
    let (mut client, mut stream) = pair();
    let mut request = format!("set=1\npublic_key={}\n", "ab".repeat(32));
    for number in 0..NETWORKS {
        request.push_str(&format!("allowed_ip=fd00:1234:5678::{:x}:{:x}/128\n", number >> 8, number & 255));
    }
    request.push('\n');
    let writer = std::thread::spawn(move || {
        client.write_all(request.as_bytes()).unwrap();
        client
    });
    let mut turns = 0;
    let request = loop {
        match stream.poll_request().unwrap() {
            RequestPoll::Again => turns += 1,
            RequestPoll::Blocked => std::thread::yield_now(),
            RequestPoll::Request(request) => break request,
            other => panic!("{other:?}"),
        }
    };
    let Request::Set(changes) = request else { panic!("a set") };
    assert_eq!(changes.peers[0].allowed_ips.len(), NETWORKS);
    assert!(turns > 10, "{turns} turns");
    stream.respond(ok_response()).unwrap();
    assert_eq!(received(&mut writer.join().unwrap()), "errno=0\n\n");
}

#[test]
fn a_request_without_end_is_cut_off() {
    let (mut client, mut stream) = pair();
    let writer = std::thread::spawn(move || {
        let line = format!("set=1\npublic_key={}\n", "ab".repeat(32));
        client.write_all(line.as_bytes()).unwrap();
        let block = "allowed_ip=10.0.0.0/8\n".repeat(1000);
        let mut written = 0;
        while client.write_all(block.as_bytes()).is_ok() {
            written += block.len();
            assert!(written < 2 * MAX_REQUEST, "there is an end to it");
        }
        client
    });
    let error = loop {
        match stream.poll_request().unwrap() {
            RequestPoll::Again => {}
            RequestPoll::Blocked => std::thread::yield_now(),
            RequestPoll::Rejected(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((error.kind.clone(), error.errno()), (RequestErrorKind::TooLong, -7));
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Closed));
    drop(stream);
    let mut client = writer.join().unwrap();
    assert_eq!(received(&mut client), "errno=-7\n\n");
}

#[test]
fn one_who_does_not_read_is_not_read_either() {
    let (mut client, mut stream) = pair();
    client.write_all(b"get=1\n\nget=1\n\n").unwrap();
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Request(Request::Get)));
    let answer = vec![b'x'; 4 << 20];
    stream.respond(Zeroizing::new(answer)).unwrap();
    assert!(stream.wants_write());
    for _ in 0..3 {
        assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Blocked));
    }
    let reader = std::thread::spawn(move || {
        let mut answer = vec![0; 4 << 20];
        client.read_exact(&mut answer).unwrap();
        assert!(answer.iter().all(|&byte| byte == b'x'));
        client
    });
    while !matches!(stream.poll_request().unwrap(), RequestPoll::Request(Request::Get)) {
        std::thread::yield_now();
    }
    assert!(!stream.wants_write());
    reader.join().unwrap();
}

#[test]
fn one_who_hangs_up_without_reading_is_an_error_of_that_connection() {
    let (mut client, mut stream) = pair();
    client.write_all(b"get=1\n\n").unwrap();
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Request(Request::Get)));
    drop(client);
    assert!(stream.respond(ok_response()).is_err());
}
