//! Keys are not leaked.

use std::sync::Arc;

use super::implementation::Implementation;
use super::pair::{Outer, Plan, SERVER_V4};
use super::settings::{Keys, preshared_key};
use crate::lab::Lab;

/// Returns the forms of a key that must appear nowhere: its text, and its bytes in hexadecimal as
/// on the socket.
fn spellings(key: &str) -> [String; 2] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits =
        key.trim_end_matches('=').bytes().map(|byte| alphabet.iter().position(|b| *b == byte).unwrap());
    let bits: String = digits.map(|digit| format!("{digit:06b}")).collect();
    let hex = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| format!("{:02x}", u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()));
    [key.trim_end_matches('=').to_owned(), hex.collect()]
}

fn keys_show_nowhere(client: Implementation) {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let shared = preshared_key();
    plan.server.peers[0].preshared = Some(shared.clone());
    plan.client.peers[0].preshared = Some(shared.clone());
    // Public keys are printed with their first ten characters only, but they are not secret.
    let mut secrets = vec![plan.client.private.clone(), shared];
    let client_log_is_seen = plan.client_keys.public.clone();
    let pair = plan.start(Implementation::Wontun, client);
    pair.client.ping(SERVER_V4);
    let node = &pair.client;
    let new = Keys::new();
    let file = node.key_file("new", &new.private);
    node.set(&["private-key", file.to_str().unwrap()]);
    secrets.push(new.private);
    // A request with an error right behind a key.
    let wrong = node.site.write("wrong.conf", &format!("[Interface]\nPrivateKey = {}x\n", secrets[0]));
    assert!(!node.site.try_wg(&["setconf", "wg0", wrong.to_str().unwrap()]).status.success());
    node.daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    node.daemon.wait_for("summary");
    assert_eq!(node.site.wg(&["show", "wg0", "private-key"]).trim(), secrets[2], "{client_log_is_seen}");
    let mut places = vec![("the log".to_owned(), node.daemon.lines().join("\n"))];
    for pid in node.daemon.processes().all() {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            places.push((format!("{file} of {pid}"), String::from_utf8_lossy(&text).into_owned()));
        }
    }
    // helpers have no environment
    assert!(places.iter().take(3).all(|(_, text)| !text.is_empty()));
    for secret in secrets.iter().flat_map(|secret| spellings(secret)) {
        for (place, text) in &places {
            assert!(!text.contains(&secret), "a key is in {place}");
        }
    }
}

between!(keys_show_nowhere: {
    from_a_file: (ConfigFile),
    told_by_wg: (Wontun),
});

/// Checks `spellings` itself with a key of known forms.
#[test]
fn spellings_are_right() {
    let [text, hex] = spellings("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=");
    assert_eq!(text, "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo");
    assert_eq!(hex, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
}
