//! Writes secrets to standard output.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use super::error::CommandError;

/// Permission bits of other users.
const OTHERS: u32 = 0o007;

/// Returns standard output without a buffer: the standard library's buffer keeps a copy of the
/// output.
pub(super) fn stdout() -> Result<File, CommandError> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(CommandError::Output)
}

/// Prints a text that contains a key, and warns if the output is a file that other users can open.
pub(super) fn print_secret(text: &[u8]) -> Result<(), CommandError> {
    let mut stdout = stdout()?;
    if is_world_accessible(&stdout) {
        // if the reader of standard error is gone, the warning is lost
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: the file that the key is written to is accessible by every user: set the umask to 077 and write it again"
        );
    }
    write(&mut stdout, text)
}

/// Writes the whole text, in one call if possible.
pub(super) fn write(output: &mut impl Write, text: &[u8]) -> Result<(), CommandError> {
    output.write_all(text).map_err(CommandError::Output)
}

fn is_world_accessible(output: &File) -> bool {
    output.metadata().is_ok_and(|file| file.is_file() && file.mode() & OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_others_may_open_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("wontun-output-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        for (mode, open) in [(0o600, false), (0o660, false), (0o644, true), (0o601, true)] {
            file.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(is_world_accessible(&file), open, "{mode:o}");
        }
        std::fs::remove_file(path).unwrap();
        assert!(!is_world_accessible(&File::open("/dev/null").unwrap()));
    }

    #[test]
    fn a_full_device_is_an_error() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        assert!(matches!(write(&mut full, b"a key"), Err(CommandError::Output(_))));
    }
}
