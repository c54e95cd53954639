//! A writer that is killed before any of its system calls leaves the old file or the new one,
//! complete, and nothing that prevents the next writer.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use wontun::server::ServerFile;

use super::server::Server;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, finish};

/// State after a kill: true if the file is the new one, and the other files of the directory with
/// their sizes.
type Remains = (bool, BTreeSet<(String, u64)>);

/// A command that is killed at every system call.
struct KilledCommand {
    server: Server,
    args: &'static [&'static str],
    /// The previous file, if there is one.
    before: Option<Vec<u8>>,
}

impl KilledCommand {
    fn new(server: Server, args: &'static [&'static str]) -> Self {
        let before = fs::read(server.file()).ok();
        Self { server, args, before }
    }

    fn strace(&self, options: &[&str]) -> Finished {
        let mut command = self.server.site.command("strace");
        command.args(["-f", "-qq"]).args(options).arg(BINARY).args(self.args);
        finish(command.env("WONTUN_DIR", &self.server.dir), TIMEOUT)
    }

    /// Restores the directory's previous state.
    fn reset(&self) {
        let _ = fs::remove_dir_all(&self.server.dir);
        if let Some(before) = &self.before {
            fs::create_dir(&self.server.dir).unwrap();
            fs::write(self.server.file(), before).unwrap();
        }
    }

    /// Returns the names of the system calls that it makes.
    fn calls(&self) -> Vec<String> {
        self.reset();
        let trace = self.server.site.path().join("trace");
        let run = self.strace(&["-o", trace.to_str().unwrap()]);
        assert_eq!(run.code(), 0, "{run:?}");
        let trace = fs::read_to_string(trace).unwrap();
        let names = trace.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
        let names: BTreeSet<_> = names.map(|(name, _)| name.to_owned()).collect();
        // it does not return, so nothing follows it
        names.into_iter().filter(|name| name != "exit_group").collect()
    }

    /// Returns the state after a kill. Panics if the file is neither the old nor the new one.
    fn remains(&self, is_new: &dyn Fn(&ServerFile) -> bool) -> Remains {
        let now = fs::read(self.server.file()).ok();
        let changed = now != self.before;
        if changed {
            let file = ServerFile::read(&self.server.file())
                .unwrap_or_else(|error| panic!("no whole file: {error}"));
            assert!(is_new(&file), "neither old nor new:\n{}", String::from_utf8_lossy(file.text()));
        }
        let entries = fs::read_dir(&self.server.dir).into_iter().flatten().map(Result::unwrap);
        let sizes =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()));
        (changed, sizes.filter(|(name, _)| name != "tun0.conf").collect())
    }

    /// Kills the command before each call. Then `then` must work in any state.
    fn kill_at_every_call(&self, is_new: &dyn Fn(&ServerFile) -> bool, then: &dyn Fn(&Server, bool)) {
        let (mut kills, mut seen) = (0, HashSet::new());
        for call in self.calls() {
            for number in 1.. {
                self.reset();
                let inject = format!("inject={call}:signal=KILL:when={number}");
                let run = self.strace(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
                let remains = self.remains(is_new);
                if run.status.success() {
                    assert!(remains.0, "it ended well and did nothing");
                    break;
                }
                assert!(
                    run.status.signal() == Some(9) || run.status.code() == Some(137),
                    "{call} {number}: {run:?}"
                );
                kills += 1;
                // the next command depends only on the directory's state
                if seen.insert(remains.clone()) {
                    then(&self.server, remains.0);
                    let names: Vec<_> = self.remains(&|_| true).1.into_iter().map(|(name, _)| name).collect();
                    assert_eq!(names, [".tun0.conf.lock"], "after a kill at {call} {number}");
                }
            }
        }
        // without kills in the middle of the write the test would show nothing
        assert!(kills > 60, "only {kills} kills");
        assert!(
            seen.iter().any(|(changed, _)| *changed) && seen.iter().any(|(changed, _)| !changed),
            "{seen:?}"
        );
        let halves = seen.iter().flat_map(|(_, rest)| rest).filter(|(name, _)| name.ends_with(".new"));
        let sizes: BTreeSet<_> = halves.map(|(_, size)| size).collect();
        assert!(sizes.contains(&0) && sizes.len() > 1, "never killed while it wrote: {seen:?}");
    }
}

/// Makes a server with three peers.
fn with_peers() -> Server {
    let server = Server::with_file();
    for name in ["one", "two", "three"] {
        server.output(&["peer", "add", name]);
    }
    server
}

fn names(file: &ServerFile) -> Vec<String> {
    file.peers().map(|peer| peer.name_or_key()).collect()
}

