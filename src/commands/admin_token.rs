//! Implements `wontun admin token`: `add`, `list` and `remove` for the tokens of the admin page's
//! API.

use std::io::{self, Write as _};
use std::time::SystemTime;

use jiff::Timestamp;

use super::apply;
use super::error::CommandError;
use super::output::{print_secret, stdout, write};
use crate::admin::editor::TokensFile;
use crate::admin::sign_in::Token;
use crate::admin::tokens::{ApiToken, secret_text};
use crate::config::peer_settings::Expiry;
use crate::config::{ApiScope, TokenName};
use crate::net::random::SystemRandom;
use crate::server::Folder;

/// Makes a token, and prints its secret.
///
/// # Errors
/// [`CommandError`]: the name is taken, or the file cannot be written or put in force.
pub(crate) fn add_token(
    folder: &Folder,
    name: TokenName,
    scopes: Vec<ApiScope>,
    expires: Option<Expiry>,
) -> Result<(), CommandError> {
    let server = folder.read()?;
    let secret = Token::random(&mut SystemRandom::open()?);
    let created = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let created = created.round(jiff::Unit::Second).unwrap_or(created);
    let scopes = scopes.into_iter().collect();
    let token = ApiToken { name, scopes, created, expires, hash: secret.hash() };
    file(folder).change(|tokens| tokens.add(token)).map_err(CommandError::Tokens)?;
    let mut text = secret_text(&secret);
    text.push('\n');
    print_secret(text.as_bytes())?;
    let _ = writeln!(io::stderr(), "wontun: this is the token's secret, which is not shown again");
    apply::reload_tokens(folder, &server)
}

/// Prints the tokens, one on each line.
///
/// # Errors
/// [`CommandError`]: the file cannot be read, or the output cannot be written.
pub(crate) fn list_tokens(folder: &Folder) -> Result<(), CommandError> {
    let tokens = file(folder).read().map_err(CommandError::Tokens)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut text = String::new();
    for ApiToken { name, scopes, created, expires, .. } in tokens.iter() {
        let end = match expires {
            None => "no end".to_owned(),
            Some(end) if end.since_epoch() <= now => format!("expired {end}"),
            Some(end) => format!("expires {end}"),
        };
        text.push_str(&format!("{name}  {scopes}  created {created}  {end}\n"));
    }
    if text.is_empty() {
        let _ = writeln!(io::stderr(), "wontun: no tokens yet: 'wontun admin token add NAME' makes one");
        return Ok(());
    }
    match write(&mut stdout()?, text.as_bytes()) {
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Removes a token, which ends at once.
///
/// # Errors
/// [`CommandError`]: there is none of this name, or the file cannot be written or put in force.
pub(crate) fn remove_token(folder: &Folder, name: &TokenName) -> Result<(), CommandError> {
    let server = folder.read()?;
    file(folder).change(|tokens| tokens.remove(name)).map_err(CommandError::Tokens)?;
    apply::reload_tokens(folder, &server)
}

fn file(folder: &Folder) -> TokensFile {
    TokensFile::new(folder.path(), folder.tun())
}
