//! Translates a wg-quick file: lines that wontun does not accept become comments, all others are
//! kept.

use std::path::Path;

use super::error::ImportError;
use super::hooks::{self, Command, Purpose};
use super::names::{self, UniqueNames};
use super::network;
use super::translation::Translation;
use crate::config::Cidr;
use crate::config::DEFAULT_WIREGUARD_PORT;
use crate::config::wg_quick::{
    ErrorKind, Field, Hooks, KeySource, LoadError, Notice, Section, WgQuick, WgQuickError, is_space, items,
    parse,
};
use crate::config::wg_quick::{amnezia, outline};
use crate::uapi::SecretText;

/// Comment of a client whose file was made elsewhere.
const UNKNOWN_ROUTES: &str = "# ClientRoutes = unknown\n";

/// A line with commands.
struct Hook {
    line: usize,
    field: Field,
    commands: Vec<Command>,
}

/// Translates the file in `text`. `source` is its name in messages.
pub(super) fn translate(source: &Path, text: &[u8]) -> Result<Translation, ImportError> {
    let parsed = parse(source, text, Hooks::Ignore).map_err(|error| explain(error, text))?;
    if let Some(hook) = hooks(text).into_iter().find(|hook| hook.has(Purpose::PrivateKey)) {
        return Err(hook.key_by_command(source));
    }
    check_key_files(source, &parsed.configuration)?;
    let mut notices: Vec<_> = parsed
        .warnings
        .iter()
        .filter(|warning| !matches!(warning.notice, Notice::HookIgnored(_)))
        .map(ToString::to_string)
        .collect();
    if let Some(notice) = parsed.configuration.leak_warning() {
        notices.push(format!("{}: {notice}", source.display()));
    }
    let edited = comment_out_unsupported(source, text, &mut notices);
    let edited = complete_addresses(source, edited, &parsed.configuration, &mut notices);
    let port = parsed.configuration.interface.listen_port.map_or(DEFAULT_WIREGUARD_PORT, u16::from);
    report_hooks(source, &hooks(text), port, &mut notices);
    let has_comments = outline::blocks(text).iter().any(|block| {
        block.comments.iter().any(|line| outline::comment_value(text, line, outline::ENDPOINT).is_some())
    });
    // the peer of a client is its server
    let is_client = parsed.configuration.is_client();
    let new = if has_comments || is_client { "" } else { UNKNOWN_ROUTES };
    let text = convert_comments(edited.as_bytes(), new, &mut notices).into_inner();
    Ok(Translation { notices, ..Translation::of(text) })
}

/// Returns a more specific error if a hook sets the missing private key.
fn explain(error: WgQuickError, text: &[u8]) -> ImportError {
    if error.kind == ErrorKind::Missing(Field::PrivateKey)
        && let Some(hook) = hooks(text).into_iter().find(|hook| hook.has(Purpose::PrivateKey))
    {
        return hook.key_by_command(&error.file);
    }
    LoadError::from(error).into()
}

/// Rejects key files with relative paths: they would not be found.
fn check_key_files(source: &Path, configuration: &WgQuick) -> Result<(), ImportError> {
    let own = match &configuration.interface.private_key {
        KeySource::File(path) => Some(path),
        KeySource::Inline(_) => None,
    };
    let shared = configuration.peers.iter().filter_map(|peer| match &peer.preshared_key {
        Some(KeySource::File(path)) => Some(path),
        _ => None,
    });
    match own.into_iter().chain(shared).find(|path| path.is_relative()) {
        Some(key) => Err(ImportError::RelativeKeyFile { file: source.to_owned(), key: key.clone() }),
        None => Ok(()),
    }
}

/// Returns the lines without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Returns the name of a line's key, and its value.
fn name_and_value(line: &[u8]) -> Option<(String, &str)> {
    let code = line.split(|&byte| byte == b'#').next()?;
    let (name, value) = str::from_utf8(code).ok()?.split_once('=')?;
    Some((name.chars().filter(|c| !is_space(*c)).collect(), value.trim_matches(is_space)))
}

