//! Keys of AmneziaWG, which disguises WireGuard's messages. Values that leave the messages as they
//! are mean plain WireGuard; every other value means a protocol that no WireGuard answers.

/// The keys with which the messages of plain WireGuard look as they do.
const PLAIN: &str = "S1 and S2 = 0, H1 to H4 = 1 to 4";
/// As [`PLAIN`], by key.
const MESSAGES: [&str; 6] = ["S1", "S2", "H1", "H2", "H3", "H4"];

/// A key of AmneziaWG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Number of datagrams without meaning that are sent before a handshake.
    Junk,
    /// Such a datagram's contents.
    Decoy,
    /// A property of the two above.
    Detail,
    /// Bytes in front of the messages of one type.
    Padding,
    /// The number in the first four bytes of the messages of one type, which is here WireGuard's.
    Header(char),
    /// `AdvancedSecurity` of a peer.
    Switch,
}

/// The keys in the order in which AmneziaWG documents them.
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

/// Returns the key of this name, as AmneziaWG spells it, in whatever case it is written.
pub(crate) fn known_key(name: &str) -> Option<&'static str> {
    find(name).map(|(key, _)| key)
}

fn find(name: &str) -> Option<(&'static str, Kind)> {
    KEYS.iter().copied().find(|(key, _)| key.eq_ignore_ascii_case(name))
}

/// The keys of AmneziaWG in a file, none of which changes the messages.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The keys with their lines.
    keys: Vec<(&'static str, usize)>,
    /// The first that asks for datagrams without meaning.
    decoy: Option<(&'static str, usize)>,
}

impl Seen {
    /// Takes a line whose key is `name`. Returns false if that is no key of AmneziaWG.
    ///
    /// # Errors
    /// [`Refused`] if the value changes WireGuard's messages.
    pub(super) fn take(&mut self, name: &str, value: &str, line: usize) -> Result<bool, Refused> {
        let Some((key, kind)) = find(name) else { return Ok(false) };
        let is_zero = !value.is_empty() && value.bytes().all(|byte| byte == b'0');
        let changes_messages = match kind {
            Kind::Junk | Kind::Decoy | Kind::Detail => false,
            Kind::Padding => !is_zero,
            Kind::Header(number) => !is_number(value, number),
            Kind::Switch => !value.eq_ignore_ascii_case("off"),
        };
        if changes_messages {
            return Err(Refused(key));
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

    /// Returns the keys to be ignored with their first line, none if there are none; and true if
    /// datagrams without meaning are asked for.
    ///
    /// # Errors
    /// [`Refused`] with its line, if a disguise is asked for and the file does not say that
    /// the messages below it are WireGuard's.
    pub(super) fn finish(self) -> Result<Option<(usize, Ignored)>, (usize, Refused)> {
        let says = |wanted: &str| self.keys.iter().any(|(key, _)| *key == wanted);
        if let Some((key, line)) = self.decoy
            && !MESSAGES.iter().all(|key| says(key))
        {
            return Err((line, Refused(key)));
        }
        let Some(&(_, line)) = self.keys.first() else { return Ok(None) };
        let keys = self.keys.into_iter().map(|(key, _)| key).collect();
        Ok(Some((line, Ignored { keys, has_decoys: self.decoy.is_some() })))
    }
}

/// The keys of AmneziaWG in a file of plain WireGuard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    keys: Vec<&'static str>,
    /// They ask for datagrams without meaning, which are not sent.
    has_decoys: bool,
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (keys, is_one) = (self.keys.join(", "), self.keys.len() == 1);
        write!(
            f,
            "{keys} {} AmneziaWG's and ignored: with {} the messages are plain WireGuard's",
            if is_one { "is" } else { "are" },
            if is_one { "this value" } else { "these values" }
        )?;
        if self.has_decoys {
            f.write_str("; the decoy datagrams that are asked for are not sent")?;
        }
        Ok(())
    }
}

/// A key whose value is another than plain WireGuard's.
pub(super) struct Refused(pub(super) &'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} is AmneziaWG's, whose messages are no WireGuard: the two sides cannot talk to each other, and taking \
             the line out does not help; get a file of plain WireGuard, without Jc, Jmin, Jmax, S1 to S4, H1 to H4 and \
             I1 to I5, or with {PLAIN}",
            self.0
        )
    }
}

/// Returns true for the number, or a range of nothing else.
fn is_number(value: &str, number: char) -> bool {
    value.split('-').all(|part| part.trim().chars().eq([number]))
}
