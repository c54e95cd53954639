//! Socket addresses with their scope, which serde leaves out.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use serde::{Deserialize, Serialize};

/// A socket address as it is sent: IP address, port, and for a link-local one the interface.
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

/// For `#[serde(with)]` of an address that may be missing.
pub mod optional {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Address;

    /// Writes the address with its scope.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        address.map(Address::from).serialize(serializer)
    }

    /// Reads an address with its scope.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        Ok(Option::<Address>::deserialize(deserializer)?.map(SocketAddr::from))
    }
}
