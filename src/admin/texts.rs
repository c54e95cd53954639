//! All texts of the page, in one place for translators. Names of settings, drop reasons and errors
//! of values are those of the file and of the commands, in English.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;

use super::messages::{Field, ServerSetting};
use crate::config::ApiScope;
use crate::config::peer_settings::PeerComment;
use crate::uapi::PeerState;

pub(super) const LANGUAGE: &str = "en";
pub(super) const TITLE: &str = "wontun";
pub(super) const SKIP: &str = "Skip to the content";
pub(super) const PEERS: &str = "Peers";
pub(super) const SERVER: &str = "Server";
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
pub(super) const INVITE: &str = "Invite instead";
pub(super) const INVITE_HELP: &str = "The person opens a link, and the device's key is made in their browser. The link \
    has the address by which you opened this page.";
pub(super) const INVITE_NEEDS_HTTPS: &str = "Invitations are made and opened by HTTPS only: start the server with \
    --admin=ADDRESS:PORT or --admin-proxy, and open this page by its name there.";
pub(super) const INVITE_NOW: &str = "Make a link";
pub(super) const VALIDITY: &str = "1h";
pub(super) const INVITED: &str = "Send this link to the person by a channel that you trust. It sets up one device, is not \
    stored on the server, and is shown only now. Removing the peer takes it back.";
pub(super) const INVITATION_LINK: &str = "Link of the invitation";
pub(super) const LINK_QR_LABEL: &str = "QR code of the link";
pub(super) const SET_UP: &str = "Set up a device";
pub(super) const SET_UP_HELP: &str = "The key of the device is made here, and never leaves this browser. The link works \
    once: go on only on the device that you want to connect.";
pub(super) const SET_UP_NOW: &str = "Make the configuration";
pub(super) const ENROLLED: &str = "Save the file for the WireGuard app or wontun on this device, or scan the code with the \
    app on a phone. It holds the device's private key, which is nowhere else: when this page is closed, it is gone.";
pub(super) const NEEDS_SCRIPT: &str = "The key is made by a script of this page: allow it in the browser.";
pub(super) const NEEDS_HTTPS: &str = "Invitations are opened by HTTPS only: use the link as you got it.";
pub(super) const NO_TOKEN: &str = "Open the link as you got it, with all that follows the #. It does not stay in the \
    address: after a reload, open it again.";
pub(super) const NO_X25519: &str = "This browser cannot make the key (X25519). Open the link with a newer one: Chrome or \
    Edge 133, Firefox 130, Safari 17, or later.";
pub(super) const NOT_INVITED: &str = "This link is not valid: it was used, was taken back, or has expired. Ask for another \
    one. If you did not use it yourself, tell the person who sent it.";
pub(super) const TOO_MANY_LINKS: &str = "Too many attempts. Try again in a minute.";
pub(super) const NOT_ENROLLED: &str =
    "The server did not answer as expected. Leave this page open, and try again.";
pub(super) const ROUTES: &str = "Through the tunnel goes";
pub(super) const ROUTES_ALL: &str = "all traffic of the device";
pub(super) const ROUTES_VPN: &str = "traffic to the VPN only";
pub(super) const SIGN_IN_NAME: &str = "Empty for the administrator.";
pub(super) const CODE_IF: &str = "If you use an app.";
pub(super) const OWNERS: &str = "Owners";
pub(super) const OWNERS_HELP: &str = "A person who signs in here sees their own devices only, and may make new QR codes of \
    these. Whose a device is is set on its page.";
pub(super) const NO_OWNERS: &str = "No device has an owner yet.";
pub(super) const IS_SET: &str = "set";
pub(super) const IS_NOT_SET: &str = "not set";
pub(super) const MAKE_LINK: &str = "Make a link";
pub(super) const REMOVE_ACCOUNT: &str = "Remove the account";
pub(super) const REMOVE_ACCOUNT_HELP: &str =
    "The person is signed out at once. The devices stay as they are, and keep their access.";
pub(super) const LINK_OF: &str = "Link for";
pub(super) const LINK_OF_HELP: &str = "Send one of these, the one with the address that the person's browser reaches. \
    It works once, within 15 minutes, and is shown only now. Whoever opens it first sets the password.";
