//! State of the screen, and its changes by answers and keys.

use std::cmp::Ordering;
use std::time::Duration;

use super::answer::{Answer, Target};
use super::history::Watched;
use super::keys::Wish;
use crate::commands::show::report::{TunnelPeer, TunnelStatus};

/// Order of the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By rate, the highest first.
    #[default]
    Rate,
    /// By handshake, the latest first.
    Handshake,
    /// By bytes transferred, the most first.
    Transfer,
    /// By name; peers without a name last.
    Name,
}

impl Order {
    const ALL: [Self; 4] = [Self::Rate, Self::Handshake, Self::Transfer, Self::Name];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Handshake => "handshake",
            Self::Transfer => "transfer",
            Self::Name => "name",
        }
    }

    fn step(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|order| *order == self).unwrap_or_default();
        Self::ALL.into_iter().cycle().nth(place + by).unwrap_or_default()
    }
}

/// Content of the screen.
#[derive(Clone, Debug)]
pub(super) enum Scene {
    /// A tunnel.
    Tunnel(Box<Watched>),
    /// A list of tunnels, and the index of the marked one.
    Choice(Vec<TunnelStatus>, usize),
    /// Nothing yet, with the reason.
    Waiting(String),
}

/// State of the whole screen.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) scene: Scene,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    pub(super) interval: Duration,
    pub(super) colours: bool,
    /// Number of peers above the first one shown.
    pub(super) offset: usize,
    /// Number of peers that fitted the screen.
    pub(super) page: usize,
    target: Target,
    /// True after the user asked for the list: a single tunnel is not opened automatically then.
    wants_list: bool,
}

impl State {
    pub(super) fn new(target: Target, interval: Duration, colours: bool) -> Self {
        Self {
            scene: Scene::Waiting("looking for tunnels".to_owned()),
            order: Order::default(),
            is_reversed: false,
            interval,
            colours,
            offset: 0,
            page: 1,
            target,
            wants_list: false,
        }
    }

    /// Handles an answer. Returns the new target if that changes.
    pub(super) fn handle_answer(&mut self, answer: Answer) -> Option<Target> {
        let Answer { target, at, found } = answer;
        if target != self.target {
            return None;
        }
        let mut reports = match found {
            Ok(reports) => reports,
            Err(error) => {
                self.scene = Scene::Waiting(error.to_string());
                return None;
            }
        };
        if target == Target::Any && (reports.len() > 1 || self.wants_list) {
            let marked = match &self.scene {
                Scene::Choice(_, marked) => (*marked).min(reports.len().saturating_sub(1)),
                _ => 0,
            };
            reports.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
            self.scene = Scene::Choice(reports, marked);
            return None;
        }
        let report = reports.pop()?;
        let one = Target::One(report.name.clone());
        match &mut self.scene {
            Scene::Tunnel(watched) => watched.handle_report(report, at),
            scene => *scene = Scene::Tunnel(Box::new(Watched::new(report, at))),
        }
        (self.target != one).then(|| self.turn_to(one))
    }

    /// Executes a user command. Returns the new target if that changes.
    pub(super) fn handle_wish(&mut self, wish: Wish) -> Option<Target> {
        let page = isize::try_from(self.page).unwrap_or(isize::MAX);
        match wish {
            Wish::Scroll(lines) => self.scroll(lines),
            Wish::Page(pages) => self.scroll(pages.saturating_mul(page)),
            Wish::First => self.scroll(isize::MIN),
            Wish::Last => self.scroll(isize::MAX),
            Wish::Sort => self.order = self.order.step(1),
            Wish::SortBack => self.order = self.order.step(Order::ALL.len() - 1),
            Wish::Reverse => self.is_reversed = !self.is_reversed,
            Wish::List => {
                self.wants_list = true;
                if self.target != Target::Any {
                    self.scene = Scene::Waiting("looking for tunnels".to_owned());
                    return Some(self.turn_to(Target::Any));
                }
            }
            Wish::Choose => {
                if let Scene::Choice(reports, marked) = &mut self.scene {
                    let chosen = reports.get(*marked)?.name.clone();
                    self.scene = Scene::Waiting(format!("asking {chosen}"));
                    return Some(self.turn_to(Target::One(chosen)));
                }
            }
            Wish::Quit | Wish::Redraw => {}
        }
        None
    }

    fn turn_to(&mut self, target: Target) -> Target {
        self.offset = 0;
        self.wants_list &= target == Target::Any;
        self.target = target.clone();
        target
    }

    /// Scrolls by lines; the offset is limited to the end when drawing.
    fn scroll(&mut self, lines: isize) {
        match &mut self.scene {
            Scene::Choice(reports, marked) => {
                *marked = marked.saturating_add_signed(lines).min(reports.len().saturating_sub(1));
            }
            _ => self.offset = self.offset.saturating_add_signed(lines),
        }
    }

    /// Returns the peers of a tunnel in the selected order.
    pub(super) fn ordered<'a>(&self, watched: &'a Watched) -> Vec<&'a TunnelPeer> {
        let mut peers: Vec<_> = watched.report.peers.iter().collect();
        let by_order = |a: &&TunnelPeer, b: &&TunnelPeer| match self.order {
            Order::Rate => watched.rate(b).both().cmp(&watched.rate(a).both()),
            Order::Handshake => b.last_handshake.cmp(&a.last_handshake),
            Order::Transfer => transfer(b).cmp(&transfer(a)),
            Order::Name => Ordering::Equal,
        };
        // equal peers keep their order from one refresh to the next
        peers.sort_by(|a, b| by_order(a, b).then_with(|| by_name(a, b)));
        if self.is_reversed {
            peers.reverse();
        }
        peers
    }
}

/// Compares by name; peers without a name come last, in the order of their keys.
fn by_name(a: &TunnelPeer, b: &TunnelPeer) -> Ordering {
    let is_nameless = |peer: &TunnelPeer| peer.name.is_none();
    (is_nameless(a), &a.name, a.public_key.as_bytes()).cmp(&(
        is_nameless(b),
        &b.name,
        b.public_key.as_bytes(),
    ))
}

const fn transfer(peer: &TunnelPeer) -> u64 {
    peer.received.saturating_add(peer.sent)
}
