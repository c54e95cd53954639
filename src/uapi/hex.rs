//! Hexadecimal encoding of keys, 64 digits each.
//!
//! Computed without lookup tables, so that the digits of a secret do not show in the memory
//! addresses that were accessed.

use zeroize::Zeroizing;

use wontun_proto::wireguard::KEY_LEN;

/// Number of characters of an encoded key.
pub(super) const HEX_LEN: usize = 2 * KEY_LEN;

/// Decodes `text`. Returns `None` if it is not a key of 64 hexadecimal digits.
pub(crate) fn decode(text: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    if text.len() != HEX_LEN {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    let mut wrong = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        for &digit in pair {
            let value = value(digit);
            wrong |= value >> 8;
            *byte = *byte << 4 | value.to_le_bytes()[0] & 15;
        }
    }
    (wrong == 0).then_some(bytes)
}

/// Encodes bytes in lower-case digits.
pub(super) fn encode(bytes: &[u8; KEY_LEN]) -> Zeroizing<[u8; HEX_LEN]> {
    let mut text = Zeroizing::new([0; HEX_LEN]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            // from 10 on the digits are letters, which begin 39 code points after the end of the
            // numbers
            let letters = (9_u8.wrapping_sub(value) >> 7) * (b'a' - b'0' - 10);
            *digit = b'0' + value + letters;
        }
    }
    text
}

/// Returns the value of a digit, or a number above 255 if it is none.
fn value(digit: u8) -> u16 {
    let digit = u16::from(digit);
    let within = |c: u16, first: u8, last: u8| {
        let (first, last) = (u16::from(first), u16::from(last));
        // 1 if neither subtraction borrows, else 0
        (c.wrapping_sub(first) | last.wrapping_sub(c)) >> 15 ^ 1
    };
    let lower = digit | 32;
    let is_number = 0_u16.wrapping_sub(within(digit, b'0', b'9'));
    let is_letter = 0_u16.wrapping_sub(within(lower, b'a', b'f'));
    let number = digit.wrapping_sub(u16::from(b'0')) & is_number;
    let letter = lower.wrapping_sub(u16::from(b'a') - 10) & is_letter;
    number | letter | !(is_number | is_letter) & 0x100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_every_character() {
        for byte in 0..=u8::MAX {
            let bytes = [byte; KEY_LEN];
            let text = encode(&bytes);
            assert_eq!(std::str::from_utf8(&text[..2]).unwrap(), format!("{byte:02x}"));
            assert_eq!(*decode(&*text).unwrap(), bytes);
            assert_eq!(*decode(&text.to_ascii_uppercase()).unwrap(), bytes);

            let mut one = [b'0'; HEX_LEN];
            one[HEX_LEN - 1] = byte;
            let expected = char::from(byte).to_digit(16);
            assert_eq!(decode(&one).map(|bytes| u32::from(bytes[KEY_LEN - 1])), expected, "{byte}");
        }
        assert!(decode(&[b'0'; HEX_LEN - 1]).is_none());
        assert!(decode(&[b'0'; HEX_LEN + 1]).is_none());
    }
}
