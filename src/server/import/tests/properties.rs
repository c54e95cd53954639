//! Properties of every imported file.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = source("x").translate(&bytes, Path::new("y"));
    }

    /// For any input, the result has the meaning of the input, and no command.
    #[test]
    fn the_meaning_stays(
        above in prop::collection::vec("#.{0,20}|MTU = 1400|DNS = x|PostUp = .{0,30}|PreDown=|SaveConfig = (true|false)||Table = off", 0..8),
        below in prop::collection::vec("#.{0,20}|### Client .{0,10}|# Name = .{0,10}|AllowedIPs = 10.8.0.2/32||\\[Peer\\]", 0..12),
    ) {
        let mut text = format!("[Interface]\nPrivateKey = {}\n{}\n", secret(SERVER), above.join("\n"));
        let mut number = PHONE;
        for line in &below {
            text.push_str(line);
            text.push('\n');
            if line == "[Peer]" {
                number += 10;
                text.push_str(&format!("PublicKey = {}\n", public(number)));
            }
        }
        if let Ok(before) = parse(Path::new("x"), text.as_bytes(), Hooks::Ignore) {
            match translate(&text) {
                Ok(imported) => {
                    let after = parse(Path::new("x"), imported.file.text(), Hooks::Refuse).unwrap().configuration;
                    let mut expected = before.configuration;
                    expected.interface.dns.clear();
                    prop_assert_eq!(nameless(after), nameless(expected));
                    let names: Vec<_> = imported.file.peers().filter_map(|peer| peer.name).collect();
                    prop_assert!(names.iter().all(|name| !name.as_str().is_empty()));
                }
                Err(error) => prop_assert!(matches!(error, ImportError::KeyByCommand { .. }), "{}", error),
            }
        }
    }
}