/// Returns the key of a line and its value as the parser sees them. The parser has accepted the
/// text.
fn key_and_value(line: &[u8]) -> Option<(Field, &str)> {
    let (name, value) = name_and_value(line)?;
    Some((Field::named(&name)?, value))
}

fn hooks(text: &[u8]) -> Vec<Hook> {
    let numbered = lines(text).zip(1..);
    let hook = |(line, number)| match key_and_value(line)? {
        (field @ (Field::PreUp | Field::PostUp | Field::PreDown | Field::PostDown), value) => {
            Some(Hook { line: number, field, commands: hooks::commands(value) })
        }
        _ => None,
    };
    numbered.filter_map(hook).collect()
}

impl Hook {
    fn has(&self, purpose: Purpose) -> bool {
        self.commands.iter().any(|command| command.purpose == purpose)
    }

    fn key_by_command(&self, source: &Path) -> ImportError {
        ImportError::KeyByCommand { file: source.to_owned(), line: self.line, hook: self.field.name() }
    }
}

/// Returns the text with Unix line ends, and with commands, `SaveConfig`, `DNS` and AmneziaWG's
/// keys as comments.
fn comment_out_unsupported(source: &Path, text: &[u8], notices: &mut Vec<String>) -> SecretText {
    let mut out = SecretText::default();
    let mut follows_comment = false;
    for (line, number) in lines(text).zip(1..) {
        let place = format!("{}:{number}", source.display());
        let key = key_and_value(line);
        let is_commented_out = match key {
            Some((Field::PreUp | Field::PostUp | Field::PreDown | Field::PostDown, _)) => true,
            Some((Field::Dns, _)) => {
                notices.push(format!("{place}: DNS is ignored: a server has no name servers of its own"));
                true
            }
            Some((Field::SaveConfig, value)) if value.eq_ignore_ascii_case("true") => {
                notices.push(format!(
                    "{place}: SaveConfig is ignored: changes by 'wg set' are not written to the file; 'wontun peer' changes both"
                ));
                true
            }
            // reported by the parser
            _ => name_and_value(line).is_some_and(|(name, _)| amnezia::known_key(&name).is_some()),
        };
        if is_commented_out {
            out.push(b"# ");
        } else if follows_comment && key.is_none() && !line.trim_ascii().is_empty() {
            // an empty line, as a comment directly above the next section would belong to it
            out.push(b"\n");
        }
        out.push(line);
        out.push(b"\n");
        follows_comment = is_commented_out;
    }
    out
}

/// Completes a server's addresses with their networks, if none has room for clients.
fn complete_addresses(
    source: &Path,
    text: SecretText,
    configuration: &WgQuick,
    notices: &mut Vec<String>,
) -> SecretText {
    let missing = network::missing_prefixes(&configuration.interface, &configuration.peers);
    if missing.is_empty() {
        return text;
    }
    let mut out = SecretText::default();
    for (line, number) in lines(text.as_bytes()).zip(1..) {
        let Some((Field::Address, value)) = key_and_value(line) else {
            out.push(line);
            out.push(b"\n");
            continue;
        };
        let addresses: Vec<_> = items(value)
            .map(|item| {
                let address = item.parse().ok().map(|cidr: Cidr| cidr.address());
                let found = missing.iter().find(|(bare, _)| Some(*bare) == address);
                found.map_or_else(|| item.to_owned(), |(_, with_network)| {
                    notices.push(format!(
                        "{}:{number}: Address: {item} has no prefix length, and clients that are added need a network: using {with_network}",
                        source.display()
                    ));
                    with_network.to_string()
                })
            })
            .collect();
        out.push(format!("Address = {}", addresses.join(", ")).as_bytes());
        if let Some(comment) = line.iter().position(|&byte| byte == b'#').and_then(|hash| line.get(hash..)) {
            out.push(b" ");
            out.push(comment);
        }
        out.push(b"\n");
    }
    out
}

