//! Effects of requests: signing in, pages, changes. No input and output: the event loop of
//! `process.rs` passes requests and messages, and takes what is to be sent.

mod access;
mod account;
mod api;
mod api_state;
mod changes;
mod invitations;
mod owners;
mod pending;
mod renewals;
mod requests;
mod route;
mod state;
mod tokens;

pub(super) use self::state::App;

#[cfg(test)]
mod owner_tests;
#[cfg(test)]
mod tests;
