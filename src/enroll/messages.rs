//! Messages between the supervisor and the process `enroll`. The limits are checked on both sides:
//! a message beyond them is invalid.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::admin::messages::ClientText;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::wireguard::{PresharedKey, PublicKey};

/// A message to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToResponder {
    /// The first message. Its descriptors are the sockets.
    Start {
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// Answer to [`FromResponder::Settings`].
    Settings {
        /// Number of the request.
        number: u32,
        /// The device's file, without keys.
        result: Result<ClientText, ErrorMessage>,
    },
    /// Answer to [`FromResponder::Enrol`].
    Enrolled {
        /// Number of the request.
        number: u32,
        /// The reason if the keys were not replaced.
        result: Result<(), ErrorMessage>,
    },
}

/// A message from the process, which may have been taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromResponder {
    /// The process is confined, and answers.
    Ready,
    /// The process cannot confine itself, and ends.
    NotReady(ErrorMessage),
    /// Request for the file of the device that the invitation with this address is for.
    Settings {
        /// Number of the request.
        number: u32,
        /// Address of the invitation.
        from: IpAddr,
    },
    /// Request to replace the one-time keys of the invitation with this address.
    Enrol {
        /// Number of the request.
        number: u32,
        /// Address of the invitation.
        from: IpAddr,
        /// Public key of the device.
        key: PublicKey,
        /// Key that it shares with the server in addition.
        preshared_key: PresharedKey,
    },
}
