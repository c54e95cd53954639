//! One-time enrolment of a device: `wontun peer invite` and `wontun enroll`.
//!
//! An invitation is a peer of the server's file with a one-time key. Its code has the private part
//! of that key. The device connects with it by a WireGuard session in user space, asks the process
//! `enroll` on the server's address in the tunnel for its settings, and has its own public key put
//! in the place of the one-time key. `docs/src/development/enrolment.md` describes the design.
//!
//! | File | Content |
//! |---|---|
//! | `code.rs` | the code: what a device must know |
//! | `datagram.rs` | requests of a device, and answers |
//! | `packet.rs` | UDP datagrams in IP packets, for a device without a TUN device |
//! | `session.rs` | a WireGuard session in user space |
//! | `client.rs` | the steps of a device |
//! | `responder.rs` | the event loop of the process that answers |
//! | `process.rs` | that process: start and confinement |
//! | `messages.rs` | messages between the supervisor and the process |

pub(crate) mod client;
pub mod code;
pub mod datagram;
pub mod messages;
mod packet;
mod process;
mod responder;
mod session;

pub use process::main;

/// Role of the helper.
pub(crate) const ROLE: &str = "enroll";
