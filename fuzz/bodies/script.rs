//! A fuzz input that is read as a script: a sequence of small choices.

use arbitrary::Unstructured;

/// Returns the next byte; 0 once the script has ended.
pub(super) fn byte(script: &mut Unstructured) -> u8 {
    script.arbitrary().unwrap_or_default()
}

/// Returns the next `length` bytes, or what is left.
pub(super) fn take<'a>(script: &mut Unstructured<'a>, length: usize) -> &'a [u8] {
    script.bytes(length.min(script.len())).unwrap_or_default()
}
