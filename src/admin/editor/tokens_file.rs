//! The file of the API's tokens: `NAME.admin-tokens`, beside the configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::tokens::{ApiTokens, TokensError, TokensText};
use crate::config::TunName;
use crate::server::Writer;

/// The file.
#[derive(Debug)]
pub(crate) struct TokensFile(PathBuf);

impl TokensFile {
    /// Returns the file of a tunnel whose configuration is in `folder`.
    pub(crate) fn new(folder: &Path, tunnel: &TunName) -> Self {
        Self(folder.join(format!("{tunnel}.admin-tokens")))
    }

    /// Reads the tokens; none if the file is not there.
    ///
    /// # Errors
    /// A text for the log: it cannot be read, or is none of tokens.
    pub(crate) fn read(&self) -> Result<ApiTokens, String> {
        let path = self.0.display();
        match fs::read_to_string(&self.0) {
            Ok(text) => {
                let tokens = TokensText::try_from(text).and_then(|text| text.parse());
                tokens.map_err(|error| format!("{path}: {error}"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ApiTokens::default()),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        }
    }

    /// Changes the tokens in the file, which only its owner may read. Returns all of them.
    ///
    /// # Errors
    /// A text for the page or the command; the file is unchanged.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&mut ApiTokens) -> Result<(), TokensError>,
    ) -> Result<ApiTokens, String> {
        let writer = Writer::lock(&self.0).map_err(|error| error.to_string())?;
        let mut tokens = self.read()?;
        change(&mut tokens).map_err(|error| error.to_string())?;
        let text = tokens.to_text();
        let text = text.as_str().as_bytes();
        let written = if self.0.exists() { writer.replace(text) } else { writer.create(text) };
        written.map_err(|error| error.to_string())?;
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::super::tokens::tests::add;
    use super::*;

    #[test]
    fn the_file_is_its_owners_and_a_refused_change_leaves_it() {
        let folder = std::env::temp_dir().join(format!("wontun-tokens-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = TokensFile::new(&folder, &TunName::default());
        assert_eq!(file.read(), Ok(ApiTokens::default()));
        let mut secret = None;
        let changed = file.change(|tokens| {
            secret = Some(add(tokens, "grafana", "read", None));
            Ok(())
        });
        let path = folder.join("tun0.admin-tokens");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.read(), changed);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(secret.unwrap().to_hex().as_str()), "{text}");
        let unknown = file.change(|tokens| tokens.remove(&"x".parse().unwrap()));
        assert!(unknown.unwrap_err().contains("no token 'x'"));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::remove_dir_all(&folder).unwrap();
    }
}
