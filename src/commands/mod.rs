//! The commands other than running a tunnel: keys, server setup, and the status of running tunnels.

mod admin;
mod admin_token;
mod apply;
mod check;
mod completions;
mod dispatch;
mod doctor;
mod down;
mod enroll;
mod error;
mod hold;
mod import;
mod init;
mod keys;
mod kill_switch;
mod locate;
mod manager;
mod old_endpoint;
mod output;
mod peer;
mod peer_table;
mod resolv_conf;
mod serve;
mod show;
mod status;
mod top;

pub(crate) use admin::{admin_link, admin_remove};
pub(crate) use admin_token::{add_token, list_tokens, remove_token};
pub(crate) use check::{CheckOptions, check};
pub(crate) use completions::completions;
pub use dispatch::dispatch;
pub(crate) use doctor::{DoctorOptions, doctor};
pub(crate) use down::down;
pub(crate) use enroll::enroll;
pub(crate) use error::CommandError;
pub(crate) use hold::hold;
pub(crate) use import::import;
pub(crate) use init::init;
pub(crate) use keys::{genkey, genpsk, pubkey};
pub(crate) use kill_switch::{kill_switch_off, kill_switch_on};
pub(crate) use peer::{
    add_peers, deliver_file, disable_peers, invite_peer, list_peers, remove_peers, rename_peer, renew_peer,
    reset_peer, set_peer, show_peer, test_peer,
};
pub(crate) use serve::{ServerTunnel, prepare};
pub(crate) use show::{ShowOptions, show};
pub(crate) use status::status;
pub(crate) use top::{TopOptions, top};
