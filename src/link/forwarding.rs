//! Whether this host forwards packets between its devices: read first, and turned on only where it is off.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::message;
use super::socket::Requests;

/// The settings under /proc/sys.
#[derive(Debug)]
pub(super) struct Forwarding {
    root: PathBuf,
    requests: Option<Requests>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was on.
    On,
    /// It was off, and is on from now on.
    TurnedOn,
    /// The kernel does not have the family.
    Absent,
    /// It is off, and cannot be turned on.
    Off(io::Error),
    /// It cannot be read.
    Unknown(io::Error),
}

impl Forwarding {
    pub(super) fn new() -> Self {
        Self { root: PathBuf::from("/proc/sys"), requests: None }
    }

    /// What sysctl(8), and `docker run --sysctl`, call the setting.
    pub(super) const fn key(v6: bool) -> &'static str {
        if v6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" }
    }

    /// Turns it on for one family. It is not turned off again: others may count on it by then.
    ///
    /// Where the setting cannot be read, as in a sandbox without /proc/sys, the kernel is asked what it does with packets
    /// from the device called `name`.
    pub(super) fn turn_on(&mut self, name: &str, v6: bool) -> Outcome {
        // opened the first time, and kept: later on a sandbox of our own may forbid it
        if self.requests.is_none() {
            self.requests = Requests::open().ok();
        }
        match self.try_to(v6) {
            Outcome::Unknown(error) => match self.ask(name, v6) {
                Some(true) => Outcome::On,
                Some(false) => Outcome::Off(error),
                None => Outcome::Unknown(error),
            },
            outcome => outcome,
        }
    }

    fn ask(&mut self, name: &str, v6: bool) -> Option<bool> {
        let link = self.requests.as_mut()?.ask(message::get_link_by_name(name), 0).ok()??;
        message::forwards(&link, v6)
    }

    fn try_to(&self, v6: bool) -> Outcome {
        let path = self.root.join(Self::key(v6).replace('.', "/"));
        match fs::read_to_string(&path) {
            Ok(text) if text.trim() != "0" => return Outcome::On,
            Ok(_) => {}
            // without a name for it, and yet with some for others
            Err(error) if v6 && error.kind() == io::ErrorKind::NotFound && self.root.join("net").exists() => {
                return Outcome::Absent;
            }
            Err(error) => return Outcome::Unknown(error),
        }
        if v6 {
            self.keep_advertisements();
        }
        match fs::write(&path, "1") {
            Ok(()) => Outcome::TurnedOn,
            Err(error) => Outcome::Off(error),
        }
    }

    /// A host that forwards IPv6 believes no router advertisements any more, and loses the default route that it has
    /// from one, unless `accept_ra` is 2. Where it believes them now, it shall go on to.
    fn keep_advertisements(&self) {
        let Ok(devices) = fs::read_dir(self.root.join("net/ipv6/conf")) else { return };
        let names = devices.flatten().map(|device| device.file_name());
        // those two would change devices that have none yet, or none at all
        for name in names.filter(|name| name != "all" && name != "default") {
            let setting = self.root.join("net/ipv6/conf").join(name).join("accept_ra");
            if is(&setting, "1") {
                // where this cannot be written, forwarding cannot either
                let _ = fs::write(setting, "2");
            }
        }
    }
}

fn is(setting: &Path, value: &str) -> bool {
    fs::read_to_string(setting).is_ok_and(|text| text.trim() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No device's name.
    const NONE: &str = "no-such-link";

    /// A /proc/sys of the test's own.
    struct Settings(PathBuf);

    impl Settings {
        fn new(name: &str, settings: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("wontun-forwarding-{}-{name}", std::process::id()));
            for (key, value) in settings {
                let path = root.join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{value}\n")).unwrap();
            }
            Self(root)
        }

        fn forwarding(&self) -> Forwarding {
            Forwarding { root: self.0.clone(), requests: None }
        }

        fn read(&self, key: &str) -> String {
            fs::read_to_string(self.0.join(key)).unwrap().trim().to_owned()
        }
    }

    impl Drop for Settings {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_what_is_off_is_turned_on() {
        let settings = Settings::new("off", &[("net/ipv4/ip_forward", "0")]);
        let mut forwarding = settings.forwarding();
        assert!(matches!(forwarding.turn_on(NONE, false), Outcome::TurnedOn));
        assert_eq!(settings.read("net/ipv4/ip_forward"), "1");
        assert!(matches!(forwarding.turn_on(NONE, false), Outcome::On));
        assert!(matches!(forwarding.turn_on(NONE, true), Outcome::Absent));
        forwarding.root = settings.0.join("nowhere");
        for v6 in [false, true] {
            assert!(matches!(forwarding.turn_on(NONE, v6), Outcome::Unknown(_)));
        }
        // the kernel is asked instead
        assert!(matches!(forwarding.turn_on("lo", false), Outcome::On | Outcome::Off(_)));
    }

    #[test]
    fn a_default_route_that_was_advertised_is_kept() {
        let conf = |device: &str| format!("net/ipv6/conf/{device}/accept_ra");
        let (all, default, eth0, eth1) = (conf("all"), conf("default"), conf("eth0"), conf("eth1"));
        let settings = Settings::new(
            "advertised",
            &[
                ("net/ipv6/conf/all/forwarding", "0"),
                (&all, "1"),
                (&default, "1"),
                (&eth0, "1"),
                (&eth1, "0"),
            ],
        );
        assert!(matches!(settings.forwarding().turn_on(NONE, true), Outcome::TurnedOn));
        assert_eq!(settings.read("net/ipv6/conf/all/forwarding"), "1");
        let now = [&all, &default, &eth0, &eth1].map(|key| settings.read(key));
        assert_eq!(now, ["1", "1", "2", "0"]);
        // on already: whoever turned it on has decided about advertisements
        fs::write(settings.0.join(&eth0), "1").unwrap();
        assert!(matches!(settings.forwarding().turn_on(NONE, true), Outcome::On));
        assert_eq!(settings.read(&eth0), "1");
    }
}
