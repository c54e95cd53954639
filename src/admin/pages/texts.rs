//! All texts of the page, in one place for translators.

pub(super) const LANGUAGE: &str = "en";
pub(super) const TITLE: &str = "wontun";
pub(super) const SKIP: &str = "Skip to the content";
pub(super) const PEERS: &str = "Peers";
pub(super) const ACCOUNT: &str = "Account";
pub(super) const SIGN_IN: &str = "Sign in";
pub(super) const SIGN_OUT: &str = "Sign out";
pub(super) const PASSWORD: &str = "Password";
pub(super) const CODE: &str = "Code of the authenticator app";
pub(super) const NO_PASSWORD: &str =
    "No password is set yet. Run this on the server, and open the link that it prints:";
pub(super) const FORGOTTEN: &str = "Forgotten? This prints a link on the server:";
pub(super) const LINK_COMMAND: &str = "wontun admin link";
pub(super) const LINK: &str = "Sign in by link";
pub(super) const LINK_TOKEN: &str = "Token of the link, what follows the #";
pub(super) const LINK_HELP: &str = "The link works once.";
pub(super) const CONTINUE: &str = "Continue";
pub(super) const SET_PASSWORD: &str = "Set a password";
pub(super) const SET_PASSWORD_HELP: &str = "At least 10 characters. A few random words are a good password.";
pub(super) const CURRENT_PASSWORD: &str = "Current password";
pub(super) const NEW_PASSWORD: &str = "New password";
pub(super) const SAVE: &str = "Save";
pub(super) const TWO_FACTOR: &str = "Authenticator app";
pub(super) const TWO_FACTOR_ON: &str = "On: signing in needs a code of the app, too.";
pub(super) const TWO_FACTOR_OFF: &str = "Off. With it, signing in needs a code of the app, too.";
pub(super) const TWO_FACTOR_SCAN: &str = "Scan this with the app, or type the key, then enter a code of it:";
pub(super) const TURN_ON: &str = "Turn on";
pub(super) const TURN_OFF: &str = "Turn off";
pub(super) const ADD: &str = "Add peer";
pub(super) const NAME: &str = "Name";
pub(super) const NAME_HELP: &str = "Of the device, such as phone";
pub(super) const ROUTES: &str = "Through the tunnel goes";
pub(super) const ROUTES_ALL: &str = "all traffic of the device";
pub(super) const ROUTES_VPN: &str = "traffic to the VPN only";
pub(super) const NO_PEERS: &str = "No peers yet.";
pub(super) const STATE: &str = "State";
pub(super) const HANDSHAKE: &str = "Handshake";
pub(super) const ENDPOINT: &str = "Endpoint";
pub(super) const ADDRESSES: &str = "Addresses";
pub(super) const RECEIVED: &str = "Received";
pub(super) const SENT: &str = "Sent";
pub(super) const NOW: &str = "Now";
pub(super) const TRAFFIC: &str = "Traffic, received and sent";
pub(super) const NOTE: &str = "Note";
pub(super) const EXPIRES: &str = "Expires";
pub(super) const EXPIRES_HELP: &str = "A date such as 2026-12-31, or a duration such as 30d; empty for never";
pub(super) const PUBLIC_KEY: &str = "Public key";
pub(super) const RENAME: &str = "Rename";
pub(super) const DISABLE: &str = "Disable";
pub(super) const ENABLE: &str = "Enable";
pub(super) const REMOVE: &str = "Remove";
pub(super) const REMOVE_HELP: &str = "The device loses access at once. Its keys cannot be restored.";
pub(super) const REMOVE_NOW: &str = "Remove now";
pub(super) const RENEW: &str = "New QR code";
pub(super) const RENEW_HELP: &str =
    "Makes new keys, with the same name, addresses and settings. The old ones stop working at once.";
pub(super) const RENEW_NOW: &str = "Renew keys";
pub(super) const ONCE: &str = "Scan the code with the WireGuard app, or save the file. It holds the device's private key, is not stored on the server, and is shown only now.";
pub(super) const QR_LABEL: &str = "QR code of the configuration";
pub(super) const FILE: &str = "Configuration file";
pub(super) const SAVE_FILE: &str = "Save file";
pub(super) const COPY: &str = "Copy";
pub(super) const DONE: &str = "Done";
pub(super) const BACK: &str = "All peers";
pub(super) const DROPPED: &str = "Dropped packets, by reason";
pub(super) const PROBLEMS: &str = "Problems of the host";
pub(super) const FAILED: &str = "That was not possible";
pub(super) const WRONG: &str = "The password or code is wrong.";
pub(super) const WRONG_LINK: &str = "This link is not valid, or was used already. Print another one:";
pub(super) const STALE: &str =
    "This form is out of date, or was sent by another page. Go back, reload, and try again.";
pub(super) const NOT_FOUND: &str = "There is no such page.";
pub(super) const NO_PEER: &str = "There is no such peer any more.";
pub(super) const ENDED: &str = "Your session has ended. Sign in again.";
pub(super) const UPDATED: &str = "Values update by themselves.";

/// Returns the name of a state.
pub(super) fn state(name: &str) -> &str {
    name
}

/// Returns how long to wait after too many attempts.
pub(super) fn wait(seconds: u64) -> String {
    format!("Too many attempts. Try again in {seconds} s.")
}
