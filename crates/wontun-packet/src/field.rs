//! Header fields: big-endian integers at an offset.

/// Returns the 16 bits at `offset`; `None` if `bytes` is too short.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Returns the 32 bits at `offset`; `None` if `bytes` is too short.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Writes `field` at `offset`; returns `None` and writes nothing if it does not fit.
pub(super) fn set<const N: usize>(bytes: &mut [u8], offset: usize, field: [u8; N]) -> Option<()> {
    *bytes.get_mut(offset..)?.first_chunk_mut()? = field;
    Some(())
}
