//! The result of translating an imported file.

use zeroize::Zeroizing;

/// The text of the new file, and the notices for the user.
pub(super) struct Translation {
    pub(super) text: Zeroizing<Vec<u8>>,
    pub(super) notices: Vec<String>,
}
