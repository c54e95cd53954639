//! Access to the page: accounts, whose passwords are set by way of one-time links.
//!
//! | File | Content |
//! |---|---|
//! | `account.rs`, `accounts.rs` | the accounts, and their file `NAME.admin` |
//! | `links.rs` | one-time links |
//! | `password.rs` | hashes of passwords (Argon2id) |
//! | `totp.rs` | one-time passwords of an authenticator app (RFC 6238) |
//! | `token.rs` | random tokens: links, sessions, forms |
//! | `sessions.rs` | sessions |
//! | `attempts.rs` | limits on attempts to sign in |

mod account;
mod accounts;
mod attempts;
mod links;
mod password;
mod sessions;
mod token;
mod totp;

pub(super) use self::account::Account;
pub use self::account::AccountText;
pub(super) use self::accounts::Accounts;
pub use self::accounts::AccountsText;
pub(super) use self::attempts::{Attempt, Attempts};
pub(super) use self::links::Links;
pub(super) use self::password::{MIN_PASSWORD, PasswordHash};
pub(super) use self::sessions::{Session, Sessions};
pub(super) use self::token::parse_hex;
pub use self::token::{Token, TokenHash};
pub(super) use self::totp::TotpSecret;
