//! What is made of a file that is imported.

use zeroize::Zeroizing;

/// The text of a file, and what there is to say of it.
pub(super) struct Draft {
    pub(super) text: Zeroizing<Vec<u8>>,
    pub(super) notices: Vec<String>,
}
