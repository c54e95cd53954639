//! The Internet checksum (RFC 1071), its pseudo headers and its incremental update (RFC 1624).

/// A ones' complement sum of 16-bit words, before the final inversion.
///
/// The sum is kept in native byte order: it does not depend on the byte order as long as all words
/// agree (RFC 1071 section 2 B), so bytes are added as they lie in memory and only the result is
/// converted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`, which must begin at an even offset of the summed data: of several slices only
    /// the last may have an odd length.
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks();
        self.add_words(words.iter().copied().map(u64::from_ne_bytes), rest)
    }

    /// Adds `bytes` as [`Self::add_bytes`] does and copies them to `to`, in one pass. Returns
    /// `None` if the lengths differ.
    #[must_use]
    pub fn copy_bytes(self, bytes: &[u8], to: &mut [u8]) -> Option<Self> {
        if bytes.len() != to.len() {
            return None;
        }
        // the remaining bytes, together with those before them
        match (bytes.last_chunk::<8>(), to.last_chunk_mut()) {
            (Some(last), Some(to)) => *to = *last,
            _ => to.copy_from_slice(bytes),
        }
        let (words, rest) = bytes.as_chunks();
        let (to, _) = to.as_chunks_mut();
        // If the compiler knew that this is 0, it would split the loop into a call of the C
        // library's memcpy and a second loop that adds. musl's memcpy takes several times as long
        // as the addition.
        let nothing = std::hint::black_box(0);
        let copied = words.iter().zip(to).map(|(word, to)| {
            let word = u64::from_ne_bytes(*word) | nothing;
            *to = word.to_ne_bytes();
            word
        });
        Some(self.add_words(copied, rest))
    }

    fn add_words(self, words: impl Iterator<Item = u64>, rest: &[u8]) -> Self {
        // `upper` sums the upper half of each word, `whole` the words modulo 2⁶⁴; the sum of the
        // lower halves is the difference. Neither half can overflow (that would take 2³² words), so
        // there are no carries, and the compiler can vectorize the loop.
        let (mut whole, mut upper) = (0_u64, 0_u64);
        for word in words {
            whole = whole.wrapping_add(word);
            upper += word >> 32;
        }
        let lower = whole.wrapping_sub(upper << 32);
        Self(self.0 + fold_once(lower) + fold_once(upper) + last_bytes(rest))
    }

    /// Adds one word, given in host byte order.
    #[must_use]
    pub fn add_u16(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// Subtracts one word that was added before.
    #[must_use]
    pub fn subtract_u16(self, word: u16) -> Self {
        self.add_u16(!word)
    }

    /// Returns the sum folded to 16 bits, in host byte order. The folded sum of a pseudo header is
    /// what the kernel expects in the checksum field of a packet whose checksum is still to be
    /// completed (`CHECKSUM_PARTIAL`).
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [.., high, low] = sum.to_be_bytes();
        u16::from_be(u16::from_be_bytes([high, low]))
    }

    /// Returns the checksum: the inverted sum. Over bytes that include their own correct checksum
    /// it is 0.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Returns the checksum in UDP's encoding: 0 means "no checksum" there, so 0xffff is used in
    /// its place (RFC 768). TCP accepts both.
    pub fn checksum_not_zero(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

/// Returns the sum of fewer than 8 bytes.
fn last_bytes(mut bytes: &[u8]) -> u64 {
    let mut sum = 0;
    if let Some((words, rest)) = bytes.split_first_chunk::<4>() {
        sum += u64::from(u32::from_ne_bytes(*words));
        bytes = rest;
    }
    if let Some((word, rest)) = bytes.split_first_chunk::<2>() {
        sum += u64::from(u16::from_ne_bytes(*word));
        bytes = rest;
    }
    sum + bytes.first().map_or(0, |last| u64::from(u16::from_ne_bytes([*last, 0])))
}

/// Adds the upper and the lower half: the same sum of words, in 33 bits.
fn fold_once(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// Returns the checksum of `bytes` alone, such as an IPv4 header; 0 if they include their own
/// correct checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().add_bytes(bytes).checksum()
}

/// Returns the sum over the pseudo header of TCP and UDP (RFC 9293 section 3.1, RFC 8200 section
/// 8.1). `addresses` holds source and destination as in the IP header, 8 or 32 bytes; `length` is
/// that of the transport header and payload.
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u16) -> Sum {
    Sum::default().add_bytes(addresses).add_u16(protocol.into()).add_u16(length)
}

