//! The result of translating an imported file.

use zeroize::Zeroizing;

use crate::server::{ClientDns, ClientEndpoint};

/// The text of the new file, and the notices for the user.
pub(super) struct Translation {
    pub(super) text: Zeroizing<Vec<u8>>,
    pub(super) notices: Vec<String>,
    /// Address that clients connect to, and their name servers, if the input has them.
    pub(super) endpoint: Option<ClientEndpoint>,
    pub(super) dns: Option<ClientDns>,
}

impl Translation {
    /// Returns a text without notices, from an input with nothing but that.
    pub(super) const fn of(text: Zeroizing<Vec<u8>>) -> Self {
        Self { text, notices: Vec::new(), endpoint: None, dns: None }
    }
}