pub(super) const ASK_ADMIN: &str = "ask the administrator of the server";
pub(super) const NO_PEERS: &str = "No peers yet.";
pub(super) const STATE: &str = "State";
pub(super) const HANDSHAKE: &str = "Handshake";
pub(super) const ENDPOINT: &str = "Endpoint";
pub(super) const ADDRESSES: &str = "Addresses";
pub(super) const RECEIVED: &str = "Received";
pub(super) const SENT: &str = "Sent";
pub(super) const NOW: &str = "Now";
pub(super) const TRAFFIC: &str = "Traffic, received and sent";
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
pub(super) const FAILED: &str = "That was not possible";
pub(super) const WRONG: &str = "The password or code is wrong.";
pub(super) const WRONG_LINK: &str = "This link is not valid, or was used already. Print another one:";
pub(super) const STALE: &str =
    "This form is out of date, or was sent by another page. Go back, reload, and try again.";
pub(super) const NOT_FOUND: &str = "There is no such page.";
pub(super) const NO_PEER: &str = "There is no such peer any more.";
pub(super) const ENDED: &str = "Your session has ended. Sign in again.";
pub(super) const UPDATED: &str = "Values update by themselves.";

pub(super) const FIELDS: &str = "Some values are not possible: see the marked fields.";
pub(super) const NEVER: &str = "–";
pub(super) const FIND: &str = "Find";
pub(super) const FIND_HELP: &str = "Name, note, address or key";
pub(super) const NONE_FOUND: &str = "No peer matches.";
pub(super) const PAGES: &str = "Pages";
pub(super) const PREVIOUS: &str = "Previous";
pub(super) const NEXT: &str = "Next";
pub(super) const ACCESS: &str = "Note and access";
pub(super) const RULES: &str = "Rules";
pub(super) const RULES_HELP: &str = "Separated by commas. Empty for what the policy of the server allows.";
pub(super) const LIMITS: &str = "Limits";
pub(super) const LIMITS_HELP: &str = "Empty for no limit.";
pub(super) const CLIENT: &str = "File of the device";
pub(super) const CLIENT_HELP: &str = "Takes effect with a new QR code. Empty for the usual values.";
pub(super) const ADDRESSES_HELP: &str =
    "After another address, the device needs a new QR code. Without an address, it keeps its own.";
pub(super) const NEW_ADDRESSES_HELP: &str = "Without an address, it gets the next free ones.";
pub(super) const LONG: &str = "Too long to be changed here: use 'wontun peer set'.";
pub(super) const TEST: &str = "Test a connection";
pub(super) const TEST_HELP: &str = "Evaluates the rules; sends nothing.";
pub(super) const TEST_NOW: &str = "Test";
pub(super) const TEST_TO: &str = "from the device to it";
pub(super) const TEST_FROM: &str = "from it to the device";
pub(super) const DIRECTION: &str = "Direction";
pub(super) const ALLOWED: &str = "Allowed";
pub(super) const DENIED: &str = "Denied";
pub(super) const TRAFFIC_BY_TIME: &str = "Traffic by day and month";
pub(super) const PERIOD: &str = "Period (UTC)";
pub(super) const PERIODS: [&str; 5] = ["Today", "Yesterday", "This month", "Last month", "In all"];
pub(super) const NO_TRAFFIC_KEPT: &str = "Without a state file (--state), it is not kept.";
pub(super) const HEALTH: &str = "Health";
pub(super) const HEALTHY: &str = "No problems.";
pub(super) const SILENT: &str = "The tunnel does not answer.";
pub(super) const DOWN: &str = "The device of the tunnel is down.";
pub(super) const VERSION: &str = "Version";
pub(super) const PORT: &str = "UDP port";
pub(super) const REPAIRS: &str = "Repairs of the host";
pub(super) const DROPPED: &str = "Dropped packets, by reason";
pub(super) const NOTHING_DROPPED: &str = "None.";
pub(super) const SETTINGS: &str = "Settings for all devices";
pub(super) const SETTINGS_HELP: &str = "An empty field stays as it is. Options that 'wontun serve' is started with \
    replace these values at its next start.";
