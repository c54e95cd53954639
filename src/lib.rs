//! A VPN tunnel: IP packets between a TUN device and UDP datagrams, in one edge-triggered epoll loop.
//!
//! # The life of a packet
//! A program on this host sends to an address behind the tunnel. The kernel routes the packet to `tun0` and
//! epoll wakes [`device`], which reads it ([`io::tun`]), finds the peer that it is for ([`routing`]) and shows it to the
//! protocol engine ([`tunnel`]). The engine looks at bytes and the time and nothing else; it says where the packet goes or
//! why it is dropped ([`counters`]). The packet leaves as a datagram by a UDP socket ([`io::udp`]). A datagram that
//! comes in takes the same way back: socket, engine, the check that the peer may use that source address, tun.
//!
//! # Around it
//! [`cli`] reads the command line, [`config`] makes checked values of it, [`link`] sets the device up over netlink,
//! [`privileges`] and [`sandbox`] give up what is no longer needed, [`resolver`] answers names in a process of its own,
//! [`logging`] writes lines without holding up the loop, [`control`] answers `wontun health` and wg(8), [`metrics`] those
//! who watch many tunnels, [`commands`] are what is not running a tunnel, [`background`] leaves the terminal. All unsafe code is in [`sys`].
//!
//! Arrows point one way: [`tunnel`], [`routing`] and [`packet`] import none of [`io`], [`link`] and
//! [`device`], and of [`sys`] only what overwrites memory and the cipher's library.
#![deny(unsafe_code)]

pub mod background;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod counters;
pub mod device;
pub mod io;
pub mod link;
pub mod logging;
pub mod messages;
pub mod metrics;
pub mod packet;
pub mod privileges;
pub mod process;
pub mod processes;
pub mod resolver;
pub mod routing;
pub mod sandbox;
pub mod setup;
mod stack;
pub mod supervisor;
pub mod sys;
pub mod time;
pub mod tunnel;
