//! The order of arguments: options may stand before the command that they belong to.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The arguments, with the options before a command moved behind it.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    program: OsString,
    /// The command and its subcommand, by their main names; empty without a command.
    pub(super) path: Vec<String>,
    /// All other arguments.
    rest: Vec<OsString>,
}

/// The command that creates an interface for wg(8).
const INTERFACE: &str = "interface";
/// Name under which programs look for a userspace implementation of WireGuard.
const STAND_IN: &str = "wireguard-go";
/// Arguments after which no command follows.
const ENDS: [&str; 6] = ["-h", "--help", "-V", "--version", "--", "-"];

impl Arguments {
    /// Sorts `arguments`, which begin with the program's name. Reads no further than the first
    /// argument that is neither an option nor a command.
    ///
    /// Without a command, `-f` selects the command `interface`; so does a name if wg-quick runs
    /// this program (`is_by_wg_quick`), and any argument if it runs as `wireguard-go`.
    pub(super) fn new(root: &clap::Command, arguments: Vec<OsString>, is_by_wg_quick: bool) -> Self {
        let mut arguments = arguments.into_iter().peekable();
        let program = arguments.next().unwrap_or_else(|| "wontun".into());
        let (mut command, mut path, mut rest) = (root, Vec::new(), Vec::new());
        let is_end = |argument: &OsString| ENDS.iter().any(|end| argument == end);
        if Path::new(&program).file_name().is_some_and(|name| name == STAND_IN)
            && arguments.peek().is_some_and(|argument| !is_end(argument))
        {
            return Self { program, path: vec![INTERFACE.to_owned()], rest: arguments.collect() };
        }
        let mut is_interface = false;
        while let Some(argument) = arguments.peek().filter(|argument| !is_end(argument)) {
            let text = argument.to_string_lossy().into_owned();
            if text.starts_with('-') {
                rest.extend(arguments.next());
                let has_value = |next: &OsString| takes_value(root, &text, next);
                rest.extend(arguments.next_if(has_value));
            } else if let Some(found) = command.find_subcommand(&text) {
                path.push(found.get_name().to_owned());
                command = found;
                arguments.next();
            } else {
                is_interface = is_by_wg_quick;
                break;
            }
        }
        rest.extend(arguments);
        is_interface |= rest.iter().any(|argument| argument == "-f" || argument == "--foreground");
        if path.is_empty() && is_interface {
            path.push(INTERFACE.to_owned());
        }
        Self { program, path, rest }
    }

    /// Returns all arguments, beginning with the program's name.
    pub(super) fn all(&self) -> impl Iterator<Item = OsString> {
        let path = self.path.iter().map(OsString::from);
        std::iter::once(self.program.clone()).chain(path).chain(self.rest.iter().cloned())
    }

    /// Returns the arguments other than the program's name and the command.
    pub(super) fn given(&self) -> impl Iterator<Item = &OsStr> {
        self.rest.iter().map(OsString::as_os_str)
    }

    /// Returns the command line that selects the command, such as `wontun peer add`.
    pub(super) fn command_line(&self) -> String {
        std::iter::once("wontun").chain(self.path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }
}

/// Returns true if `next` is the value of `option`: no value follows `=`, and an option of that
/// name takes one.
fn takes_value(root: &clap::Command, option: &str, next: &OsStr) -> bool {
    let Some(name) = option.strip_prefix("--").filter(|name| !name.contains('=')) else { return false };
    let Some(argument) = find_option(root, name) else { return false };
    let is_optional = argument.get_num_args().is_some_and(|range| range.min_values() == 0);
    argument.get_action().takes_values() && !(is_optional && next.to_string_lossy().starts_with('-'))
}

/// Returns the option `--name` of the command, or else of any of its subcommands.
pub(super) fn find_option<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(name));
    own.or_else(|| command.get_subcommands().find_map(|command| find_option(command, name)))
}
