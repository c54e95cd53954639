//! State of the screen, and its changes by answers and keys.

use std::cmp::Ordering;
use std::time::Duration;

use super::history::TunnelHistory;
use super::keys::KeyCommand;
use super::target::{StatusAnswer, Target};
use crate::uapi::{TunnelPeer, TunnelStatus};

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
pub(super) enum View {
    /// A tunnel.
    Tunnel(Box<TunnelHistory>),
    /// A list of tunnels, and the index of the selected one.
    TunnelList(Vec<TunnelStatus>, usize),
    /// Nothing yet, with the reason.
    Waiting(String),
}

/// State of the whole screen.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) view: View,
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
            view: View::Waiting("looking for tunnels".to_owned()),
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
    pub(super) fn handle_status(&mut self, answer: StatusAnswer) -> Option<Target> {
        let StatusAnswer { target, at, result } = answer;
        if target != self.target {
            return None;
        }
        let mut statuses = match result {
            Ok(statuses) => statuses,
            Err(error) => {
                self.view = View::Waiting(error.to_string());
                return None;
            }
        };
        if target == Target::Any && (statuses.len() > 1 || self.wants_list) {
            let selected = match &self.view {
                View::TunnelList(_, selected) => (*selected).min(statuses.len().saturating_sub(1)),
                _ => 0,
            };
            statuses.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
            self.view = View::TunnelList(statuses, selected);
            return None;
        }
        let status = statuses.pop()?;
        let one = Target::One(status.name.clone());
        match &mut self.view {
            View::Tunnel(history) => history.handle_status(status, at),
            view => *view = View::Tunnel(Box::new(TunnelHistory::new(status, at))),
        }
        (self.target != one).then(|| self.set_target(one))
    }

    /// Executes a user command. Returns the new target if that changes.
    pub(super) fn handle_command(&mut self, command: KeyCommand) -> Option<Target> {
        let page = isize::try_from(self.page).unwrap_or(isize::MAX);
        match command {
            KeyCommand::Scroll(lines) => self.scroll(lines),
            KeyCommand::Page(pages) => self.scroll(pages.saturating_mul(page)),
            KeyCommand::First => self.scroll(isize::MIN),
            KeyCommand::Last => self.scroll(isize::MAX),
            KeyCommand::Sort => self.order = self.order.step(1),
            KeyCommand::SortBack => self.order = self.order.step(Order::ALL.len() - 1),
            KeyCommand::Reverse => self.is_reversed = !self.is_reversed,
            KeyCommand::List => {
                self.wants_list = true;
                if self.target != Target::Any {
                    self.view = View::Waiting("looking for tunnels".to_owned());
                    return Some(self.set_target(Target::Any));
                }
            }
            KeyCommand::Open => {
                if let View::TunnelList(statuses, selected) = &mut self.view {
                    let chosen = statuses.get(*selected)?.name.clone();
                    self.view = View::Waiting(format!("connecting to {chosen}"));
                    return Some(self.set_target(Target::One(chosen)));
                }
            }
            KeyCommand::Quit | KeyCommand::Redraw => {}
        }
        None
    }

    fn set_target(&mut self, target: Target) -> Target {
        self.offset = 0;
        self.wants_list &= target == Target::Any;
        self.target = target.clone();
        target
    }

    /// Scrolls by lines; the offset is limited to the end when drawing.
    fn scroll(&mut self, lines: isize) {
        match &mut self.view {
            View::TunnelList(statuses, selected) => {
                *selected = selected.saturating_add_signed(lines).min(statuses.len().saturating_sub(1));
            }
            _ => self.offset = self.offset.saturating_add_signed(lines),
        }
    }

    /// Returns the peers of a tunnel in the selected order.
    pub(super) fn ordered<'a>(&self, history: &'a TunnelHistory) -> Vec<&'a TunnelPeer> {
        let mut peers: Vec<_> = history.status.peers.iter().collect();
        let by_order = |a: &&TunnelPeer, b: &&TunnelPeer| match self.order {
            Order::Rate => history.rate(b).both().cmp(&history.rate(a).both()),
            Order::Handshake => b.latest_handshake().cmp(&a.latest_handshake()),
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
