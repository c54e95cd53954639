//! Recognises the program that manages a tunnel's process, and that has to end it.

use std::collections::HashMap;
use std::fs;

use nix::unistd::Pid;

use crate::config::TunName;

/// A program that starts and ends a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    /// The process is all that a systemd unit of this name runs.
    Systemd {
        /// Name of the unit, such as `wontun@tun0.service`.
        unit: String,
        /// True for a unit of a user's own service manager.
        is_user: bool,
    },
    /// The process was started as wg-quick(8) starts it, which has set routes and rules for it.
    WgQuick,
    /// The process is the first one of its PID namespace: its end is that of the container.
    Container,
}

impl Manager {
    /// Returns the manager of the process `pid`, which runs the tunnel `tun`; `None` if it has none
    /// or /proc does not tell.
    pub(super) fn of(pid: Pid, tun: &TunName) -> Option<Self> {
        let process = Process::read(&pid.to_string())?;
        if let Some((unit, is_user)) = unit(&process.cgroup)
            && processes_in(&process.cgroup)
                .iter()
                .all(|(other, parent)| *other == pid.as_raw() || *parent == pid.as_raw())
        {
            return Some(Self::Systemd { unit, is_user });
        }
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if is_by_wg_quick(&arguments, tun) {
            return Some(Self::WgQuick);
        }
        process.is_first.then_some(Self::Container)
    }
}

/// Properties of a process in /proc.
#[derive(Debug)]
struct Process {
    parent: i32,
    /// True if its innermost PID namespace has it as process 1.
    is_first: bool,
    /// Contents of its `cgroup` file.
    cgroup: String,
}

impl Process {
    fn read(pid: &str) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let fields: HashMap<_, _> = status.lines().filter_map(|line| line.split_once(':')).collect();
        let last = |name: &str| fields.get(name).and_then(|value| value.split_whitespace().last());
        Some(Self { parent: last("PPid")?.parse().ok()?, is_first: last("NSpid") == Some("1"), cgroup })
    }
}

/// Returns the processes of this cgroup, each with its parent.
fn processes_in(cgroup: &str) -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = pids.filter_map(|pid| Some((pid, Process::read(&pid.to_string())?)));
    own.filter(|(_, process)| process.cgroup == cgroup).map(|(pid, process)| (pid, process.parent)).collect()
}

/// Returns the service unit of a process, from the contents of its `cgroup` file (cgroups(7)), and
/// true if it is one of a user's service manager. A process in a scope, such as that of a login,
/// has none.
fn unit(cgroup: &str) -> Option<(String, bool)> {
    let path = |hierarchy: &str| {
        let paths = cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        paths.into_iter().find(|(controllers, _)| *controllers == hierarchy).map(|(_, path)| path)
    };
    let path = path("").filter(|path| *path != "/").or_else(|| path("name=systemd"))?;
    let (above, last) = path.rsplit_once('/')?;
    let is_user = above.split('/').any(|part| part.starts_with("user@") && part.ends_with(".service"));
    // a name that could not be given to systemctl in a shell is none
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "@-_.:\\".contains(letter);
    (last.ends_with(".service") && last.chars().all(is_plain)).then(|| (last.to_owned(), is_user))
}

/// Returns true if a command line, of `cmdline` in /proc, is that of wg-quick(8): the name of the
/// interface and nothing else. Everybody else names a command.
fn is_by_wg_quick(arguments: &[u8], tun: &TunName) -> bool {
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    arguments.next() == Some(tun.as_str().as_bytes()) && arguments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_in_the_cgroup() {
        let service = |name: &str, is_user| Some((name.to_owned(), is_user));
        for (cgroup, expected) in [
            ("0::/system.slice/wontun.service\n", service("wontun.service", false)),
            (
                "0::/system.slice/system-wontun.slice/wontun@wg0.service\n",
                service("wontun@wg0.service", false),
            ),
            (
                "2:cpu:/\n1:name=systemd:/system.slice/wg-quick@wg0.service\n0::/\n",
                service("wg-quick@wg0.service", false),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vpn.service\n",
                service("vpn.service", true),
            ),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope\n", None),
            ("0::/system.slice/docker-0123.scope\n", None),
            ("0::/system.slice/a b.service\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(cgroup), expected, "{cgroup}");
        }
    }

    #[test]
    fn wg_quick_gives_the_name_alone() {
        let tun = "wg0".parse().unwrap();
        assert!(
            is_by_wg_quick(b"wontun\0wg0\0", &tun) && is_by_wg_quick(b"/usr/bin/wireguard-go\0wg0\0", &tun)
        );
        for other in
            [&b"wontun\0interface\0wg0\0"[..], b"wontun\0-f\0wg0\0", b"wontun\0serve\0", b"wg0\0", b""]
        {
            assert!(!is_by_wg_quick(other, &tun), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_process_of_a_test_has_no_manager() {
        let process = Process::read("self").unwrap();
        assert!(process.parent > 0 && !process.is_first);
        assert!(Process::read("nonsense").is_none());
        assert!(processes_in(&process.cgroup).iter().any(|(pid, _)| *pid == Pid::this().as_raw()));
    }
}