/// Returns `checksum` updated for a change of one of the words that it covers (RFC 1624, equation
/// 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().add_u16(!checksum).subtract_u16(old).add_u16(new).checksum()
}

#[cfg(test)]
mod tests {
    use super::super::sample::slow_sum;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::default().add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn nothing_and_all_ones_do_not_overflow() {
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(Sum::default().add_bytes(&[0xff; 65_535]).folded(), slow_sum(&[0xff; 65_535]));
        assert_eq!(Sum::default().checksum_not_zero(), 0xffff);
        assert_eq!(Sum::default().add_u16(0xffff).checksum_not_zero(), 0xffff);
    }

    /// Maps both zeros of ones' complement to one, so that sums can be compared.
    fn value(sum: u16) -> u16 {
        if sum == 0xffff { 0 } else { sum }
    }

    proptest! {
        #[test]
        fn it_is_the_slow_sum(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0_usize..9) {
            // at any alignment
            let bytes = bytes.get(start..).unwrap_or_default();
            prop_assert_eq!(Sum::default().add_bytes(bytes).folded(), slow_sum(bytes));
            prop_assert_eq!(checksum(bytes), !slow_sum(bytes));
        }

        #[test]
        fn a_copy_is_what_was_summed(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0_usize..9) {
            let bytes = bytes.get(start..).unwrap_or_default();
            let mut room = vec![0xaa; bytes.len() + 18];
            let to = &mut room[9..][..bytes.len()];
            let sum = Sum::default().copy_bytes(bytes, to).map(Sum::folded);
            prop_assert_eq!(sum, Some(slow_sum(bytes)));
            prop_assert_eq!(&room, &[&[0xaa; 9], bytes, &[0xaa; 9]].concat());
            prop_assert!(Sum::default().copy_bytes(bytes, &mut room).is_none());
        }

        #[test]
        fn parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..150, word: u16) {
            let (front, back) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            let sum = Sum::default().add_bytes(front).add_bytes(back).add_u16(word);
            let whole = [&word.to_be_bytes()[..], &bytes].concat();
            prop_assert_eq!(sum.folded(), slow_sum(&whole));
            prop_assert_eq!(value(sum.subtract_u16(word).folded()), value(slow_sum(&bytes)));
        }

        #[test]
        fn what_holds_its_checksum_sums_up_to_zero(mut bytes in prop::collection::vec(any::<u8>(), 2..300)) {
            bytes[..2].fill(0);
            let sum = checksum(&bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(checksum(&bytes), 0);
        }

        #[test]
        fn an_update_is_a_new_sum(mut bytes in prop::collection::vec(any::<u8>(), 2..100), place: usize, new: u16) {
            let place = place % (bytes.len() / 2) * 2;
            let (before, old) = (checksum(&bytes), u16::from_be_bytes([bytes[place], bytes[place + 1]]));
            bytes[place..place + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(value(!update(before, old, new)), value(slow_sum(&bytes)));
        }

        #[test]
        fn a_pseudo_header_is_what_the_rfcs_draw(source: [u8; 16], destination: [u8; 16], protocol: u8, length: u16) {
            let [high, low] = length.to_be_bytes();
            let drawn = [&source[..4], &destination[..4], &[0, protocol, high, low]].concat();
            prop_assert_eq!(pseudo_header(&drawn[..8], protocol, length).folded(), slow_sum(&drawn));
            let drawn = [&source[..], &destination, &[0, 0, high, low, 0, 0, 0, protocol]].concat();
            prop_assert_eq!(pseudo_header(&drawn[..32], protocol, length).folded(), slow_sum(&drawn));
        }
    }
}
