//! Fields of headers: big-endian numbers at an offset.

/// The 16 bits at `offset`, if they are there.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 32 bits at `offset`, if they are there.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Writes `field` at `offset`; `None` and nothing written if it does not fit.
pub(super) fn set<const N: usize>(bytes: &mut [u8], offset: usize, field: [u8; N]) -> Option<()> {
    *bytes.get_mut(offset..)?.first_chunk_mut()? = field;
    Some(())
}
