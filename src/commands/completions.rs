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
    generate(shell, &mut cli::command(), "wontun", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_completes_commands_and_their_options() {
        for script in [script(shells::Bash), script(shells::Zsh), script(shells::Fish)] {
            let text = String::from_utf8(script).unwrap();
            for word in ["serve", "kill-switch", "full-tunnel", "rename"] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}
