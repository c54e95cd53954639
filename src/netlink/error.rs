//! Errors of reading and changing the kernel's network configuration.

use std::io;

use nix::errno::Errno;

use super::request_error::RequestError;
use crate::config::Cidr;
use crate::exit::{self, ExitCode};

/// Error of finding, reading or changing a device.
///
/// Each message is one complete line, including the kernel's message.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Netlink is unavailable or failed.
    #[error(
        "cannot {action}: netlink failed: {source}: allow AF_NETLINK sockets (seccomp, RestrictAddressFamilies)"
    )]
    Socket {
        /// The attempted action, with the name of the device.
        action: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// The kernel refused the request for lack of a capability.
    #[error(
        "cannot {action}: not permitted: needs CAP_NET_ADMIN (start as root, setcap cap_net_admin=ep, or \
         --cap-add NET_ADMIN)"
    )]
    Privilege {
        /// The attempted action, with the name of the device.
        action: String,
    },
    /// The device does not exist in this network namespace.
    #[error(
        "cannot {action}: there is no such device in this network namespace: create it, or find out whether it \
         was deleted or moved"
    )]
    NoDevice {
        /// The attempted action, with the name of the device.
        action: String,
    },
    /// An nf_tables table belongs to another process.
    #[error(
        "cannot {action}: {OWNED}: a tunnel that was started with this name, and whose device was renamed \
         since; stop that tunnel, or choose another name"
    )]
    Owned {
        /// The attempted action, with the name of the table.
        action: String,
    },
    /// An address that no host can have. Detected before the request, since the kernel ignores some
    /// of these silently.
    #[error(
        "cannot give {device} the address {address}: expected a host's own, such as 10.8.0.1/24 or fd00::1/64"
    )]
    Unusable {
        /// The device's name.
        device: String,
        /// The invalid address.
        address: Cidr,
    },
    /// The kernel refused the request.
    #[error("cannot {action}: {}{}{}", errno.desc(), parenthesized(extack), advice(remedy))]
    Refused {
        /// The attempted action, with the name of the device.
        action: String,
        /// The kernel's error number.
        errno: Errno,
        /// The kernel's explanation, if it gave one.
        extack: Option<String>,
        /// The suggested remedy; empty if none is known.
        remedy: &'static str,
    },
    /// The answer is missing or unreadable.
    #[error("cannot {action}: the kernel's netlink answer is missing or unreadable: try again")]
    NoReply {
        /// The attempted action, with the name of the device.
        action: String,
    },
}

impl ExitCode for LinkError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Privilege { .. } => exit::NO_PERMISSION,
            Self::Unusable { .. } => exit::CONFIG,
            Self::NoDevice { .. } | Self::Owned { .. } | Self::Refused { .. } => exit::UNAVAILABLE,
            Self::Socket { .. } | Self::NoReply { .. } => exit::FAILURE,
        }
    }
}

fn parenthesized(extack: &Option<String>) -> String {
    extack.as_ref().map(|extack| format!(" ({extack})")).unwrap_or_default()
}

fn advice(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!(": {remedy}") }
}

impl LinkError {
    /// Converts a failure of `action`. `remedy` is added to a refusal that has no variant of its
    /// own.
    pub(super) fn new(action: String, failure: RequestError, remedy: &'static str) -> Self {
        match failure {
            RequestError::Socket(source) => Self::Socket { action, source },
            RequestError::Refused { errno: Errno::EPERM, .. } => Self::Privilege { action },
            RequestError::Refused { errno: Errno::ENODEV, .. } => Self::NoDevice { action },
            RequestError::Refused { errno: Errno::EBUSY, extack: Some(extack) } if extack == OWNED => {
                Self::Owned { action }
            }
            RequestError::Refused { errno, extack } => Self::Refused { action, errno, extack, remedy },
            RequestError::NoReply => Self::NoReply { action },
        }
    }
}

/// Explanation of a refusal to change a table of nf_tables (`EBUSY`).
pub(super) const OWNED: &str = "a running process owns it";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno, extack: Option<&str>, remedy: &'static str) -> String {
        let failure = RequestError::Refused { errno, extack: extack.map(str::to_owned) };
        LinkError::new("set the MTU of tun0 to 7".to_owned(), failure, remedy).to_string()
    }

    #[test]
    fn a_message_is_one_line_and_says_all() {
        assert_eq!(
            refused(Errno::EINVAL, Some("mtu less than device minimum"), "choose another"),
            "cannot set the MTU of tun0 to 7: Invalid argument (mtu less than device minimum): choose another"
        );
        assert_eq!(
            refused(Errno::EBUSY, None, ""),
            "cannot set the MTU of tun0 to 7: Device or resource busy"
        );
        assert!(refused(Errno::EBUSY, Some(OWNED), "").contains("stop that tunnel"));
        assert!(refused(Errno::EPERM, None, "").contains("CAP_NET_ADMIN"));
        assert!(refused(Errno::ENODEV, None, "").contains("no such device"));
    }
}
