//! An address with its prefix length, such as `10.8.0.1/24` or `fd00::1/64`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An interface address and the prefix length of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Error of parsing a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is not an IP address.
    #[error(
        "'{0}' is not an IP address; expected one with a prefix length, such as 10.8.0.1/24 or fd00::1/64"
    )]
    Address(String),
    /// The part after the slash is not a number, or exceeds the length of the address in bits.
    #[error("'{prefix}' is not a prefix length for {address}; expected a number from 0 to {max}")]
    Prefix {
        /// The text after the slash.
        prefix: String,
        /// The address before it.
        address: IpAddr,
        /// Length of an address of this family in bits.
        max: u8,
    },
}

impl Cidr {
    /// Returns `address` with a prefix of `prefix` bits, or `None` if the address has fewer bits.
    pub const fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        if prefix <= bits(address) { Some(Self { address, prefix }) } else { None }
    }

    /// Returns the host's address, host bits included.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Returns the prefix length in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Parses `ADDRESS/LENGTH`. An address without a length is a host: /32 or /128.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address(address.to_owned()))?;
        let max = bits(address);
        let Some(prefix) = prefix else { return Ok(Self { address, prefix: max }) };
        // `u8::from_str` accepts a leading '+'
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        match prefix.parse().ok().filter(|_| digits).and_then(|bits| Self::new(address, bits)) {
            Some(cidr) => Ok(cidr),
            None => Err(CidrError::Prefix { prefix: prefix.to_owned(), address, max }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "''"),
            ("10.8.0/24", "'10.8.0'"),
            ("10.8.0.1/33", "0 to 32"),
            ("fd00::1/129", "0 to 128"),
            ("10.8.0.1/+24", "'+24'"),
            ("10.8.0.1/", "''"),
        ] {
            let said = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn a_lone_address_is_a_host() {
        assert_eq!("10.8.0.1".parse::<Cidr>().unwrap().to_string(), "10.8.0.1/32");
        assert_eq!("fd00::1".parse::<Cidr>().unwrap().to_string(), "fd00::1/128");
    }

    proptest! {
        #[test]
        fn printed_and_read_again(address: IpAddr, prefix in 0u8..=128) {
            if let Some(cidr) = Cidr::new(address, prefix) {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = text.parse::<Cidr>();
        }
    }
}
