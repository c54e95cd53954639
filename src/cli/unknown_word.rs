//! The error for a word that is no command: the nearest command, or what it may be instead.

use crate::config::TunName;

/// Minimum Jaro-Winkler similarity to a command for a word to count as misspelled, from 0 to 1.
const MISSPELLED: f64 = 0.75;

/// Words of similar programs, and the command lines that do the same here.
const SYNONYMS: [(&[&str], &str); 6] = [
    (&["up", "start", "run", "connect"], "to run the tunnel of a file, give 'wontun --config FILE'"),
    (&["stop", "quit", "disconnect", "kill"], "to end a running tunnel, give 'wontun down'"),
    (&["restart", "refresh", "syncconf"], "to read the file again, give 'wontun reload'"),
    (&["ls", "list", "ps"], "to list running tunnels, give 'wontun show'"),
    (&["add", "remove", "rename", "client", "clients"], "clients are the matter of 'wontun peer'"),
    (&["version"], "give 'wontun --version'"),
];

/// Returns the message for `word` where a command was expected, and `next` follows it. `commands`
/// are those that are listed.
pub(super) fn message(word: &str, next: Option<&str>, commands: &[String]) -> String {
    let shown = word.escape_debug();
    if let Some(command) = next.filter(|next| commands.iter().any(|command| command == next)) {
        return format!(
            "'{shown}' stands before the command '{command}': give the command first, for example wontun show {shown}"
        );
    }
    let similarity = |command: &str| strsim::jaro_winkler(word, command);
    let nearest = commands.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let nearest = nearest.filter(|command| similarity(command) > MISSPELLED);
    let synonym = SYNONYMS.iter().find(|(words, _)| words.contains(&word));
    let advice = match (synonym, nearest) {
        (Some((_, advice)), _) => (*advice).to_owned(),
        _ if word.contains('/') || word.ends_with(".conf") => {
            format!("to run the tunnel that this file describes, give 'wontun --config {shown}'")
        }
        (None, nearest) => {
            let nearest = nearest.map(|command| format!("did you mean '{command}'? "));
            let interface = match word.parse::<TunName>() {
                Ok(_) => {
                    format!("a WireGuard interface of that name is created by 'wontun interface {shown}'")
                }
                Err(_) => "expected a command".to_owned(),
            };
            nearest.unwrap_or_default() + &interface
        }
    };
    format!("unknown command '{shown}': {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(word: &str, next: Option<&str>) -> String {
        let commands = ["serve", "peer", "show", "top", "health", "reload", "down"].map(str::to_owned);
        message(word, next, &commands)
    }

    #[test]
    fn a_word_gets_the_command_that_was_meant() {
        for (word, part) in [
            ("shwo", "did you mean 'show'? a WireGuard interface of that name"),
            ("helth", "did you mean 'health'?"),
            ("wg0", "'wg0': a WireGuard interface of that name is created by 'wontun interface wg0'"),
            ("up", "'wontun --config FILE'"),
            ("stop", "'wontun down'"),
            ("wg0.conf", "'wontun --config wg0.conf'"),
            ("/etc/wireguard/wg0.conf", "'wontun --config /etc/wireguard/wg0.conf'"),
            ("no device has this name", "expected a command"),
            ("a\nb", "unknown command 'a\\nb'"),
        ] {
            let said = said(word, None);
            assert!(said.contains(part) && said.lines().count() == 1, "{said}");
        }
        assert!(!said("wg0", None).contains("did you mean"));
        assert!(said("wg0", Some("show")).contains("give the command first, for example wontun show wg0"));
        assert!(said("wg0", Some("wg1")).starts_with("unknown command 'wg0'"));
    }
}
