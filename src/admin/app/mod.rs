//! Effects of requests: signing in, pages, changes. No input and output: the event loop of
//! `process.rs` passes requests and messages, and takes what is to be sent.

mod account;
mod api;
mod api_state;
mod changes;
mod invitations;
mod pending;
mod requests;
mod state;
mod tokens;

pub(super) use self::state::App;

#[cfg(test)]
mod tests;
