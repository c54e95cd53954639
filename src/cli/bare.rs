//! Starts without arguments, or with options that do not select a tunnel.

use std::ffi::{OsStr, OsString};

/// Variable with the command of a start without arguments: the default of a container image that
/// has no CMD.
pub(super) const VARIABLE: &str = "WONTUN_COMMAND";

/// Variables that select a tunnel themselves. They override [`VARIABLE`].
const OTHERS: [&str; 2] = ["WONTUN_CONFIG", "WONTUN_PEER"];

/// The commands that run a tunnel.
const COMMANDS: [&str; 2] = ["serve", "plain"];

/// Help of a start without arguments: ten lines, the first of which follows the program's name.
const HELP: &str = "\
nothing to run: give a command or --config
  wontun serve --endpoint HOST   runs a WireGuard server; creates its key and file in /etc/wontun first
  wontun peer add NAME --qr      adds a client to that server and prints its configuration
  wontun --config FILE           runs the WireGuard tunnel described by FILE (wg-quick format)
  wontun interface NAME          creates a WireGuard interface for wg(8) to configure
  wontun plain                   runs a server that does not encrypt, for labs and trusted networks only
  wontun plain --peer HOST       runs the client of that server
  wontun status                  shows running tunnels, and what to do where something is wrong
  wontun --help                  lists all commands and options
Without arguments, the variable WONTUN_COMMAND (serve or plain), which container images set, selects the command.";

/// Returns the command that the environment selects for a start without arguments. An empty
/// variable counts as unset.
///
/// # Errors
/// The message for a value that is not a command, or none that runs a tunnel.
pub(super) fn command(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<&'static str>, String> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let Some(given) = set(VARIABLE).filter(|_| OTHERS.into_iter().all(|name| set(name).is_none())) else {
        return Ok(None);
    };
    match COMMANDS.into_iter().find(|command| given == OsStr::new(command)) {
        Some(command) => Ok(Some(command)),
        None => Err(format!("{VARIABLE} is {given:?}: expected {}", COMMANDS.join(" or "))),
    }
}

/// Returns the message for a start with these arguments, none of which selects a tunnel.
pub(super) fn refusal(arguments: impl Iterator<Item = OsString>) -> String {
    let given: Vec<_> = arguments.map(|argument| quoted(&argument)).collect();
    if given.is_empty() {
        return HELP.to_owned();
    }
    format!(
        "these options do not select a tunnel to run: `wontun serve` runs a WireGuard server, `wontun plain {}` \
         (COMMAND=plain in a unit's environment file) the tunnel that does not encrypt; see wontun --help",
        given.join(" ")
    )
}

/// Quotes an argument for a shell, on one line whatever it contains.
fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%[]".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.into_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Option<&'static str>, String> {
        command(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn the_environment_gives_the_command_only_when_it_says_nothing_else() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(VARIABLE, "")]), Ok(None));
        assert_eq!(of(&[(VARIABLE, "serve")]), Ok(Some("serve")));
        assert_eq!(of(&[(VARIABLE, "plain"), ("WONTUN_PEER", "")]), Ok(Some("plain")));
        for other in OTHERS {
            assert_eq!(of(&[(VARIABLE, "serve"), (other, "x")]), Ok(None));
            assert_eq!(of(&[(VARIABLE, "nonsense"), (other, "x")]), Ok(None));
        }
        for wrong in ["Serve", "serve ", "show", "--help", "a\nb"] {
            let said = of(&[(VARIABLE, wrong)]).unwrap_err();
            assert!(said.contains("serve or plain") && said.lines().count() == 1, "{said}");
        }
    }

    #[test]
    fn a_bare_start_gets_ten_lines_and_options_the_command_with_them() {
        assert_eq!(refusal(std::iter::empty()).lines().count(), 10);
        let given = ["--listen-port", "1", "--tun=tun 3"].map(OsString::from);
        let said = refusal(given.into_iter());
        assert!(said.contains("`wontun plain --listen-port 1 \"--tun=tun 3\"`"), "{said}");
        assert_eq!(said.lines().count(), 1);
    }
}