#[test]
fn while_a_peer_is_added() {
    let victim = KilledCommand::new(with_peers(), &["peer", "add", "phone"]);
    let before = victim.before.clone().unwrap();
    victim.kill_at_every_call(
        &|file| file.text().starts_with(&before) && names(file) == ["one", "two", "three", "phone"],
        &|server, changed| {
            // the duplicate is recognized, and the next peer gets its address
            assert_eq!(server.run(&["peer", "add", "phone"]).code(), i32::from(changed));
            server.output(&["peer", "add", "tablet"]);
            assert_eq!(names(&server.read()), ["one", "two", "three", "phone", "tablet"]);
        },
    );
}

#[test]
fn while_a_peer_is_removed() {
    let victim = KilledCommand::new(with_peers(), &["peer", "remove", "two"]);
    victim.kill_at_every_call(&|file| names(file) == ["one", "three"], &|server, changed| {
        assert_eq!(server.run(&["peer", "remove", "two"]).code(), i32::from(changed));
        assert_eq!(names(&server.read()), ["one", "three"]);
    });
}

#[test]
fn while_a_peer_is_renamed() {
    let victim = KilledCommand::new(with_peers(), &["peer", "rename", "two", "zwei"]);
    victim.kill_at_every_call(&|file| names(file) == ["one", "zwei", "three"], &|server, changed| {
        assert_eq!(server.run(&["peer", "rename", "two", "zwei"]).code(), i32::from(changed));
        assert_eq!(names(&server.read()), ["one", "zwei", "three"]);
    });
}

#[test]
fn while_the_file_is_made() {
    let victim = KilledCommand::new(Server::alone(), &["init", "--endpoint", "192.0.2.1"]);
    victim.kill_at_every_call(&|file| file.endpoint().unwrap().is_some(), &|server, changed| {
        let key = |file: &Path| ServerFile::read(file).map(|file| *file.public_key()).ok();
        let before = key(&server.file());
        assert_eq!(before.is_some(), changed);
        server.output(&["init", "--endpoint", "192.0.2.1"]);
        server.output(&["peer", "add", "phone"]);
        let after = key(&server.file());
        assert!(after.is_some() && (before.is_none() || before == after), "another key");
    });
}

#[test]
fn while_an_endpoint_is_noted() {
    let victim = KilledCommand::new(with_peers(), &["init", "--endpoint", "192.0.2.7"]);
    victim.kill_at_every_call(
        &|file| {
            file.endpoint().unwrap().unwrap().to_string() == "192.0.2.7:51820" && file.peers().count() == 3
        },
        &|server, _| {
            server.output(&["init", "--endpoint", "192.0.2.7"]);
            server.output(&["peer", "add", "phone"]);
        },
    );
}

/// A file whose name is synced before its bytes would be empty after a power failure.
#[test]
fn bytes_last_before_their_name_and_the_name_before_the_end() {
    for (server, args, naming) in [
        (Server::alone(), &["init", "--endpoint", "192.0.2.1"][..], "link"),
        (with_peers(), &["peer", "add", "phone"], "rename"),
        (with_peers(), &["peer", "remove", "two"], "rename"),
    ] {
        let trace = server.site.path().join("trace");
        let mut command = server.site.command("strace");
        command.args([
            "-f",
            "-qq",
            "-y",
            "-e",
            "trace=write,fsync,link,linkat,rename,renameat,renameat2",
            "-o",
        ]);
        command.arg(&trace).arg(BINARY).args(args).env("WONTUN_DIR", &server.dir);
        assert_eq!(finish(&mut command, TIMEOUT).code(), 0);
        let trace = fs::read_to_string(trace).unwrap();
        let calls: Vec<&str> =
            trace.lines().filter_map(|line| line.split_once(' ')).map(|(_, call)| call.trim()).collect();
        let (dir, file) = (server.dir.display(), server.file());
        let is = |call: &&str, what: &str, path: &str| call.starts_with(what) && call.contains(path);
        let temporary = format!("<{dir}/.tun0.conf.new>");
        let written = calls.iter().rposition(|call| is(call, "write", &temporary));
        let synced = calls.iter().rposition(|call| is(call, "fsync", &temporary));
        let named = calls.iter().position(|call| is(call, naming, file.to_str().unwrap()));
        let lasts = calls.iter().rposition(|call| is(call, "fsync", &format!("<{dir}>")));
        let order = [written, synced, named, lasts]
            .map(|place| place.unwrap_or_else(|| panic!("{args:?}:\n{trace}")));
        assert!(order.is_sorted(), "{args:?}: {order:?}\n{trace}");
    }
}
