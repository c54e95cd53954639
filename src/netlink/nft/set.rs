//! Sets and verdict maps of other programs, and lookups in them.

use nix::libc;

use super::constants::*;
use super::listing::{number, text};
use super::table::Verdict;
use crate::netlink::message::{attribute, attributes};

const INTERVAL_END: u32 = libc::NFT_SET_ELEM_INTERVAL_END as u32;
const INVERTED: u32 = libc::NFT_LOOKUP_F_INV as u32;
const JUMP: u32 = libc::NFT_JUMP.cast_unsigned();
const GOTO: u32 = libc::NFT_GOTO.cast_unsigned();

/// The verdict of a rule or of a map's element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Accept,
    Drop,
    /// Evaluation continues in another chain.
    Chain(String),
}

impl Decision {
    /// Parses an `NFTA_DATA_VERDICT`; `None` if it is neither an accept, a drop nor a jump.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let verdict = attribute(data, NFTA_DATA_VERDICT)?;
        match number(&verdict, NFTA_VERDICT_CODE)? {
            JUMP | GOTO => text(&verdict, NFTA_VERDICT_CHAIN).map(Self::Chain),
            code if code == Verdict::Accept as u32 => Some(Self::Accept),
            code if code == Verdict::Drop as u32 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// The value to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Known(Vec<u8>),
    /// Any value except these.
    AnyBut(Vec<Vec<u8>>),
}

/// A condition that looks up a value in a set, or a map of verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) set: String,
    key: Key,
    is_inverted: bool,
    pub(super) is_map: bool,
    /// True if the value is the name of the packet's input device.
    is_device: bool,
}

impl Lookup {
    /// Parses the data of a `lookup` expression for `key`.
    pub(super) fn parse(data: &[u8], key: Key, is_device: bool) -> Option<Self> {
        let set = text(data, NFTA_LOOKUP_SET)?;
        let is_inverted = number(data, NFTA_LOOKUP_FLAGS).is_some_and(|flags| flags & INVERTED != 0);
        Some(Self { set, key, is_inverted, is_map: number(data, NFTA_LOOKUP_DREG).is_some(), is_device })
    }

    /// Returns true if the value may be in the set of these elements, or may not be in it if the
    /// lookup is inverted.
    pub(super) fn may_fulfil(&self, elements: &[Element]) -> bool {
        match &self.key {
            Key::Known(key) => {
                is_unknown(elements, key) || found(elements, key).is_some() != self.is_inverted
            }
            Key::AnyBut(_) => self.is_inverted || elements.iter().any(|element| !self.excludes(element)),
        }
    }

    /// Returns true if only the packet's own device fulfils the condition.
    pub(super) fn names_device(&self) -> bool {
        self.is_device && !self.is_inverted && matches!(self.key, Key::Known(_))
    }

    /// Returns true if the result depends on the elements; it does not if the value is unknown.
    pub(super) fn is_worth_reading(&self) -> bool {
        self.is_map || !matches!(&self.key, Key::AnyBut(excluded) if excluded.is_empty())
    }

    /// Returns the possible verdicts of a map with these elements.
    pub(super) fn decisions<'set>(&self, elements: &'set [Element]) -> Vec<&'set Decision> {
        match &self.key {
            Key::Known(key) if !is_unknown(elements, key) => {
                found(elements, key).and_then(|element| element.decision.as_ref()).into_iter().collect()
            }
            _ => {
                let elements = elements.iter().filter(|element| !self.excludes(element));
                elements.filter_map(|element| element.decision.as_ref()).collect()
            }
        }
    }

    /// Returns true if the value is not that of the element; names are padded with zeros.
    fn excludes(&self, element: &Element) -> bool {
        let Key::AnyBut(excluded) = &self.key else { return false };
        excluded.iter().any(|excluded| {
            let rest = element.key.strip_prefix(excluded.as_slice());
            rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
        })
    }
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// The key; empty for the catch-all element.
    key: Vec<u8>,
    /// True if an interval ends before the key.
    is_end: bool,
    decision: Option<Decision>,
}

impl Element {
    /// Parses an `NFT_MSG_NEWSETELEM`.
    pub(super) fn parse(body: &[u8]) -> Option<Vec<Self>> {
        let list = attribute(body.get(NFGENMSG_LEN..)?, NFTA_SET_ELEM_LIST_ELEMENTS)?;
        let elements = attributes(&list, NFTA_LIST_ELEM).map(|element| {
            let flags = number(&element, NFTA_SET_ELEM_FLAGS).unwrap_or_default();
            let key = attribute(&element, NFTA_SET_ELEM_KEY)
                .and_then(|key| attribute(&key, NFTA_DATA_VALUE))
                .unwrap_or_default();
            let key = if flags & NFT_SET_ELEM_CATCHALL == 0 { key } else { Vec::new() };
            let decision = attribute(&element, NFTA_SET_ELEM_DATA).and_then(|data| Decision::parse(&data));
            Self { key, is_end: flags & INTERVAL_END != 0, decision }
        });
        Some(elements.collect())
    }
}

