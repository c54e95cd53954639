//! The keys of AmneziaWG, which obfuscates WireGuard's messages. Values that do not change the
//! messages are plain WireGuard; all other values are a protocol that WireGuard does not
//! understand.

/// The values with which AmneziaWG sends plain WireGuard messages, for error messages.
const PLAIN: &str = "S1 and S2 = 0, H1 to H4 = 1 to 4";
/// The keys of [`PLAIN`].
const MESSAGES: [&str; 6] = ["S1", "S2", "H1", "H2", "H3", "H4"];

/// The type of an AmneziaWG key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Number of junk datagrams sent before a handshake.
    Junk,
    /// Contents of a junk datagram.
    Decoy,
    /// A property of the two above.
    Detail,
    /// Number of padding bytes in front of the messages of one type.
    Padding,
    /// The value of the first four bytes in the messages of one type; holds WireGuard's own type
    /// number.
    Header(char),
    /// `AdvancedSecurity` of a peer.
    Switch,
}

/// The keys in the order of AmneziaWG's documentation.
const KEYS: &[(&str, Kind)] = &[
    ("Jc", Kind::Junk),
    ("Jmin", Kind::Detail),
    ("Jmax", Kind::Detail),
    ("S1", Kind::Padding),
    ("S2", Kind::Padding),
    ("S3", Kind::Padding),
    ("S4", Kind::Padding),
    ("H1", Kind::Header('1')),
    ("H2", Kind::Header('2')),
    ("H3", Kind::Header('3')),
    ("H4", Kind::Header('4')),
    ("I1", Kind::Decoy),
    ("I2", Kind::Decoy),
    ("I3", Kind::Decoy),
    ("I4", Kind::Decoy),
    ("I5", Kind::Decoy),
    ("J1", Kind::Decoy),
    ("J2", Kind::Decoy),
    ("J3", Kind::Decoy),
    ("Itime", Kind::Detail),
    ("AdvancedSecurity", Kind::Switch),
];

/// Returns the key with this name in AmneziaWG's spelling. The case of `name` does not matter.
pub(crate) fn known_key(name: &str) -> Option<&'static str> {
    find(name).map(|(key, _)| key)
}

fn find(name: &str) -> Option<(&'static str, Kind)> {
    KEYS.iter().copied().find(|(key, _)| key.eq_ignore_ascii_case(name))
}

/// The AmneziaWG keys found in a file; none of them changes the messages.
#[derive(Debug, Default)]
pub(super) struct AmneziaKeys {
    /// The keys with their line numbers.
    keys: Vec<(&'static str, usize)>,
    /// The first key that requests junk datagrams, with its line number.
    decoy: Option<(&'static str, usize)>,
}

impl AmneziaKeys {
    /// Adds a line with the key `name`. Returns false if it is not a key of AmneziaWG.
    ///
    /// # Errors
    /// [`IncompatibleKey`] if the value changes WireGuard's messages.
    pub(super) fn handle_key(
        &mut self,
        name: &str,
        value: &str,
        line: usize,
    ) -> Result<bool, IncompatibleKey> {
        let Some((key, kind)) = find(name) else { return Ok(false) };
        let is_zero = !value.is_empty() && value.bytes().all(|byte| byte == b'0');
        let changes_messages = match kind {
            Kind::Junk | Kind::Decoy | Kind::Detail => false,
            Kind::Padding => !is_zero,
            Kind::Header(number) => !is_number(value, number),
            Kind::Switch => !value.eq_ignore_ascii_case("off"),
        };
        if changes_messages {
            return Err(IncompatibleKey(key));
        }
        let is_decoy = match kind {
            Kind::Junk => !is_zero,
            Kind::Decoy => !value.is_empty(),
            _ => false,
        };
        if is_decoy {
            self.decoy.get_or_insert((key, line));
        }
        self.keys.push((key, line));
        Ok(true)
    }

    /// Returns the ignored keys with the line number of the first, or `None` if there are none.
    ///
    /// # Errors
    /// [`IncompatibleKey`] with its line number, if the file requests junk datagrams and does not
    /// set all message keys to WireGuard's values.
    pub(super) fn finish(self) -> Result<Option<(usize, IgnoredKeys)>, (usize, IncompatibleKey)> {
        let says = |wanted: &str| self.keys.iter().any(|(key, _)| *key == wanted);
        if let Some((key, line)) = self.decoy
            && !MESSAGES.iter().all(|key| says(key))
        {
            return Err((line, IncompatibleKey(key)));
        }
        let Some(&(_, line)) = self.keys.first() else { return Ok(None) };
        let keys = self.keys.into_iter().map(|(key, _)| key).collect();
        Ok(Some((line, IgnoredKeys { keys, has_decoys: self.decoy.is_some() })))
    }
}

/// The AmneziaWG keys in a file of plain WireGuard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredKeys {
    keys: Vec<&'static str>,
    /// True if the keys request junk datagrams, which are not sent.
    has_decoys: bool,
}

impl std::fmt::Display for IgnoredKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (keys, is_one) = (self.keys.join(", "), self.keys.len() == 1);
        write!(
            f,
            "{keys} {} AmneziaWG's and ignored: with {} the messages are plain WireGuard's",
            if is_one { "is" } else { "are" },
            if is_one { "this value" } else { "these values" }
        )?;
        if self.has_decoys {
            f.write_str("; the requested junk datagrams are not sent")?;
        }
        Ok(())
    }
}

/// A key whose value is incompatible with plain WireGuard.
pub(super) struct IncompatibleKey(pub(super) &'static str);

impl std::fmt::Display for IncompatibleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} is an AmneziaWG key that changes the messages: the two sides cannot communicate, and removing \
             the line does not help; use a file of plain WireGuard, without Jc, Jmin, Jmax, S1 to S4, H1 to H4 and \
             I1 to I5, or with {PLAIN}",
            self.0
        )
    }
}

/// Returns true for the number itself, or a range that contains nothing else.
fn is_number(value: &str, number: char) -> bool {
    value.split('-').all(|part| part.trim().chars().eq([number]))
}
