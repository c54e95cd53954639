//! Socket addresses with their scope, which serde omits.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use serde::{Deserialize, Serialize};

/// A socket address as sent in messages: IP address, port, and for a link-local one the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address(IpAddr, u16, u32);

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
        Self(address.ip(), address.port(), scope)
    }
}

impl From<Address> for SocketAddr {
    fn from(Address(ip, port, scope): Address) -> Self {
        match ip {
            IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
            IpAddr::V4(_) => Self::new(ip, port),
        }
    }
}

/// Serialization of an optional address, for `#[serde(with)]`.
pub(crate) mod optional {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Address;

    /// Serializes the address with its scope.
    ///
    /// # Errors
    /// An error of the serializer.
    pub(crate) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        address.map(Address::from).serialize(serializer)
    }

    /// Deserializes an address with its scope.
    ///
    /// # Errors
    /// An error of the deserializer.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        Ok(Option::<Address>::deserialize(deserializer)?.map(SocketAddr::from))
    }
}
