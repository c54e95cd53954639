//! A start whose command line says too little: without any argument, or with options alone.

use std::ffi::{OsStr, OsString};

/// The variable with the command of a start without any argument: how an image has a default and no
/// CMD.
pub(super) const VARIABLE: &str = "WONTUN_COMMAND";

/// Variables that say what to run by themselves. Either wins over [`VARIABLE`].
const OTHERS: [&str; 2] = ["WONTUN_CONFIG", "WONTUN_PEER"];

/// The commands that run a tunnel, which is what a container or a service is for.
const COMMANDS: [&str; 2] = ["serve", "plain"];

/// The help of a start without any argument: ten lines with the program's name before them.
const HELP: &str = "\
nothing to run: give a command, --config or NAME
  wontun serve --endpoint HOST   a WireGuard server; its key and file are made in /etc/wontun if there are none
  wontun peer add NAME --qr      adds a client to that server and prints its configuration
  wontun --config FILE           the WireGuard tunnel described by FILE (wg-quick format)
  wontun NAME                    a WireGuard interface for wg(8) to configure
  wontun plain                   a server that does not encrypt, for labs and trusted wires only
  wontun plain --peer HOST       the client of that server
  wontun show                    shows the tunnels that run
  wontun --help                  lists all commands and options
The variable WONTUN_COMMAND=serve or plain, as a container has it, gives the command of a start without arguments.";

/// Returns the command that the environment gives to a start without any argument. An empty
/// variable is none.
///
/// # Errors
/// The message about a command that it cannot give.
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

/// Returns the message for a start with these arguments, none of which says which tunnel to run.
pub(super) fn refusal(arguments: impl Iterator<Item = OsString>) -> String {
    let given: Vec<_> = arguments.map(|argument| quoted(&argument)).collect();
    if given.is_empty() {
        return HELP.to_owned();
    }
    format!(
        "these options do not say which tunnel to run: the one that does not encrypt is started by its name, \
         `wontun plain {}` (COMMAND=plain in a unit's file), a WireGuard server by `wontun serve`; see wontun --help",
        given.join(" ")
    )
}

/// An argument as a shell takes it, on one line whatever it is made of.
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
