//! Implements `wontun completions`.

use clap_complete::{Generator, generate, shells};

use super::error::CommandError;
use super::output::{stdout, write};
use crate::cli::{self, Shell};

/// Prints the completion script for a shell.
///
/// # Errors
/// [`CommandError::Output`].
pub(crate) fn completions(shell: Shell) -> Result<(), CommandError> {
    // not by `clap_complete::Shell`, which contains the scripts of other shells
    let script = match shell {
        Shell::Bash => script(shells::Bash),
        Shell::Zsh => script(shells::Zsh),
        Shell::Fish => script(shells::Fish),
    };
    write(&mut stdout()?, &script)
}

fn script(shell: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    generate(shell, &mut visible(&cli::command()), "wontun", &mut script);
    script
}

/// Returns the command without hidden commands and options, which the generators do not leave out.
fn visible(command: &clap::Command) -> clap::Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    // clap takes static names only; the program ends soon
    let leak = |name: &str| -> &'static str { name.to_owned().leak() };
    clap::Command::new(leak(command.get_name()))
        .about(command.get_about().cloned().unwrap_or_default())
        .visible_aliases(command.get_visible_aliases().map(leak))
        .args(arguments.cloned())
        .subcommands(commands.map(visible))
        .disable_version_flag(command.get_version().is_none())
        .version(leak(command.get_version().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_completes_commands_and_their_options() {
        for script in [script(shells::Bash), script(shells::Zsh), script(shells::Fish)] {
            let text = String::from_utf8(script).unwrap();
            for word in ["serve", "kill-switch", "full-tunnel", "rename", "version"] {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert!(!text.contains("unlock"), "{text}");
        }
    }
}
