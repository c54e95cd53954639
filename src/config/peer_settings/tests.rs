use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

fn target(text: &str) -> Target {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn targets_are_read_as_people_write_them() {
    for (text, written) in [
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("10.0.0.7/24", "10.0.0.0/24"),
        ("192.0.2.7:443/tcp", "192.0.2.7:443/tcp"),
        ("192.0.2.7:80-443", "192.0.2.7:80-443"),
        ("192.0.2.0/24:53/UDP", "192.0.2.0/24:53/udp"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::/32/tcp", "2001:db8::/32/tcp"),
        ("[2001:db8::1]:443/tcp", "[2001:db8::1]:443/tcp"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("dns", "dns"),
        ("Internet:443/tcp", "internet:443/tcp"),
        ("any/icmp", "any/icmp"),
        ("server:22", "server:22"),
        ("nas:445/tcp", "nas:445/tcp"),
        ("Anna's laptop", "Anna's laptop"),
        ("@lan", "@lan"),
        ("@nas", "nas"),
        ("@a:b:80", "@a:b:80"),
        ("@.", "@."),
        ("@10.0:22/tcp", "@10.0:22/tcp"),
        ("@cafe.be", "@cafe.be"),
        ("@None", "@None"),
    ] {
        assert_eq!(target(text).to_string(), written, "{text}");
        assert_eq!(target(written), target(text));
    }
    assert_eq!(target("@lan").destination, Destination::Peer("lan".parse().unwrap()));
    for text in [
        "",
        ":80",
        "10.0.0.0/33",
        "10.0.0",
        "10.0.0.1:0",
        "10.0.0.1:80-79",
        "10.0.0.1:65536",
        "nas:http",
        "[10.0.0.1]:80",
        "[::1",
        "[::1]80",
        "server:22/icmp",
        "dns:54",
        "@",
        "nas/tcp/udp/x:",
    ] {
        assert!(text.parse::<Target>().is_err(), "{text}");
    }
}

#[test]
fn forwards_are_read() {
    for (text, written) in [("8443/tcp=443", "8443/tcp=443"), ("53/udp", "53/udp"), ("25/tcp=25", "25/tcp")] {
        assert_eq!(text.parse::<PortForward>().unwrap().to_string(), written);
    }
    for text in ["8443", "8443/icmp", "0/tcp", "1/tcp=0", "1/tcp=", "/tcp", "80/tcp=x"] {
        assert!(text.parse::<PortForward>().is_err(), "{text}");
    }
}

#[test]
fn a_date_is_the_last_day() {
    let expiry: Expiry = "2026-12-31".parse().unwrap();
    assert_eq!(expiry.since_epoch(), Duration::from_secs(1_798_761_600));
    assert_eq!(expiry, "2027-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(expiry.to_string(), "2026-12-31");
    let time: Expiry = "2026-12-31T19:30:00+01:00".parse().unwrap();
    assert_eq!(time.to_string(), "2026-12-31T18:30:00Z");
    assert!(time < expiry);
    for text in ["", "tomorrow", "2026-13-01", "2026-12-31T18:00", "30d", "2026-12-311"] {
        assert!(text.parse::<Expiry>().is_err(), "{text}");
    }
}

#[test]
fn a_duration_begins_now() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_500);
    let end = |text: &str| Expiry::parse_from(text, now).map(|expiry| expiry.since_epoch().as_secs());
    assert_eq!(end("30d"), Ok(1_800_000_000 + 30 * 86_400));
    assert_eq!(end("12h"), Ok(1_800_000_000 + 12 * 3600));
    assert_eq!(end("2w"), Ok(1_800_000_000 + 14 * 86_400));
    assert_eq!(end("90m"), Ok(1_800_000_000 + 90 * 60));
    assert_eq!(end("2026-12-31"), Ok(1_798_761_600));
    for text in ["1mo", "-1d", "0d", "d", "soon", "9999999999d"] {
        assert!(end(text).is_err(), "{text}");
    }
}

#[test]
fn settings_are_what_the_comments_say() {
    let mut settings = PeerSettings::NONE;
    settings.set(PeerComment::Allow, "lan, 192.0.2.7:443/tcp").unwrap();
    settings.set(PeerComment::Allow, "dns").unwrap();
    settings.set(PeerComment::AllowFrom, "none").unwrap();
    settings.set(PeerComment::Disabled, "Yes").unwrap();
    settings.set(PeerComment::Note, "Anna, room 5").unwrap();
    assert_eq!(settings.get(PeerComment::Allow).as_deref(), Some("lan, 192.0.2.7:443/tcp, dns"));
    assert_eq!(settings.get(PeerComment::AllowFrom).as_deref(), Some("none"));
    assert_eq!(settings.get(PeerComment::Deny), None);
    assert!(settings.is_disabled && settings.has_rules());
    let mut named_none = PeerSettings::NONE;
    named_none.set(PeerComment::Allow, "@none").unwrap();
    assert_eq!(named_none.get(PeerComment::Allow).as_deref(), Some("@none"), "a peer, not an empty list");
    for (key, value) in [
        (PeerComment::Allow, ""),
        (PeerComment::Allow, "lan, 10.0.0"),
        (PeerComment::Disabled, "maybe"),
        (PeerComment::Note, "a\u{202e}b"),
        (PeerComment::Expires, "soon"),
    ] {
        let error = PeerSettings::NONE.clone().set(key, value).unwrap_err().to_string();
        assert!(error.starts_with(key.name()) && error.contains("expected"), "{error}");
    }
}

#[test]
fn an_error_does_not_repeat_a_key() {
    let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    for setting in PeerComment::ALL {
        for value in [key.to_owned(), format!("10.0.0.1/{key}")] {
            let Err(error) = PeerSettings::NONE.clone().set(setting, &value) else {
                // it has the form of a name
                assert!(matches!(
                    setting,
                    PeerComment::Allow | PeerComment::Deny | PeerComment::AllowFrom | PeerComment::Note
                ));
                continue;
            };
            let error = error.to_string();
            assert!(!error.contains("dwdtCn") && error.contains("may be a secret"), "{error}");
        }
    }
    for (setting, before) in [
        (PeerComment::Allow, "lan, 10.0.0.1:"),
        (PeerComment::ClientRoutes, "10.0.0.0/24, "),
        (PeerComment::ClientDns, "9.9.9.9, "),
    ] {
        let error = PeerSettings::NONE.clone().set(setting, &format!("{before}{key}"));
        let error = error.unwrap_err().to_string();
        assert!(!error.contains("dwdtCn") && error.contains("may be a secret"), "{error}");
    }
}

#[test]
fn a_peer_has_access_until_its_end() {
    let seconds = Duration::from_secs;
    let mut settings = PeerSettings::NONE;
    assert_eq!(settings.exclusion(seconds(u64::MAX)), None);
    settings.set(PeerComment::Expires, "2026-12-31").unwrap();
    assert_eq!(settings.exclusion(seconds(1_798_761_599)), None, "the last second of that day");
    assert_eq!(settings.exclusion(seconds(1_798_761_600)), Some(Exclusion::Expired));
    settings.is_disabled = true;
    assert_eq!(settings.exclusion(Duration::ZERO), Some(Exclusion::Disabled));
    assert_eq!(settings.exclusion(seconds(1_798_761_600)), Some(Exclusion::Disabled));
}

#[test]
fn a_misspelled_key_is_recognised() {
    for (name, key) in [
        ("Alow", Some(PeerComment::Allow)),
        ("allow-from", Some(PeerComment::AllowFrom)),
        ("Expire", Some(PeerComment::Expires)),
        ("Disable", Some(PeerComment::Disabled)),
        ("Name", None),
        ("TODO", None),
        ("ClientDNS", Some(PeerComment::ClientDns)),
        ("ClientEndpoint", None),
        ("Date", None),
    ] {
        assert_eq!(PeerComment::nearest(name), key, "{name}");
    }
}

proptest! {
    #[test]
    fn every_value_is_written_as_it_is_read(text in "(any|lan|dns|nas|@lan|10\\.[0-9]\\.0\\.0|fd00::[0-9]|[a-z:/@.\\[\\]]{0,8})(/[0-9]{1,3})?(:[0-9]{1,5}(-[0-9]{1,5})?)?(/(tcp|udp|icmp|x))?") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }

    #[test]
    fn every_amount_is_written_as_it_is_read(text in "[0-9]{0,6}(\\.[0-9]{0,4})? ?[kKMGT]?i?(bit|B)(/s|/day|/month)?") {
        if let Ok(rate) = text.parse::<Rate>() {
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }
        if let Ok(quota) = text.parse::<Quota>() {
            prop_assert_eq!(quota.to_string().parse::<Quota>(), Ok(quota));
        }
    }

    #[test]
    fn every_expiry_is_written_as_it_is_read(text in "[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9]:00Z)?") {
        if let Ok(expiry) = text.parse::<Expiry>() {
            prop_assert_eq!(expiry.to_string().parse::<Expiry>(), Ok(expiry));
        }
    }
}

#[test]
fn rates_and_quotas_are_read_as_people_write_them() {
    for (text, written) in [
        ("20Mbit", "20Mbit"),
        ("20 mbit/s", "20Mbit"),
        ("1.5Gbit", "1500Mbit"),
        ("0.5Mbit", "500kbit"),
        ("8000bit", "8kbit"),
        ("100Gbit", "100Gbit"),
    ] {
        let rate: Rate = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(rate.to_string(), written);
    }
    for text in ["", "20", "Mbit", "20MB", "7999bit", "101Gbit", "-1Mbit", "1.Mbit", ".5Mbit", "1e3Mbit"] {
        assert!(text.parse::<Rate>().is_err(), "{text}");
    }
    for (text, written) in [
        ("100GB/month", "100GB/month"),
        ("0.5 TB / Month", "500GB/month"),
        ("2GiB/day", "2GiB/day"),
        ("1.5KiB/day", "1536B/day"),
        ("1000000b/day", "1MB/day"),
    ] {
        let quota: Quota = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(quota.to_string(), written);
    }
    for text in ["", "100GB", "100GB/week", "0GB/day", "100/day", "99999999999TB/day", "1.0000001kB/day"] {
        assert!(text.parse::<Quota>().is_err(), "{text}");
    }
    for (text, written) in [("drop", "drop"), ("Rate", "1Mbit"), ("2Mbit", "2Mbit")] {
        assert_eq!(text.parse::<OverQuota>().unwrap().to_string(), written);
    }
    assert!("stop".parse::<OverQuota>().unwrap_err().starts_with("drop, rate"));
    let mut settings = PeerSettings::NONE;
    settings.set(PeerComment::RateUp, "20Mbit").unwrap();
    settings.set(PeerComment::Quota, "1GB/day").unwrap();
    assert_eq!(settings.limits.rate_up, "20Mbit".parse().ok());
    assert_eq!(settings.get(PeerComment::Quota).as_deref(), Some("1GB/day"));
    assert_eq!(settings.get(PeerComment::OverQuota), None);
}