pub(super) const CHANGES: &str = "Changes";
pub(super) const CHANGES_HELP: &str = "Made by this page; those of commands are in the system's log. The last 500 are \
    kept, in a file beside the configuration; the last 100 are shown.";
pub(super) const NO_CHANGES: &str = "None yet.";
pub(super) const TOKEN: &str = "token";
pub(super) const TOKENS: &str = "API tokens";
pub(super) const SHOW_TOKENS: &str = "Tokens by which programs read and change peers";
pub(super) const TOKENS_HELP: &str = "By a token, a program reads and changes what this page does, under /api/v1/. \
    A new password does not end them.";
pub(super) const ADD_TOKEN: &str = "Make a token";
pub(super) const TOKEN_NAME_HELP: &str =
    "Letters, digits, '.', '_' and '-', such as grafana. The changes show it.";
pub(super) const TOKEN_ONCE: &str =
    "Give this to the program. It is shown only now: the server keeps its hash.";
pub(super) const SECRET: &str = "Secret";
pub(super) const SCOPES: &str = "Scope";
pub(super) const ENDS: &str = "Ends";
pub(super) const ENDS_HELP: &str = "A date such as 2026-12-31 or a duration such as 90d. Empty for no end.";
pub(super) const LAST_USE: &str = "Last use (UTC)";
pub(super) const WHEN: &str = "When (UTC)";
pub(super) const WHO: &str = "Who";
pub(super) const WHAT: &str = "What";
pub(super) const THIS_HOST: &str = "this host";

/// Returns the description of a scope.
pub(super) const fn scope(scope: ApiScope) -> &'static str {
    match scope {
        ApiScope::Read => "read: peers, their state, settings, changes; never a key",
        ApiScope::Peers => "peers: add, change and remove peers; new peers' files",
        ApiScope::Settings => "settings: change those of the server",
    }
}

/// Returns the label of a field.
pub(super) const fn label(field: Field) -> &'static str {
    match field {
        Field::Name => NAME,
        Field::Address => "Address",
        Field::Site => "Networks behind it",
        Field::Valid => "Valid for",
        Field::Token => INVITATION_LINK,
        Field::Target => "Other end",
        Field::Setting(setting) => match setting {
            PeerComment::Allow => "May reach",
            PeerComment::Deny => "May not reach",
            PeerComment::AllowFrom => "May be reached from",
            PeerComment::Forward => "Ports of the server that lead to it",
            PeerComment::Expires => "Expires",
            PeerComment::Invitation => "Invited until",
            PeerComment::Disabled => DISABLE,
            PeerComment::ClientRoutes => "Networks that it sends into the tunnel",
            PeerComment::ClientDns => "Name servers",
            PeerComment::ClientMtu => "MTU",
            PeerComment::ClientKeepalive => "Keepalive, in seconds",
            PeerComment::RateUp => "Rate from it",
            PeerComment::RateDown => "Rate to it",
            PeerComment::Quota => "Quota",
            PeerComment::OverQuota => "Over the quota",
            PeerComment::Owner => "Owner",
            PeerComment::Note => "Note",
        },
        Field::Server(ServerSetting::Endpoint) => "Address that devices connect to",
        Field::Server(ServerSetting::Dns) => "Name servers of devices",
        Field::Server(ServerSetting::Domain) => "Domain of the peers' names",
        Field::Server(ServerSetting::Policy) => "Policy for peers without rules",
    }
}

