//! Access to the page: one account, whose password is set by way of a one-time link that the
//! command line prints.
//!
//! | File | Content |
//! |---|---|
//! | `account.rs` | the account, and its file `NAME.admin` |
//! | `password.rs` | hashes of passwords (Argon2id) |
//! | `totp.rs` | one-time passwords of an authenticator app (RFC 6238) |
//! | `token.rs` | random tokens: links, sessions, forms |
//! | `sessions.rs` | sessions |
//! | `attempts.rs` | limits on attempts to sign in |

mod account;
mod attempts;
mod password;
mod sessions;
mod token;
mod totp;

pub(super) use self::account::Account;
pub use self::account::AccountText;
pub(super) use self::attempts::Attempts;
pub(super) use self::password::{MIN_PASSWORD, PasswordHash};
pub(super) use self::sessions::{Session, Sessions};
pub(super) use self::token::parse_hex;
pub use self::token::{Token, TokenHash};
pub(super) use self::totp::TotpSecret;
