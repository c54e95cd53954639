use super::*;

/// A device name that is not in use.
const NONE: &str = "no-such-link";
const V4: &str = "net/ipv4/ip_forward";
const V6: &str = "net/ipv6/conf/all/forwarding";
const V6_NEW: &str = "net/ipv6/conf/default/forwarding";

/// A temporary directory in place of /proc/sys.
struct Settings(PathBuf);

impl Settings {
    /// Creates the directory with forwarding off everywhere, and with `more` settings.
    fn new(name: &str, more: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("wontun-forwarding-{}-{name}", std::process::id()));
        let settings = Self(root);
        for (key, value) in [(V4, "0"), (V6, "0"), (V6_NEW, "0")].iter().chain(more) {
            settings.write(key, value);
        }
        settings
    }

    fn with_devices(name: &str, devices: &[&str]) -> Self {
        let settings = Self::new(name, &[]);
        for device in devices {
            settings.write(&v4(device), "0");
            settings.write(&v6(device), "0");
        }
        settings
    }

    fn forwarding(&self) -> Forwarding {
        Forwarding { root: self.0.clone(), ..Forwarding::new() }
    }

    fn read(&self, key: &str) -> String {
        fs::read_to_string(self.0.join(key)).unwrap().trim().to_owned()
    }

    fn write(&self, key: &str, value: &str) {
        let path = self.0.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn v4(device: &str) -> String {
    format!("net/ipv4/conf/{device}/forwarding")
}

fn v6(device: &str) -> String {
    format!("net/ipv6/conf/{device}/force_forwarding")
}

fn devices(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn dropped(names: &[&str]) -> DroppedPackets {
    DroppedPackets { devices: devices(names), all: false }
}

const ALL: DroppedPackets = DroppedPackets { devices: BTreeSet::new(), all: true };

/// Plans for the device `tun0` and carries the plan out.
fn apply(forwarding: &mut Forwarding, v6: bool, names: &[&str], found: &DroppedPackets) -> ForwardingOutcome {
    let plan = forwarding.plan("tun0", v6, &devices(names), found);
    forwarding.turn_on("tun0", v6, plan)
}

#[test]
fn single_devices_are_turned_on_and_off_again() {
    let settings = Settings::with_devices("single", &["tun0", "eth0", "eth1", "router"]);
    let mut forwarding = settings.forwarding();
    let names = ["eth0", "eth1", "router"];
    for (is_v6, key) in [(false, v4 as fn(&str) -> String), (true, v6)] {
        settings.write(&key("router"), "1");
        let none = DroppedPackets::default();
        assert!(matches!(apply(&mut forwarding, is_v6, &names, &none), ForwardingOutcome::TurnedOn(_)));
        assert_eq!(["tun0", "eth0", "eth1"].map(|name| settings.read(&key(name))), ["1"; 3]);
        assert_eq!(
            *forwarding.dropped(is_v6),
            dropped(&["eth0", "eth1"]),
            "what forwarded before is not dropped"
        );
        assert!(matches!(apply(&mut forwarding, is_v6, &names, &none), ForwardingOutcome::On));
        assert_eq!(*forwarding.dropped(is_v6), dropped(&["eth0", "eth1"]));
    }
    assert_eq!([V4, V6, V6_NEW].map(|key| settings.read(key)), ["0"; 3]);
    // another tunnel needs eth1
    forwarding.turn_off("tun0", &[dropped(&["eth1"]), DroppedPackets::default()]);
    assert_eq!(["tun0", "eth0", "eth1", "router"].map(|name| settings.read(&v4(name))), ["0", "0", "1", "1"]);
    assert_eq!(["tun0", "eth0", "eth1", "router"].map(|name| settings.read(&v6(name))), ["0", "0", "0", "1"]);
    assert!(!forwarding.needs_turn_off());
}

#[test]
fn what_a_killed_run_or_another_tunnel_turned_on_is_wontuns() {
    let settings = Settings::with_devices("killed", &["tun0", "eth0"]);
    settings.write(&v4("eth0"), "1");
    settings.write(&v4("tun0"), "1");
    let mut forwarding = settings.forwarding();
    assert!(matches!(apply(&mut forwarding, false, &["eth0"], &dropped(&["eth0"])), ForwardingOutcome::On));
    assert_eq!(*forwarding.dropped(false), dropped(&["eth0"]));
    // another program turns on the switch for all devices: the drops end
    settings.write(V4, "1");
    assert!(matches!(
        apply(&mut forwarding, false, &["eth0"], &dropped(&["eth0"])),
        ForwardingOutcome::Released
    ));
    assert!(forwarding.dropped(false).is_empty());
    assert!(matches!(
        apply(&mut forwarding, false, &["eth0"], &DroppedPackets::default()),
        ForwardingOutcome::On
    ));
    forwarding.turn_off("tun0", &[DroppedPackets::default(), DroppedPackets::default()]);
    assert_eq!([V4, &v4("eth0")].map(|key| settings.read(key)), ["1"; 2], "not wontun's any more");
}

/// Kernels before Linux 6.17.
#[test]
fn the_switch_for_all_is_wontuns_until_somebody_writes_to_it() {
    let conf = |device: &str| format!("net/ipv6/conf/{device}/accept_ra");
    let (all, default, eth0, eth1) = (conf("all"), conf("default"), conf("eth0"), conf("eth1"));
    let settings = Settings::new("all", &[(&all, "1"), (&default, "1"), (&eth0, "1"), (&eth1, "0")]);
    let raised_accept_ra = || [&all, &default, &eth0, &eth1].map(|key| settings.read(key));
    let mut forwarding = settings.forwarding();
    let none = DroppedPackets::default();
    assert!(matches!(apply(&mut forwarding, true, &["eth0"], &none), ForwardingOutcome::TurnedOn(_)));
    assert_eq!([V6, V6_NEW].map(|key| settings.read(key)), ["1", "0"]);
    assert_eq!(raised_accept_ra(), ["1", "1", "2", "0"], "a default route that was advertised is kept");
    assert_eq!(*forwarding.dropped(true), ALL);
    assert!(matches!(apply(&mut forwarding, true, &["eth0"], &none), ForwardingOutcome::On));
    // a later run, after this one was killed
    let mut later = settings.forwarding();
    assert!(matches!(apply(&mut later, true, &["eth0"], &ALL), ForwardingOutcome::On));
    assert_eq!(*later.dropped(true), ALL);
    // another tunnel needs it
    later.turn_off("tun0", &[DroppedPackets::default(), ALL]);
    assert_eq!(settings.read(V6), "1");
    forwarding.turn_off("tun0", &[DroppedPackets::default(), DroppedPackets::default()]);
    assert_eq!(settings.read(V6), "0");
    assert_eq!(raised_accept_ra(), ["1", "1", "1", "0"]);

    let mut forwarding = settings.forwarding();
    assert!(matches!(apply(&mut forwarding, true, &["eth0"], &none), ForwardingOutcome::TurnedOn(_)));
    // the kernel copies another program's 1
    settings.write(V6_NEW, "1");
    assert!(matches!(apply(&mut forwarding, true, &["eth0"], &none), ForwardingOutcome::Released));
    assert!(forwarding.dropped(true).is_empty());
    forwarding.turn_off("tun0", &[DroppedPackets::default(), DroppedPackets::default()]);
    assert_eq!(settings.read(V6), "1");
}

#[test]
fn switches_that_cannot_be_written_are_not_tried_again() {
    let settings = Settings::with_devices("refused", &["tun0"]);
    // a directory in place of the file
    fs::create_dir_all(settings.0.join(v6("eth0"))).unwrap();
    let mut forwarding = settings.forwarding();
    let plan = ForwardingPlan::Devices(devices(&["eth0"]));
    assert!(matches!(forwarding.turn_on("tun0", true, plan), ForwardingOutcome::Refused));
    assert_eq!(settings.read(&v6("tun0")), "0", "what was turned on is off again");
    assert!(matches!(
        apply(&mut forwarding, true, &["eth0"], &DroppedPackets::default()),
        ForwardingOutcome::TurnedOn(_)
    ));
    assert_eq!(settings.read(V6), "1");
}

#[test]
fn a_family_may_be_absent_or_hidden() {
    let settings = Settings::with_devices("hidden", &[]);
    fs::remove_dir_all(settings.0.join("net/ipv6")).unwrap();
    let mut forwarding = settings.forwarding();
    assert!(matches!(
        apply(&mut forwarding, true, &[], &DroppedPackets::default()),
        ForwardingOutcome::Absent
    ));
    forwarding.root = settings.0.join("nowhere");
    for v6 in [false, true] {
        let plan = forwarding.plan(NONE, v6, &devices(&[]), &DroppedPackets::default());
        assert!(matches!(plan, ForwardingPlan::Done(ForwardingOutcome::Unknown(_))));
    }
    // the kernel is asked instead
    let plan = forwarding.plan("lo", false, &devices(&[]), &DroppedPackets::default());
    assert!(matches!(plan, ForwardingPlan::Done(ForwardingOutcome::On | ForwardingOutcome::Off(_))));
}

/// The switch of a device stays on while it has no address, and so do the drops.
#[test]
fn a_device_without_addresses_is_dropped() {
    let settings = Settings::with_devices("addresses", &["tun0", "eth0", "eth1"]);
    let mut forwarding = settings.forwarding();
    apply(&mut forwarding, false, &["eth0", "eth1"], &DroppedPackets::default());
    assert_eq!(*forwarding.dropped(false), dropped(&["eth0", "eth1"]));
    // the DHCP lease is lost and renewed
    for names in [&["eth1"][..], &[], &["eth0", "eth1"]] {
        assert!(matches!(
            apply(&mut forwarding, false, names, &DroppedPackets::default()),
            ForwardingOutcome::On
        ));
        assert_eq!(*forwarding.dropped(false), dropped(&["eth0", "eth1"]), "with addresses of {names:?}");
    }
    // a deleted device, and one that another program has turned off while it has no address
    fs::remove_file(settings.0.join(v4("eth0"))).unwrap();
    settings.write(&v4("eth1"), "0");
    apply(&mut forwarding, false, &[], &DroppedPackets::default());
    assert_eq!(*forwarding.dropped(false), DroppedPackets::default());
    // a switch turned on by a killed run
    settings.write(&v4("eth1"), "1");
    let mut next = settings.forwarding();
    apply(&mut next, false, &[], &dropped(&["eth1"]));
    assert_eq!(*next.dropped(false), dropped(&["eth1"]));
    next.turn_off("tun0", &Default::default());
    assert_eq!(settings.read(&v4("eth1")), "0");
}
