//! The TCP header (RFC 9293 section 3.1), as far as splitting and merging segments need it.

use super::field::u32_at;

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER: usize = 60;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push: deliver the data received so far to the application.
pub const PSH: u8 = 0x08;
/// The acknowledgment number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// ECN echo: congestion was experienced (RFC 3168).
pub const ECE: u8 = 0x40;
/// The congestion window was reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// Offset of the sequence number, in bytes from the start of the header.
pub const SEQUENCE: usize = 4;
/// Offset of the flags.
pub const FLAGS: usize = 13;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// A complete header, including options.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8]);

impl<'a> Header<'a> {
    /// Parses the header at the front of `segment`; `None` if it is shorter than its data offset
    /// says.
    pub fn parse(segment: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; HEADER] = segment.first_chunk()?;
        let len = usize::from(fixed[12] >> 4) * 4;
        (len >= HEADER).then_some(())?;
        Some(Self(segment.get(..len)?))
    }

    /// Returns the length in bytes, including options.
    #[expect(clippy::len_without_is_empty, reason = "no header is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the sequence number of the first byte of the payload, or of the SYN.
    pub fn sequence(&self) -> u32 {
        u32_at(self.0, SEQUENCE).unwrap_or_default()
    }

    /// Returns the eight flags.
    pub fn flags(&self) -> u8 {
        self.0.get(FLAGS).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_where_the_rfc_draws_them() {
        let mut segment = [0; 30];
        segment[4..8].copy_from_slice(&[1, 2, 3, 4]);
        segment[12] = 0x6f;
        segment[13] = ACK | PSH;
        let header = Header::parse(&segment).unwrap();
        assert_eq!((header.len(), header.sequence(), header.flags()), (24, 0x0102_0304, 0x18));
    }

    proptest! {
        #[test]
        fn a_header_is_whole_or_none(mut segment in prop::collection::vec(any::<u8>(), 13..80), offset in 0_u8..16) {
            segment[12] = offset << 4;
            let len = usize::from(offset) * 4;
            let whole = offset >= 5 && len <= segment.len();
            prop_assert_eq!(Header::parse(&segment).map(|header| header.len()), whole.then_some(len));
        }
    }
}
