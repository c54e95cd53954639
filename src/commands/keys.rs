//! Implements `wontun genkey`, `pubkey` and `genpsk`, with the input and output formats of `wg`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use zeroize::Zeroizing;

use super::error::CommandError;
use super::output::{print_secret, stdout, write};
use crate::net::random::SystemRandom;
use wontun_proto::wireguard::{KEY_BASE64_LEN, KeyError, PresharedKey, PrivateKey};

/// Prints a new private key.
///
/// # Errors
/// There is no randomness, or the output cannot be written.
pub(crate) fn genkey() -> Result<(), CommandError> {
    let mut random = SystemRandom::open()?;
    print_secret(&line(&PrivateKey::generate(&mut random).to_base64()))
}

/// Prints a new preshared key.
///
/// # Errors
/// There is no randomness, or the output cannot be written.
pub(crate) fn genpsk() -> Result<(), CommandError> {
    let mut random = SystemRandom::open()?;
    print_secret(&line(&PresharedKey::generate(&mut random).to_base64()))
}

/// Reads a private key and prints its public key.
///
/// # Errors
/// The input is no key, or the output cannot be written.
pub(crate) fn pubkey() -> Result<(), CommandError> {
    // the standard library's stdin keeps a copy of its input in a buffer
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(CommandError::Input)?;
    let private = read_key(&mut File::from(stdin))?;
    write(&mut stdout()?, &line(&private.public_key().to_string()))
}

fn line(text: &str) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    line
}

/// Reads a key, which only white space (or zeroes, as in `wg`) may follow.
fn read_key(input: &mut impl Read) -> Result<PrivateKey, CommandError> {
    let mut text = Zeroizing::new([0; KEY_BASE64_LEN]);
    let mut length = 0;
    let mut rest = Zeroizing::new([0; 256]);
    loop {
        let room = text.get_mut(length..).unwrap_or_default();
        let is_full = room.is_empty();
        let buffer = if is_full { rest.as_mut_slice() } else { room };
        let read = match input.read(buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CommandError::Input(error)),
        };
        if !is_full {
            length += read;
        } else if !buffer.iter().take(read).all(|b| matches!(b, 0 | b' ' | b'\t'..=b'\r')) {
            return Err(CommandError::Trailing);
        }
    }
    let text = std::str::from_utf8(text.get(..length).unwrap_or_default()).map_err(|_| KeyError::Encoding)?;
    // if the text is too short, do not count the line break
    Ok(text.trim_ascii_end().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    /// A reader that returns one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn public(text: &str) -> Result<String, String> {
        let whole = read_key(&mut text.as_bytes()).map_err(|error| error.to_string());
        let slow = read_key(&mut Slow(text.as_bytes())).map_err(|error| error.to_string());
        assert_eq!(whole, slow, "{text:?}");
        whole.map(|key| key.public_key().to_string())
    }

    #[test]
    fn a_key_with_white_space_behind_it_is_read() {
        for end in ["", "\n", "\r\n", " \t\n\n", "\n\0"] {
            assert_eq!(public(&format!("{PRIVATE}{end}")).unwrap(), PUBLIC);
        }
        assert_eq!(public(&format!("{PRIVATE}{}", "\n".repeat(1000))).unwrap(), PUBLIC);
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        for (text, part) in [
            (String::new(), "this text has 0"),
            ("\n".to_owned(), "this text has 0"),
            (PRIVATE[1..].to_owned() + "\n", "this text has 43"),
            (format!("{}=\n", PRIVATE[..43].replace('d', "!")), "not a base64 key"),
            (format!(" {PRIVATE}\n"), "continues after the key"),
            (format!("{PRIVATE}{PRIVATE}"), "continues after the key"),
            (format!("{PRIVATE}\n{PRIVATE}\n"), "continues after the key"),
            ("\u{e9}".repeat(22), "not a base64 key"),
        ] {
            let error = public(&text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
            assert!(!error.contains("dwdt") && !error.contains('\n'), "{error}");
        }
    }
}
