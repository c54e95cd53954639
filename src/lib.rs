//! A VPN daemon that carries IP packets between a TUN device and UDP datagrams, with WireGuard or,
//! in plain mode, unencrypted.
//!
//! `docs/src/development/architecture.md` describes the processes, all modules, and each step below
//! with its function.
//!
//! # Processes
//! A tunnel is four processes of one binary. The supervisor has `CAP_NET_ADMIN` and changes the
//! host; the tunnel process reads untrusted bytes and has no capability; the nursery starts the
//! others; the resolver resolves names. No packet crosses a process boundary. Supervisor and tunnel
//! process exchange the typed messages of `messages`.
//!
//! # Modules
//! - [`cli`]: command line and environment variables
//! - [`run`]: the start of a tunnel: opens, drops privileges, confines, supervises
//! - [`config`]: validated values, wg-quick files
//! - `supervisor`: the supervisor process: event loop, configuration file, routes, firewall, kill
//!   switch, restoring the state of the host
//! - [`daemon`]: the tunnel process: event loop, workers, sockets, health; its submodules
//!   `wireguard` and `plain` implement the two modes
//! - `process`, `processes`: helper processes, the channel between them; their rights
//! - `messages`: messages between supervisor and tunnel process
//! - [`counters`]: packets carried, and dropped by reason
//! - `interrupted`: retries of system calls that a signal interrupted
//! - [`net`]: non-blocking descriptors: TUN, UDP, timer, signals
//! - [`netlink`]: rtnetlink (device, addresses, routes, rules, events) and nf_tables
//! - `control`: health socket, sd_notify(3)
//! - [`uapi`]: control socket of wg(8)
//! - [`metrics`]: Prometheus text format and its HTTP server
//! - [`commands`]: subcommands, all that does not run a tunnel
//! - `server`: the server's file and its clients, edited in place
//! - [`background`]: `wontun interface` as a background process
//! - [`exit`]: exit codes; failures that end the program
//! - [`resolver`]: the resolver process, stub resolver
//! - [`dns`]: the process that applies `DNS =` to the host
//! - [`admin`]: the admin page, and the process that edits the server's file for it
//! - [`enroll`]: one-time enrolment of devices, and the process that answers them
//! - `privileges`: capabilities, `--user`
//! - `sandbox`: seccomp and Landlock
//! - `logging`: log queue, writer thread, journald and stderr
//!
//! The other crates of the workspace:
//! - [`wontun_proto`]: sans-IO protocol engines, WireGuard and plain, and the allowed IPs: longest
//!   prefix match to a peer
//! - [`wontun_packet`]: pure functions over packets: headers, checksums, segmentation, coalescing,
//!   MSS, ICMP errors
//! - [`wontun_sys`]: the only unsafe code
//!
//! # A packet from the host to a peer
//! 1. The kernel routes the packet into the TUN device, and epoll wakes a worker of [`daemon`].
//! 2. [`net::tun`] reads a packet or a super-packet (TSO, USO); [`wontun_packet`] validates and
//!    splits it.
//! 3. [`wontun_proto::allowed_ips`] looks up the peer of the destination. With that peer locked,
//!    the engine of [`wontun_proto`] reserves nonces of the current session. Without a session the
//!    packet is staged, with the tunnel's lock, and a handshake begins.
//! 4. Without any lock, each segment is padded and encrypted in place in the send batch. Plain mode
//!    skips the encryption.
//! 5. [`net::udp`] sends the batch with sendmmsg(2) and UDP_SEGMENT.
//!
//! # A packet from a peer to the host
//! 1. epoll reports a UDP socket, and [`net::udp`] reads it with recvmmsg(2) and UDP_GRO.
//! 2. With the peer locked, the receiver index gives the session; age and replay window are
//!    checked.
//! 3. Without any lock, the messages are decrypted in place.
//! 4. With the peer locked, the counter is recorded, the inner source is checked against the
//!    allowed IPs, and the peer's endpoint is updated.
//! 5. [`wontun_packet`] joins the packets of one flow, and [`net::tun`] writes each super-packet
//!    with one writev(2).
//!
//! A packet that is dropped is counted by its reason in [`counters`].
#![forbid(unsafe_code)]

pub mod admin;
pub mod background;
pub mod cli;
pub mod commands;
pub mod config;
mod control;
pub mod counters;
pub mod daemon;
pub mod dns;
mod documents;
pub mod enroll;
pub mod exit;
mod interrupted;
mod json;
mod logging;
pub mod messages;
pub mod metrics;
pub mod names;
pub mod net;
pub mod netlink;
mod privileges;
pub mod process;
#[cfg(test)]
mod processes;
mod repair_limit;
pub mod resolver;
pub mod run;
mod sandbox;
pub mod server;
pub mod state_file;
mod supervisor;
mod tls_output;
pub mod traffic;
pub mod uapi;