/// Reports the effects of hooks that wontun replaces or drops.
fn report_hooks(source: &Path, hooks: &[Hook], port: u16, notices: &mut Vec<String>) {
    let file = source.display();
    // nft's tables and chains belong to its rules
    let translates = hooks.iter().any(|hook| hook.has(Purpose::Nat));
    let is_nat = |hook: &&Hook| hook.has(Purpose::Nat) || (translates && hook.has(Purpose::NftTable));
    let nat: Vec<_> = hooks.iter().filter(is_nat).collect();
    if !nat.is_empty() {
        notices.push(format!(
            "{file}: {}: address translation and forwarding are omitted: 'wontun serve' does both itself (with 'wontun --config' it is --nat auto)",
            line_list(&nat)
        ));
    }
    let lets_in: Vec<_> = hooks.iter().filter(|hook| hook.has(Purpose::OpenPort)).collect();
    if !lets_in.is_empty() {
        notices.push(format!(
            "{file}: {}: rules that open this host's firewall are omitted: make sure that it accepts UDP port {port}",
            line_list(&lets_in)
        ));
    }
    for hook in hooks {
        let mut programs = hooks::programs(&hook.commands, Purpose::Other);
        if !translates {
            programs.extend(hooks::programs(&hook.commands, Purpose::NftTable));
        }
        if !programs.is_empty() {
            let programs: Vec<_> = programs.iter().map(|name| format!("'{}'", name.escape_debug())).collect();
            notices.push(format!(
                "{file}:{}: {} is omitted: it runs {}, for an unknown purpose; if it is still needed, run it from a service of your own",
                hook.line,
                hook.field,
                programs.join(", ")
            ));
        }
    }
}

fn line_list(hooks: &[&Hook]) -> String {
    let places: Vec<_> = hooks.iter().map(|hook| format!("line {} ({})", hook.line, hook.field)).collect();
    places.join(", ")
}

/// Converts the peer names in comments of other programs to wontun's comments, and adds the line
/// `new` to each peer.
fn convert_comments(text: &[u8], new: &str, notices: &mut Vec<String>) -> SecretText {
    let mut names = UniqueNames::default();
    let blocks = outline::blocks(text);
    let peers: Vec<_> = blocks.iter().filter(|block| block.section == Section::Peer).collect();
    let comment =
        |place: &std::ops::Range<usize>| str::from_utf8(text.get(place.clone()).unwrap_or_default());
    let mut has_name = Vec::with_capacity(peers.len());
    for block in &peers {
        let note = block.comments.iter().find_map(|line| outline::comment_value(text, line, "Name"));
        let name = note.and_then(|place| comment(&place).ok()?.parse().ok());
        has_name.push(name.is_some_and(|name| names.insert(name)));
    }
    let mut out = SecretText::default();
    let mut end = 0;
    let mut unnamed = 0;
    for (block, has_name) in peers.iter().zip(has_name) {
        out.push(text.get(end..block.after_header).unwrap_or_default());
        end = block.after_header;
        if has_name {
            out.push(new.as_bytes());
            continue;
        }
        let wanted = block.comments.iter().find_map(|line| names::peer_name_in_comment(comment(line).ok()?));
        let Some(name) = wanted.as_deref().and_then(|wanted| names.unique(wanted)) else {
            unnamed += 1;
            out.push(new.as_bytes());
            continue;
        };
        if wanted.as_deref() != Some(name.as_str()) {
            notices.push(rename_notice(wanted.as_deref().unwrap_or_default(), &name.to_string()));
        }
        out.push(format!("# Name = {name}\n{new}").as_bytes());
    }
    out.push(text.get(end..).unwrap_or_default());
    if unnamed > 0 {
        notices.push(format!(
            "{unnamed} of {} peers {} no name: 'wontun peer rename KEY NAME' gives one",
            peers.len(),
            if unnamed == 1 { "has" } else { "have" }
        ));
    }
    out
}

/// Returns the notice about a peer that was renamed.
pub(super) fn rename_notice(wanted: &str, name: &str) -> String {
    format!("the peer '{}' is renamed to '{name}'", wanted.escape_debug())
}