/// Returns true if the elements have another kind of key, such as concatenations.
fn is_unknown(elements: &[Element], key: &[u8]) -> bool {
    elements.iter().any(|element| !element.key.is_empty() && element.key.len() != key.len())
}

/// Returns the element that matches the key: the same key, the interval that contains it, or the
/// catch-all element.
fn found<'set>(elements: &'set [Element], key: &[u8]) -> Option<&'set Element> {
    let is_of_intervals = elements.iter().any(|element| element.is_end);
    let keyed = elements.iter().filter(|element| !element.key.is_empty());
    let nearest = if is_of_intervals {
        // where one interval ends and the next one begins, two elements have the same key
        keyed
            .filter(|element| element.key.as_slice() <= key)
            .max_by(|a, b| a.key.cmp(&b.key).then(b.is_end.cmp(&a.is_end)))
    } else {
        keyed.into_iter().find(|element| element.key == key)
    };
    let others = || elements.iter().find(|element| element.key.is_empty());
    nearest.filter(|element| !element.is_end).or_else(others)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(key: &[u8], is_end: bool, decision: Option<Decision>) -> Element {
        Element { key: key.to_vec(), is_end, decision }
    }

    fn lookup(key: Option<&[u8]>, is_inverted: bool) -> Lookup {
        let key = key.map_or(Key::AnyBut(vec![]), |key| Key::Known(key.to_vec()));
        Lookup { set: "ports".to_owned(), key, is_inverted, is_map: false, is_device: false }
    }

    #[test]
    fn a_port_is_looked_up() {
        let port = |port: u16| port.to_be_bytes();
        let asked = |elements: &[Element], number: u16| {
            let [is, is_not] =
                [false, true].map(|inverted| lookup(Some(&port(number)), inverted).may_fulfil(elements));
            assert_ne!(is, is_not);
            is
        };
        let single = [53, 67].map(|number| element(&port(number), false, None));
        assert!(asked(&single, 53) && !asked(&single, 54) && !asked(&[], 53));
        // 1000-1999, 2000-2999 and 51820, in any order
        let ranges = [(51821, true), (1000, false), (2000, true), (2000, false), (3000, true), (0, true)];
        let mut ranges = ranges.map(|(number, is_end)| element(&port(number), is_end, None)).to_vec();
        ranges.push(element(&port(51820), false, None));
        for (number, is_in) in
            [(0, false), (999, false), (1000, true), (2000, true), (2999, true), (3000, false)]
        {
            assert_eq!(asked(&ranges, number), is_in, "{number}");
        }
        assert!(asked(&ranges, 51820) && !asked(&ranges, 51821));
        assert!(asked(&[element(&[], false, None)], 7), "all others");
        let concatenated = [element(&[0; 8], false, None)];
        assert!(
            [false, true].iter().all(|inverted| lookup(Some(&port(7)), *inverted).may_fulfil(&concatenated))
        );
    }

    #[test]
    fn a_map_decides() {
        let chain = Decision::Chain("wan".to_owned());
        let map = [
            element(&[8], false, Some(chain.clone())),
            element(&[2], false, Some(Decision::Accept)),
            element(&[1], false, Some(Decision::Drop)),
        ];
        assert_eq!(lookup(Some(&[8]), false).decisions(&map), [&chain]);
        assert!(lookup(Some(&[9]), false).decisions(&map).is_empty());
        assert_eq!(lookup(None, false).decisions(&map).len(), 3, "any of them");
    }

    #[test]
    fn the_loopback_is_not_the_device() {
        let key = Key::AnyBut(vec![b"lo".to_vec(), b"wg0".to_vec()]);
        let lookup =
            Lookup { set: "devices".to_owned(), key, is_inverted: false, is_map: true, is_device: true };
        let accept = || Some(Decision::Accept);
        let loopback = element(b"lo\0\0\0\0", false, accept());
        assert!(!lookup.may_fulfil(std::slice::from_ref(&loopback)));
        assert!(lookup.decisions(std::slice::from_ref(&loopback)).is_empty());
        let own = element(b"wg0\0\0\0", false, accept());
        assert!(lookup.decisions(std::slice::from_ref(&own)).is_empty());
        let both = [loopback, element(b"lo1\0\0\0", false, accept())];
        assert!(lookup.may_fulfil(&both) && lookup.decisions(&both).len() == 1);
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Element::parse(&body), Lookup::parse(&body, Key::AnyBut(vec![]), true), Decision::parse(&body));
        }
    }
}
