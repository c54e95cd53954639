//! Formats a sample as text, piece by piece.

use std::fmt::Write as _;
use std::sync::Arc;

use super::family::{FAMILIES, Family, Values};
use super::lines::Lines;
use super::sample::Sample;
use crate::config::PeerName;

/// Number of peers whose lines are written between two checks of the piece's length.
const PEERS_AT_ONCE: usize = 16;

/// The text of a sample, generated in pieces on demand.
#[derive(Clone, Debug)]
pub(crate) struct Exposition {
    sample: Arc<Sample>,
    family: usize,
    /// The next peer, within a family with one value per peer.
    peer: usize,
}

impl Exposition {
    /// Creates the text of `sample`.
    pub(crate) const fn new(sample: Arc<Sample>) -> Self {
        Self { sample, family: 0, peer: 0 }
    }

    /// Appends the next part of the text, about `bytes` long. Returns true if more follows.
    pub(crate) fn write(&mut self, out: &mut String, bytes: usize) -> bool {
        let end = out.len() + bytes;
        while out.len() < end {
            let Some(family) = FAMILIES.get(self.family) else { return false };
            if self.write_family(out, family) {
                (self.family, self.peer) = (self.family + 1, 0);
            }
        }
        self.family < FAMILIES.len()
    }

    /// Appends a metric, or a part of it. Returns true if that was the last part.
    fn write_family(&mut self, out: &mut String, family: &Family) -> bool {
        let start = out.len();
        if self.peer == 0 {
            let Family { name, kind, help, .. } = family;
            let kind = kind.name();
            // writing to a string does not fail
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        let header = out.len() - start;
        let mut lines = Lines::new(out, family.name);
        match &family.values {
            Values::One(value) => {
                if let Some(number) = value(&self.sample) {
                    lines.push(&[], number);
                }
            }
            Values::Workers(value) => {
                for (number, worker) in self.sample.workers.iter().enumerate() {
                    lines.push(&[("worker", &number.to_string())], value(worker).into());
                }
            }
            Values::Lines(write) => write(&self.sample, &mut lines),
            Values::Peers(value) => {
                let rest = self.sample.peers.get(self.peer..).unwrap_or_default();
                let here = rest.get(..PEERS_AT_ONCE).unwrap_or(rest);
                for peer in here {
                    let Some(number) = value(peer) else { continue };
                    let key = peer.public_key.to_string();
                    let name = peer.name.as_ref().map_or("", PeerName::as_str);
                    lines.push(&[("public_key", &key), ("name", name)], number);
                }
                self.peer += here.len();
                if here.len() < rest.len() {
                    return false;
                }
            }
        }
        let is_nothing = match family.values {
            // its first lines may have been in an earlier piece
            Values::Peers(_) => self.sample.peers.is_empty(),
            _ => out.len() == start + header,
        };
        if is_nothing {
            out.truncate(start);
        }
        true
    }
}
