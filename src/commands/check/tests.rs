//! Tests of `check` that need no network.

use std::path::Path;

use super::*;

/// RFC 7748, section 6.1.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

fn report(text: &str, arguments: &[&str]) -> (Report, u8) {
    use clap::{Args as _, FromArgMatches as _};
    let folder = std::env::temp_dir().join(format!(
        "wontun-check-{:?}-{}",
        std::thread::current().id(),
        std::process::id()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("wg0.conf");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let command =
        WireGuardOptions::augment_args(clap::Command::new("check")).mut_args(|argument| argument.env(None));
    let matches = command.try_get_matches_from([&["check"], arguments].concat()).unwrap();
    let options = WireGuardOptions::from_arg_matches(&matches).unwrap();
    let result = collect(CheckOptions { file, tun: None, options, json: false });
    std::fs::remove_dir_all(&folder).unwrap();
    result
}

fn lines(report: &Report) -> Vec<Option<usize>> {
    report.errors.iter().map(|error| error.line).collect()
}

#[test]
fn all_errors_are_listed_with_their_lines() {
    let text = format!(
        "[Interface]\nPrivateKey = short\nAddress = 10.0.0.1/33, 10.0.0.2/24, 10.0.0.3/x\nMTU = 1\n\
         PostUp = iptables -F\n[Peer]\nAllowedIPs = 10.1.0.0/16, nonsense\nEndpoint = nowhere\n[Pear]\nPublicKey = x\n\
         [Peer]\nPublickKey = {PUBLIC}\nPersistentKeepalive = often\n[Peer]\n"
    );
    let (report, code) = report(&text, &["--kill-switch-allow", "192.0.2.1"]);
    assert_eq!(code, exit::CONFIG);
    let found = lines(&report);
    let expected: Vec<_> =
        [2, 3, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14].map(Some).into_iter().chain([None]).collect();
    assert_eq!(found, expected, "{report:?}");
    let shown = text::format(&report);
    assert!(
        shown.lines().all(|line| line.starts_with("error: ")) && shown.contains("wg0.conf:12: unknown key"),
        "{shown}"
    );
    assert!(report.plan.is_none());
}

#[test]
fn a_consequence_is_no_error_of_its_own() {
    for (text, expected) in [
        ("[Interfce]\nPrivateKey = x\n", &[1][..]),
        ("PrivateKey = x\nAddress = y\nMTU = 1\n[Interface]\nPrivatKey = x\n", &[1, 5]),
        ("[Interface]\nPrivateKeyFile =\n", &[2]),
        ("[Interface]\nPrivateKey dwdt\nS1 = 7\nH1 = 9\n", &[2, 3]),
        ("", &[1]),
    ] {
        let (report, _) = report(text, &[]);
        assert_eq!(
            lines(&report),
            expected.iter().copied().map(Some).collect::<Vec<_>>(),
            "{text}: {report:?}"
        );
    }
    let many = "[Interface]\n".to_owned() + &"nonsense\n".repeat(1000);
    let (report, _) = report(&many, &[]);
    // the key is missing, too
    assert_eq!((report.errors.len(), report.omitted), (100, 901));
    assert_eq!(text::errors(1), "1 error");
}

#[test]
fn options_that_do_not_fit_the_file_are_errors() {
    let full = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
    );
    let part = full.replace("0.0.0.0/0, ::/0", "10.0.0.0/8");
    for (text, arguments, expected) in [
        (&full, &["--kill-switch"][..], None),
        (&part, &["--kill-switch"], Some("--kill-switch")),
        (&full, &["--kill-switch", "--dns-bypass"], Some("--dns-bypass")),
        (&part, &["--nat-allow", "10.0.0.0/8"], Some("--nat-allow")),
        (&part, &["--kill-switch-allow", "10.0.0.0/8"], Some("--kill-switch-allow")),
    ] {
        let (report, _) = report(text, arguments);
        let found = report.errors.first().map(|error| error.message.as_str());
        assert_eq!(found.is_some(), expected.is_some(), "{arguments:?}: {report:?}");
        assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{found:?}");
    }
}

#[test]
fn a_key_file_is_read_also_if_the_file_has_errors() {
    let (report, _) = report("[Interface]\nPrivateKeyFile = none\nMTU = 1\n", &[]);
    assert_eq!(lines(&report), [Some(3), None], "{report:?}");
    assert!(report.errors[1].message.contains("none: cannot be read"), "{report:?}");
    let (report, _) = collect(CheckOptions {
        file: Path::new("/nonexistent/wg0.conf").to_owned(),
        tun: None,
        options: options(),
        json: false,
    });
    assert_eq!(lines(&report), [None]);
}

fn options() -> WireGuardOptions {
    use clap::{Args as _, FromArgMatches as _};
    let command =
        WireGuardOptions::augment_args(clap::Command::new("check")).mut_args(|argument| argument.env(None));
    WireGuardOptions::from_arg_matches(&command.get_matches_from(["check"])).unwrap()
}

/// Each field is documented in docs/src/reference/json.md, and no other is.
#[test]
fn the_fields_are_those_that_are_documented() {
    let text = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.1/24\n[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
    );
    let written = json::format(&report(&text, &[]).0) + &json::format(&report("", &[]).0);
    crate::documents::assert_documented(&written, &["Check", "Plan"]);
}
