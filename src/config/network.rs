//! A network as people write it, such as `192.168.5.0/24`.

use std::fmt;
use std::str::FromStr;

use super::{Cidr, CidrError};
use wontun_proto::allowed_ips::Prefix;

/// A network without host bits. An address without a prefix length is that host alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Prefix);

/// Error of parsing a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address with a prefix length.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// An address with host bits instead of a network.
    #[error("{given} has host bits: write {network}")]
    HostBits {
        /// The address as given.
        given: Cidr,
        /// The network that contains it.
        network: Prefix,
    },
}

impl NetworkError {
    /// Returns a description of a valid network, which does not repeat the invalid one unless it
    /// has a meaning.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Cidr(_) => "a network, such as 192.168.5.0/24 or fd00::/64".to_owned(),
            Self::HostBits { network, .. } => format!("a network without host bits, such as {network}"),
        }
    }
}

impl Network {
    /// Returns the network.
    pub const fn prefix(self) -> Prefix {
        self.0
    }
}

impl From<Prefix> for Network {
    fn from(prefix: Prefix) -> Self {
        Self(prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let given: Cidr = text.parse()?;
        let network = Prefix::of(given.address(), given.prefix());
        if network.network() == given.address() {
            Ok(Self(network))
        } else {
            Err(NetworkError::HostBits { given, network })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_no_host_bits() {
        for (text, written) in
            [("192.168.5.0/24", "192.168.5.0/24"), ("192.0.2.7", "192.0.2.7/32"), ("::/0", "::/0")]
        {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
        }
        let error = "192.168.5.1/24".parse::<Network>().unwrap_err().to_string();
        assert_eq!(error, "192.168.5.1/24 has host bits: write 192.168.5.0/24");
        assert!("192.168.5".parse::<Network>().unwrap_err().to_string().contains("'192.168.5'"));
    }
}
