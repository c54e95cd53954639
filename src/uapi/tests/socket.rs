//! Tests of the socket's file: stale, live, contested, moved, removed.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Barrier;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::Shutdown;

use super::*;

fn open(folders: &UapiFolders) -> UapiListener {
    let (listener, warning) = UapiListener::open_in(&tun(), folders).unwrap();
    assert!(warning.is_none(), "{warning:?}");
    listener
}

/// Leaves a socket whose owner is gone at `path`.
fn leave_stale(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    // a program that another test is starting may hold a copy of the descriptor for a moment
    rustix::net::shutdown(&listener, Shutdown::Both).unwrap();
    drop(listener);
    assert_eq!(UnixStream::connect(path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn it_is_where_wg_looks_for_its_owner_alone_and_gone_afterwards() {
    let folder = Folder::new();
    let folders = folder.folders();
    let listener = open(&folders);
    let path = folders.standard.join("wt0.sock");
    assert_eq!(listener.path(), path);
    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o7777, 0o600);
    assert_eq!(file.nlink(), 1);
    assert_eq!(names(&folders.standard), ["wt0.sock"], "nothing else stays behind");

    assert!(listener.accept().unwrap().is_none());
    let _client = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    assert!(listener.accept().unwrap().is_none());
    drop(listener);
    assert!(names(&folders.standard).is_empty());
}

#[test]
fn it_gets_the_name_of_a_renamed_device_with_its_connections() {
    let folder = Folder::new();
    let folders = folder.folders();
    let mut listener = open(&folders);
    let (old, new) = (listener.path().to_owned(), folders.standard.join("home.sock"));
    let home = "home".parse().unwrap();
    let waiting = UnixStream::connect(&old).unwrap();
    // a stale socket is replaced; a live one and any other file are not
    leave_stale(&new);
    listener.rename(&home).unwrap();
    assert!(listener.accept().unwrap().is_some(), "{waiting:?}");
    assert_eq!((listener.path(), names(&folders.standard)), (new.as_path(), vec!["home.sock".to_owned()]));
    assert!(listener.handle_watch().unwrap(), "that is no order to end");
    let _client = UnixStream::connect(&new).unwrap();
    assert!(listener.accept().unwrap().is_some());
    let live = UnixListener::bind(&old).unwrap();
    let refused = listener.rename(&tun()).unwrap_err();
    assert!(matches!(refused, UapiError::InUse { .. }), "{refused}");
    drop(live);
    fs::remove_file(&old).unwrap();
    fs::write(&old, "").unwrap();
    let refused = listener.rename(&tun()).unwrap_err();
    assert!(matches!(refused, UapiError::NotASocket(_)), "{refused}");
    fs::remove_file(&old).unwrap();
    listener.rename(&tun()).unwrap();
    listener.rename(&tun()).unwrap();
    assert_eq!(listener.path(), old);
    fs::remove_file(&old).unwrap();
    assert!(!listener.handle_watch().unwrap());
    let gone = listener.rename(&home).unwrap_err();
    assert!(matches!(gone, UapiError::Rename { .. }), "{gone}");
}

#[test]
fn one_whose_owner_is_gone_is_replaced() {
    let folder = Folder::new();
    let folders = folder.folders();
    fs::create_dir_all(&folders.standard).unwrap();
    let path = folders.standard.join("wt0.sock");
    leave_stale(&path);
    let stale = fs::metadata(&path).unwrap().ino();
    // the remains of a process that was killed in between
    leave_stale(&folders.standard.join(".wt0.new"));
    fs::write(folders.standard.join(".wt0.lock"), "").unwrap();

    let listener = open(&folders);
    assert_ne!(fs::metadata(&path).unwrap().ino(), stale);
    UnixStream::connect(&path).unwrap();
    assert_eq!(names(&folders.standard), ["wt0.sock"]);
    drop(listener);
}

#[test]
fn a_live_one_is_refused_and_its_owner_named() {
    let folder = Folder::new();
    let first = open(&folder.folders());
    let error = UapiListener::open_in(&tun(), &folder.folders()).unwrap_err();
    let UapiError::InUse { path, pid } = &error else { panic!("{error}") };
    assert_eq!(path, first.path());
    assert_eq!(*pid, i32::try_from(std::process::id()).ok());
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    // the next folder is not used instead
    assert_eq!(names(folder.path()), ["run"]);
    assert!(first.path().exists());
    // the check was a connection like any other
    assert!(matches!(first.accept().unwrap().unwrap().poll_request().unwrap(), RequestPoll::Closed));
}

/// A socket of another program, as wireguard-go creates it, and one with a full queue count as
/// live.
#[test]
fn a_foreign_one_and_one_that_hangs_are_live_too() {
    let folder = Folder::new();
    let folders = folder.folders();
    fs::create_dir_all(&folders.standard).unwrap();
    let path = folders.standard.join("wt0.sock");
    let foreign = UnixListener::bind(&path).unwrap();
    // its queue would be longer than some limits on the number of open files
    rustix::net::listen(&foreign, 1).unwrap();
    let refused = |error| matches!(error, UapiError::InUse { .. });
    assert!(refused(UapiListener::open_in(&tun(), &folders).unwrap_err()));
    let mut waiting = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&socket2::SockAddr::unix(&path).unwrap()) {
            Ok(()) => waiting.push(socket),
            Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    let error = UapiListener::open_in(&tun(), &folders).unwrap_err();
    assert!(matches!(error, UapiError::InUse { pid: None, .. }), "{error}");
    assert!(error.to_string().contains("cannot be seen"), "{error}");
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let folders = folder.folders();
    fs::create_dir_all(&folders.standard).unwrap();
    let path = folders.standard.join("wt0.sock");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(UapiListener::open_in(&tun(), &folders).unwrap_err(), UapiError::NotASocket(_)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere.sock", &path).unwrap();
    assert!(matches!(UapiListener::open_in(&tun(), &folders).unwrap_err(), UapiError::NotASocket(_)));
    assert_eq!(names(&folders.standard), ["wt0.sock"]);
}

#[test]
fn of_many_who_come_at_once_one_gets_it() {
    const RIVALS: usize = 16;
    let folder = Folder::new();
    let folders = folder.folders();
    for round in 0..20 {
        // without a socket in the first half of the rounds, with a stale one in the second
        if round >= 10 {
            leave_stale(&folders.standard.join("wt0.sock"));
        }
        let barrier = Barrier::new(RIVALS);
        let results: Vec<_> = thread::scope(|scope| {
            let rivals: Vec<_> = (0..RIVALS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        UapiListener::open_in(&tun(), &folders)
                    })
                })
                .collect();
            rivals.into_iter().map(|rival| rival.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}: {lost:?}");
        for error in lost {
            assert!(matches!(error, Err(UapiError::InUse { pid: Some(_), .. })), "{error:?}");
        }
        let mut client = UnixStream::connect(folders.standard.join("wt0.sock")).unwrap();
        client.write_all(b"get=1\n\n").unwrap();
        assert!(is_readable(&won[0].as_ref().unwrap().0));
        drop(won);
        assert!(names(&folders.standard).is_empty(), "{:?}", names(&folders.standard));
    }
}

#[test]
fn somebody_who_holds_the_lock_is_named_in_the_end() {
    let folder = Folder::new();
    let folders = folder.folders();
    fs::create_dir_all(&folders.standard).unwrap();
    let lock = folders.standard.join(".wt0.lock");
    let file = fs::File::create(&lock).unwrap();
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let error = UapiListener::open_in(&tun(), &folders).unwrap_err();
    assert!(error.to_string().contains(lock.to_str().unwrap()), "{error}");
    drop(held);
    open(&folders);
}

#[test]
fn without_the_standard_folder_it_is_beside_the_configuration_with_one_warning() {
    let folder = Folder::new();
    let folders = folder.without_standard();
    let (listener, warning) = UapiListener::open_in(&tun(), &folders).unwrap();
    assert_eq!(listener.path(), folder.path().join("wt0.sock"));
    assert_eq!(fs::metadata(listener.path()).unwrap().mode() & 0o777, 0o600);
    let warning = warning.unwrap().to_string();
    assert!(warning.contains("file/wireguard") && warning.contains("wt0.sock"), "{warning}");
    assert!(!warning.contains('\n'));
}

#[test]
fn or_in_a_folder_of_our_own() {
    let folder = Folder::new();
    for config in [None, Some(folder.path().join("missing")), Some(folder.path().join("x".repeat(90)))] {
        if let Some(long) = config.as_ref().filter(|path| !path.ends_with("missing")) {
            fs::create_dir(long).unwrap();
        }
        let folders = UapiFolders { config: config.iter().cloned().collect(), ..folder.without_standard() };
        let (listener, warning) = UapiListener::open_in(&tun(), &folders).unwrap();
        assert_eq!(listener.path(), folders.fallback.join("wt0.sock"));
        assert!(warning.is_some());
        assert!(
            !config.is_some_and(|path| path.ends_with("missing") && path.exists()),
            "a user's is not made"
        );
    }
}

#[test]
fn with_no_folder_at_all_each_is_named() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let folders =
        UapiFolders { standard: file.join("a"), config: vec![file.join("b")], fallback: file.join("c") };
    let error = UapiListener::open_in(&tun(), &folders).unwrap_err().to_string();
    for part in ["file/a: ", "file/b: ", "file/c: "] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn removal_is_noticed() {
    let folder = Folder::new();
    let mut listener = open(&folder.folders());
    assert!(!is_readable(listener.watch().unwrap()), "quiet while nothing happens");
    fs::remove_file(listener.path()).unwrap();
    assert!(is_readable(listener.watch().unwrap()));
    assert!(!listener.handle_watch().unwrap());
    assert!(!is_readable(listener.watch().unwrap()), "the watch was read to its end");
}

#[test]
fn replacement_is_noticed_and_the_other_ones_socket_stays() {
    let folder = Folder::new();
    let mut listener = open(&folder.folders());
    let path = listener.path().to_owned();
    let other = path.with_extension("other");
    let _theirs = UnixListener::bind(&other).unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(is_readable(listener.watch().unwrap()));
    assert!(!listener.handle_watch().unwrap());
    drop(listener);
    assert!(path.exists(), "it was not ours any more");
    UnixStream::connect(&path).unwrap();
}

#[test]
fn moving_it_away_is_noticed() {
    let folder = Folder::new();
    let mut listener = open(&folder.folders());
    fs::rename(listener.path(), listener.path().with_extension("away")).unwrap();
    assert!(is_readable(listener.watch().unwrap()));
    assert!(!listener.handle_watch().unwrap());
}

#[test]
fn other_tunnels_and_a_changed_mode_are_no_reason_to_end() {
    let folder = Folder::new();
    let folders = folder.folders();
    let mut listener = open(&folders);
    let (other, _) = UapiListener::open_in(&"wt1".parse().unwrap(), &folders).unwrap();
    drop(other);
    assert!(!is_readable(listener.watch().unwrap()), "other tunnels do not wake this one");
    fs::set_permissions(listener.path(), std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
    assert!(is_readable(listener.watch().unwrap()));
    assert!(listener.handle_watch().unwrap());
}

#[test]
fn descriptors_are_not_inherited() {
    let folder = Folder::new();
    let listener = open(&folder.folders());
    let _client = UnixStream::connect(listener.path()).unwrap();
    let stream = listener.accept().unwrap().unwrap();
    for fd in [listener.as_fd(), listener.watch().unwrap(), stream.as_fd()] {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        assert!(flags & nix::libc::O_CLOEXEC != 0, "{info}");
        assert!(flags & nix::libc::O_NONBLOCK != 0, "{info}");
    }
}

#[test]
fn one_who_takes_over_is_the_owner() {
    let folder = Folder::new();
    let listener = open(&folder.folders());
    listener.take_over().unwrap();
    let mut client = UnixStream::connect(listener.path()).unwrap();
    client.write_all(b"get=1\n\n").unwrap();
    let mut stream = listener.accept().unwrap().unwrap();
    assert!(matches!(stream.poll_request().unwrap(), RequestPoll::Request(Request::Get)));
    stream.respond(ok_response()).unwrap();
    let mut answer = [0; 9];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"errno=0\n\n");
}