/// Returns what a field may contain.
pub(super) const fn help(field: Field) -> &'static str {
    match field {
        Field::Name => "Of the device, such as phone",
        Field::Address => "Such as 10.8.0.9; one of IPv4, one of IPv6, or both",
        Field::Site => "Such as 192.168.5.0/24, which the server routes to it; empty for none",
        Field::Valid => "A duration such as 1h, 30m or 2d, or a time",
        Field::Token => "",
        Field::Target => "Such as 192.0.2.7:443, a peer's name, or server:53/udp; without a port a ping",
        Field::Setting(setting) => match setting {
            PeerComment::Allow => "Such as internet, dns, 10.0.0.5:445/tcp, a peer's name; none for nothing",
            PeerComment::Deny => "Even if it is allowed, such as lan",
            PeerComment::AllowFrom => "Who may open connections to it, such as peers; none for nobody",
            PeerComment::Forward => "Such as 8443/tcp=443",
            PeerComment::Expires => "A date such as 2026-12-31, or a duration such as 30d; empty for never",
            PeerComment::ClientRoutes => {
                "Such as 192.168.5.0/24, besides the VPN; 0.0.0.0/0, ::/0 for everything"
            }
            PeerComment::ClientDns => "Such as 9.9.9.9, or none; empty for the server's choice",
            PeerComment::ClientMtu => "Empty for the device's choice",
            PeerComment::ClientKeepalive => "Or off; empty for 25",
            PeerComment::RateUp | PeerComment::RateDown => "Such as 20Mbit",
            PeerComment::Quota => "Such as 100GB/month or 2GB/day, both directions together",
            PeerComment::OverQuota => "drop, or a rate such as 1Mbit",
            PeerComment::Owner => {
                "The person whose device it is, such as anna, who may see and renew it; empty for nobody"
            }
            PeerComment::Disabled | PeerComment::Invitation | PeerComment::Note => "",
        },
        Field::Server(ServerSetting::Endpoint) => "Host, or host and port. Devices need new QR codes then.",
        Field::Server(ServerSetting::Dns) => "Addresses, or none. For new QR codes.",
        Field::Server(ServerSetting::Domain) => "Such as vpn, or none",
        Field::Server(ServerSetting::Policy) => "open, isolate or internet-only",
    }
}

/// Returns the name of a state.
pub(super) const fn state(state: PeerState) -> &'static str {
    state.text()
}

/// Returns how long to wait after too many attempts.
pub(super) fn wait(seconds: u64) -> String {
    format!("Too many attempts. Try again in {seconds} s.")
}

/// Returns the number of a page.
pub(super) fn page(number: usize, pages: usize) -> String {
    format!("Page {number} of {pages}")
}

/// Returns an age in its largest unit, seconds in tens.
pub(super) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..10 => "now".to_owned(),
        10..60 => format!("{} s ago", seconds / 10 * 10),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Returns a time since 1970 in UTC.
pub(super) fn time(at: u64) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or_default();
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Returns a number of bytes in its largest unit.
pub(super) fn bytes(count: u64) -> String {
    let mut unit = 1_u64;
    let mut name = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if count / unit < 1024 {
            break;
        }
        (unit, name) = (unit * 1024, next);
    }
    if unit == 1 {
        return format!("{count} B");
    }
    let tenths = u128::from(count) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_their_unit() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(time(1_796_000_000), "2026-11-30 00:53");
    }

    /// The other files have no text of their own, so that a translation of this one is whole.
    #[test]
    fn no_other_file_has_a_text() {
        for (name, source) in [
            ("account.rs", include_str!("pages/account.rs")),
            ("form.rs", include_str!("pages/form.rs")),
            ("invitation.rs", include_str!("pages/invitation.rs")),
            ("layout.rs", include_str!("pages/layout.rs")),
            ("list.rs", include_str!("pages/list.rs")),
            ("new_peer.rs", include_str!("pages/new_peer.rs")),
            ("owners.rs", include_str!("pages/owners.rs")),
            ("peer.rs", include_str!("pages/peer.rs")),
            ("problem.rs", include_str!("pages/problem.rs")),
            ("server.rs", include_str!("pages/server.rs")),
            ("snapshot.rs", include_str!("snapshot.rs")),
            ("script.js", include_str!("assets/script.js")),
            ("invite.js", include_str!("assets/invite.js")),
        ] {
            let source = source.split("#[cfg(test)]").next().unwrap();
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for literal in line.split('"').skip(1).step_by(2) {
                    let words = literal.split(' ').filter(|word| word.len() > 2);
                    let is_text = words.clone().any(|word| {
                        word.starts_with(|letter: char| letter.is_uppercase())
                            && word.chars().skip(1).all(char::is_lowercase)
                    });
                    assert!(!is_text, "{name}, about line {number}: {literal}");
                }
            }
        }
    }
}
