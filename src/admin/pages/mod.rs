//! The pages: HTML that `maud` escapes. No inline script or style, no file of another server.

mod account;
mod form;
mod invitation;
mod layout;
mod list;
mod new_peer;
mod owners;
mod peer;
mod problem;
mod server;
mod tokens;
mod traffic;

pub(super) use self::account::{account, link, password, sign_in};
pub(super) use self::form::Form;
pub(super) use self::invitation::{enrolled, invitation, invited};
pub(super) use self::layout::problem;
pub(super) use self::list::list;
pub(super) use self::new_peer::{added, new};
pub(super) use self::owners::{owner_link, owners};
pub(super) use self::peer::{PeerResult, peer};
pub(super) use self::problem::Problem;
pub(super) use self::server::{ServerResult, server};
pub(super) use self::tokens::{token_added, tokens};

/// The style sheet.
pub(super) const STYLE: &str = include_str!("../assets/style.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("../assets/script.js");
/// The script of invitations, which other pages do not load.
pub(super) const INVITE_SCRIPT: &str = include_str!("../assets/invite.js");
/// The icon.
pub(super) const ICON: &str = include_str!("../assets/icon.svg");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small() {
        let all = STYLE.len() + SCRIPT.len() + INVITE_SCRIPT.len() + ICON.len();
        assert!(all < 40_000, "{all} bytes without the HTML");
    }

    #[test]
    fn files_load_nothing_from_elsewhere() {
        for text in [STYLE, SCRIPT, INVITE_SCRIPT] {
            assert!(!text.contains("//") || !text.contains("http"), "{text}");
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "{text}");
        }
    }
}
