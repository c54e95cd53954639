//! Messages of errors in the command line: one line each, with what is given, what is expected, an
//! example, and the command whose help describes it.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::arguments::{Arguments, find_option};
use super::{hints, options, unknown_word};

/// Returns the message for an error of clap's.
pub(super) fn message(error: &clap::Error, root: &mut clap::Command, arguments: &Arguments) -> String {
    root.build();
    let command =
        arguments.path.iter().fold(&*root, |command, name| command.find_subcommand(name).unwrap_or(command));
    let context = Context { error, root, command, arguments };
    format!("{}; see {} --help", context.problem(), arguments.command_line())
}

/// An error and the command in which it occurred.
struct Context<'a> {
    error: &'a clap::Error,
    root: &'a clap::Command,
    command: &'a clap::Command,
    arguments: &'a Arguments,
}

impl Context<'_> {
    fn problem(&self) -> String {
        match self.error.kind() {
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => self.invalid_value(),
            ErrorKind::UnknownArgument => self.unknown_argument(),
            ErrorKind::InvalidSubcommand => self.unknown_command(),
            ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                format!("a command is missing: expected {}, {}", self.commands(), self.example())
            }
            ErrorKind::MissingRequiredArgument => {
                let missing: Vec<_> =
                    self.strings(ContextKind::InvalidArg).iter().map(|name| bare_name(name)).collect();
                let verb = if missing.len() == 1 { "is" } else { "are" };
                format!(
                    "{} {verb} missing: expected {}, {}",
                    missing.join(" and "),
                    self.usage(),
                    self.example()
                )
            }
            ErrorKind::ArgumentConflict => self.conflict(),
            ErrorKind::InvalidUtf8 => "an argument is not UTF-8: expected text".to_owned(),
            kind => {
                let given = self.string(ContextKind::InvalidArg).map(|name| bare_name(&name));
                let given = given.unwrap_or_else(|| "the command line".to_owned());
                format!("{given}: {kind}: expected {}, {}", self.usage(), self.example())
            }
        }
    }

    fn invalid_value(&self) -> String {
        let shown = self.string(ContextKind::InvalidArg).unwrap_or_default();
        let argument = self.command.get_arguments().find(|argument| argument.to_string() == shown);
        let value = self.string(ContextKind::InvalidValue).unwrap_or_default();
        let name = bare_name(&shown);
        let long = argument.and_then(clap::Arg::get_long);
        let hint = long.and_then(|long| hints::option_of(&self.arguments.path, long));
        let valid: Vec<_> = self.strings(ContextKind::ValidValue);
        let expected = match (hint.and_then(|(expected, _)| expected), self.error.source()) {
            _ if !valid.is_empty() => format!("expected {}", alternatives(&valid)),
            (Some(expected), _) => format!("expected {expected}"),
            (None, Some(source)) => source.to_string(),
            (None, None) => "expected a value".to_owned(),
        };
        let example = match (long, hint, valid.first()) {
            (Some(long), _, Some(valid)) => format!("for example --{long} {valid}"),
            (Some(long), Some((_, example)), None) => format!("for example --{long} {example}"),
            _ => self.example(),
        };
        let variable = argument.and_then(clap::Arg::get_env).filter(|_| !self.is_on_command_line(&name));
        let given = match variable {
            Some(variable) => format!("{}={}", variable.display(), quoted(&value)),
            None if value.is_empty() && self.error.kind() == ErrorKind::InvalidValue => {
                format!("{name} without a value")
            }
            None => format!("{name} {}", quoted(&value)),
        };
        format!("{given}: {expected}, {example}")
    }

    fn unknown_argument(&self) -> String {
        let given = self.string(ContextKind::InvalidArg).unwrap_or_default();
        let Some(name) = given.strip_prefix("--").filter(|name| !name.is_empty()) else {
            let kind = if given.starts_with('-') { "unknown option" } else { "unexpected argument" };
            return format!("{kind} '{}': expected {}", given.escape_debug(), self.usage());
        };
        let line = self.arguments.command_line();
        if find_option(self.root, name).is_some() {
            let without = if self.arguments.path.is_empty() { " without a command" } else { "" };
            return format!(
                "--{name} does not apply to '{line}'{without}: it is an option of {}",
                alternatives(&commands_with(self.root, name)).replace(" or ", " and ")
            );
        }
        let nearest = self.string(ContextKind::SuggestedArg);
        let nearest = nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default();
        format!("unknown option '--{}'{nearest}: expected an option of '{line}'", name.escape_debug())
    }

    fn unknown_command(&self) -> String {
        let given = self.string(ContextKind::InvalidSubcommand).unwrap_or_default();
        if self.arguments.path.is_empty() {
            let next = self.arguments.given().skip_while(|argument| *argument != given.as_str()).nth(1);
            let next = next.and_then(|next| next.to_str());
            return unknown_word::message(&given, next, &self.command_names());
        }
        let nearest = self.strings(ContextKind::SuggestedSubcommand);
        let nearest =
            nearest.first().map(|nearest| format!(" (did you mean '{nearest}'?)")).unwrap_or_default();
        format!(
            "unknown command '{}'{nearest}: expected {}, {}",
            given.escape_debug(),
            self.commands(),
            self.example()
        )
    }

    fn conflict(&self) -> String {
        let given =
            self.string(ContextKind::InvalidArg).map(|name| self.source_of(&name)).unwrap_or_default();
        let others: Vec<_> =
            self.strings(ContextKind::PriorArg).iter().map(|name| self.source_of(name)).collect();
        if others.is_empty() || others.contains(&given) {
            return format!("{given} is given twice: give it once");
        }
        format!("{given} and {} exclude each other: give either", others.join(", "))
    }

    /// Returns the name of the option, with that of its variable if it is set by that.
    fn source_of(&self, shown: &str) -> String {
        let name = bare_name(shown);
        let argument = self.command.get_arguments().find(|argument| argument.to_string() == shown);
        match argument.and_then(clap::Arg::get_env) {
            Some(variable) if !self.is_on_command_line(&name) => format!("{name} ({})", variable.display()),
            _ => name,
        }
    }

    fn is_on_command_line(&self, name: &str) -> bool {
        let is_name = |argument: &str| {
            argument.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        self.arguments.given().any(|argument| is_name(&argument.to_string_lossy()))
    }

    /// Returns the names of the subcommands that are not hidden.
    fn command_names(&self) -> Vec<String> {
        let is_listed = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
        let commands = self.command.get_subcommands().filter(is_listed);
        commands.map(|command| command.get_name().to_owned()).collect()
    }

    fn commands(&self) -> String {
        alternatives(&self.command_names())
    }

    fn example(&self) -> String {
        let arguments = hints::arguments(&self.arguments.path);
        format!("for example {} {arguments}", self.arguments.command_line()).trim_end().to_owned()
    }

    /// Returns the command line that the command expects.
    fn usage(&self) -> String {
        let usage = self.command.clone().render_usage().to_string();
        let line = usage.lines().next().unwrap_or_default();
        format!("'{}'", line.strip_prefix("Usage: ").unwrap_or(line).trim())
    }

    fn string(&self, kind: ContextKind) -> Option<String> {
        self.strings(kind).into_iter().next()
    }

    fn strings(&self, kind: ContextKind) -> Vec<String> {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => vec![text.clone()],
            Some(ContextValue::Strings(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }
}

/// Returns the command lines that have the option `--name`.
fn commands_with(root: &clap::Command, name: &str) -> Vec<String> {
    let commands = root.get_subcommands().filter(|command| !command.is_hide_set());
    let with_it =
        commands.filter(|command| find_option(command, name).is_some_and(|option| !option.is_hide_set()));
    let mut lines: Vec<_> = with_it.map(|command| format!("'wontun {}'", command.get_name())).collect();
    let own = root.get_arguments().find(|argument| argument.get_long() == Some(name));
    let tunnels: &[&str] = match own.map(clap::Arg::get_help_heading) {
        None => &[],
        Some(Some(options::OF_PLAIN)) => &["--peer HOST"],
        Some(Some(options::OF_ALL)) => &["--config FILE", "--peer HOST"],
        Some(_) => &["--config FILE"],
    };
    lines.extend(tunnels.iter().map(|tunnel| format!("'wontun {tunnel}'")));
    lines
}

/// Returns the name of an argument without its value: `--mtu` of `--mtu <BYTES>`, `NAME` of
/// `[NAME]`.
fn bare_name(shown: &str) -> String {
    let name = shown.split([' ', '=']).next().unwrap_or(shown);
    let name = if name.starts_with('-') { name.split('[').next().unwrap_or(name) } else { name };
    name.trim_matches(['<', '>', '[', ']', '.']).to_owned()
}

/// Returns a value on one line, in quotes if it is empty or has spaces.
fn quoted(value: &str) -> String {
    let escaped = value.escape_debug().to_string();
    if escaped.is_empty() || escaped.contains(' ') { format!("'{escaped}'") } else { escaped }
}

/// Returns a list such as `on, keep or off`.
fn alternatives(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}
