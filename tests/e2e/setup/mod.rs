//! From an empty directory to connected clients: `wontun init`, `serve` and `peer`.

mod access;
mod adding;
mod client_files;
mod client_names;
mod events;
mod files;
mod greeting;
mod invitations;
mod ipv6;
mod killed;
mod locate;
mod names_over_tls;
mod places;
mod running;
mod seen;
pub(crate) mod server;
mod settings;
pub(crate) mod story;
mod tls_name_server;
