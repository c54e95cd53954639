//! The admin page: by plain requests, in a browser, and when its processes are killed or flooded.

mod api;
mod axe;
mod browser;
mod by_hand;
mod client;
mod invitations;
mod openapi;
mod owners;
mod page;
mod png;
mod tls;
mod web_driver;

pub(crate) use client::Admin;
