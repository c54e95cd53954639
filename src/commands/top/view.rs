//! Draws the screen.
//!
//! From the top: the tunnel, the total traffic, the drops, the peers, the keys. Smaller terminals
//! show fewer of these; the peers are left out last.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, Wrap};

use super::history::{Rate, TunnelHistory};
use super::state::{Order, State, View};
use super::text::{age, amount, fit, name, rate, sparkline};
use crate::uapi::PeerState;
use crate::uapi::{TunnelPeer, TunnelStatus};

/// Columns of the text in front of a sparkline of all peers.
const TOTALS: u16 = 42;
const RATE: usize = 10;
const AMOUNT: usize = 8;
const AGE: usize = 9;
const STATE: usize = 10;
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws the screen; `now` is the time by the wall clock, since 1970.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, now: Duration) {
    let view = std::mem::replace(&mut state.view, View::Waiting(String::new()));
    match &view {
        View::Tunnel(history) => draw_tunnel(frame, state, history, now),
        View::TunnelList(statuses, selected) => draw_tunnel_list(frame, state, statuses, *selected),
        View::Waiting(why) => draw_waiting(frame, state, why),
    }
    state.view = view;
}

fn draw_tunnel(frame: &mut Frame<'_>, state: &mut State, history: &TunnelHistory, now: Duration) {
    let height = frame.area().height;
    let totals = if height >= 10 { 2 } else { 0 };
    let drops = match height {
        ..8 => 0,
        8..24 => 1,
        _ => 2,
    };
    let keys = u16::from(height >= 6);
    let parts = [1, totals, drops].map(Constraint::Length);
    let parts = parts.into_iter().chain([Constraint::Fill(1), Constraint::Length(keys)]);
    let [title, totals, drops, peers, keys] = *Layout::vertical(parts).split(frame.area()) else { return };
    draw_title(frame, title, state, &history.status);
    draw_totals(frame, totals, state, history);
    draw_drops(frame, drops, state, history);
    let shown = draw_peers(frame, peers, state, history, now);
    draw_keys(frame, keys, state, &shown);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, state: &State, status: &TunnelStatus) {
    let sessions = status.peers.iter().filter(|peer| peer.has_session).count();
    let up = match status.is_up {
        Some(false) => "DOWN",
        _ => "up",
    };
    let mtu = status.mtu.map_or_else(String::new, |mtu| format!(" · mtu {mtu}"));
    let count = status.peers.len();
    let text = format!(
        " {} · {up}{mtu} · port {} · {count} peer{}, {sessions} with a session",
        status.name,
        status.listen_port,
        if count == 1 { "" } else { "s" },
    );
    let style = if status.is_up == Some(false) { colour(state, Color::Red).patch(BAR) } else { BAR };
    bar(frame, area, &text, &format!("every {} s ", state.interval.as_secs_f64()), style);
}

/// Draws a line over the full width; the text at the right is left out if it does not fit.
fn bar(frame: &mut Frame<'_>, area: Rect, left: &str, right: &str, style: Style) {
    let width = usize::from(area.width);
    let left = fit(left, width);
    let room = width.saturating_sub(Span::raw(left.as_str()).width());
    let right = if Span::raw(right).width() < room { right } else { "" };
    let gap = room.saturating_sub(Span::raw(right).width());
    frame.render_widget(Paragraph::new(format!("{left}{:gap$}{right}", "")).style(style), area);
}

fn draw_totals(frame: &mut Frame<'_>, area: Rect, state: &State, history: &TunnelHistory) {
    for (is_sent, row) in [false, true].into_iter().zip(area.rows()) {
        let (what, bars) = if is_sent { ("sent", Color::Cyan) } else { ("received", Color::Green) };
        let of = |rate: Rate| if is_sent { rate.sent } else { rate.received };
        let bytes = history.status.peers.iter().map(|peer| if is_sent { peer.sent } else { peer.received });
        let all = bytes.fold(0, u64::saturating_add);
        let [words, line] = *Layout::horizontal([Constraint::Length(TOTALS), Constraint::Fill(1)]).split(row)
        else {
            return;
        };
        let text = Line::from(vec![
            Span::styled(format!(" {what:<9}"), BOLD),
            Span::raw(format!("{:>RATE$}", rate(of(history.total.rate())))),
            Span::styled(format!("  {:>AMOUNT$} in all", amount(all)), DIM),
        ]);
        frame.render_widget(Paragraph::new(text), words);
        let width = usize::from(line.width);
        let mut values: Vec<_> = history.total.last(width).map(of).collect();
        // the newest value is at the right
        let missing = width.saturating_sub(values.len());
        values.splice(0..0, std::iter::repeat_n(0, missing));
        frame.render_widget(Sparkline::default().data(values).style(colour(state, bars)), line);
    }
}

fn draw_drops(frame: &mut Frame<'_>, area: Rect, state: &State, history: &TunnelHistory) {
    let mut drops: Vec<_> = history.status.dropped.iter().collect();
    drops.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut line = vec![Span::styled(" dropped  ", BOLD)];
    if drops.is_empty() {
        line.push(Span::styled("nothing", DIM));
    }
    for (place, (reason, count)) in drops.into_iter().enumerate() {
        let separator = if place > 0 { ", " } else { "" };
        let now = history.drop_rates.get(reason).copied().unwrap_or_default();
        if now > 0 {
            let text = format!("{separator}{reason} {count} (+{now}/s)");
            line.push(Span::styled(text, colour(state, Color::Red)));
        } else {
            line.push(Span::raw(format!("{separator}{reason} {count}")));
        }
    }
    frame.render_widget(Paragraph::new(Line::from(line)).wrap(Wrap { trim: false }), area);
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Name,
    Endpoint,
    Received,
    Sent,
    Trend,
    State,
    Handshake,
    ReceivedAll,
    SentAll,
}

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Name => "PEER",
            Self::Endpoint => "ENDPOINT",
            Self::Received => "RECEIVED",
            Self::Sent => "SENT",
            Self::Trend => "BOTH WAYS",
            Self::Handshake => "HANDSHAKE",
            Self::State => "STATE",
            Self::ReceivedAll => "RECV ALL",
            Self::SentAll => "SENT ALL",
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Received | Self::Sent | Self::Handshake | Self::ReceivedAll | Self::SentAll)
    }

    fn is_ordered_by(self, order: Order) -> bool {
        matches!(
            (self, order),
            (Self::Name, Order::Name)
                | (Self::Received | Self::Sent, Order::Rate)
                | (Self::Handshake, Order::Handshake)
                | (Self::ReceivedAll | Self::SentAll, Order::Transfer)
        )
    }
}

/// Returns the columns that fit a screen of this width, each with its width; the name gets the
/// rest.
fn columns(width: u16) -> Vec<(Column, usize)> {
    let (endpoint, trend) = if width >= 118 { (25, 14) } else { (21, 10) };
    let all = [
        (Column::Name, 0, 0),
        (Column::Endpoint, endpoint, 56),
        (Column::Received, RATE, 20),
        (Column::Sent, RATE, 32),
        (Column::Trend, trend, 90),
        (Column::State, STATE, 72),
        (Column::Handshake, AGE, 44),
        (Column::ReceivedAll, AMOUNT, 118),
        (Column::SentAll, AMOUNT, 118),
    ];
    let mut columns: Vec<_> = all
        .into_iter()
        .filter(|(_, _, from)| width >= *from)
        .map(|(column, width, _)| (column, width))
        .collect();
    let taken: usize = columns.iter().skip(1).map(|(_, width)| width + 1).sum();
    if let Some((_, name)) = columns.first_mut() {
        *name = usize::from(width).saturating_sub(taken);
    }
    columns
}

/// Draws as many peers as fit, and returns the range of those shown as text.
fn draw_peers(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &mut State,
    history: &TunnelHistory,
    now: Duration,
) -> String {
    let has_header = area.height >= 2;
    let room = usize::from(area.height) - usize::from(has_header);
    let peers = state.ordered(history);
    let count = peers.len();
    state.page = room.max(1);
    state.offset = state.offset.min(count.saturating_sub(room));
    let columns = columns(area.width);
    let header = columns.iter().map(|(column, width)| {
        let ordered = column.is_ordered_by(state.order);
        let text = aligned(*column, column.title(), *width);
        Cell::new(text).style(if ordered { BOLD.add_modifier(Modifier::UNDERLINED) } else { BOLD })
    });
    let rows = peers.into_iter().skip(state.offset).take(room).map(|peer| {
        let cells = columns.iter().map(|(column, width)| cell(state, history, peer, now, *column, *width));
        let row = Row::new(cells.collect::<Vec<_>>());
        if peer.has_session { row } else { row.style(DIM) }
    });
    let widths =
        columns.iter().map(|(_, width)| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX)));
    let mut table = Table::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).column_spacing(1);
    if has_header {
        table = table.header(Row::new(header.collect::<Vec<_>>()));
    }
    frame.render_widget(table, area);
    let last = count.min(state.offset + room);
    if count <= room { String::new() } else { format!("{}–{last} of {count} ", state.offset + 1) }
}

fn cell<'a>(
    state: &State,
    history: &TunnelHistory,
    peer: &TunnelPeer,
    now: Duration,
    column: Column,
    width: usize,
) -> Cell<'a> {
    let current = history.rate(peer);
    let trend = history.trend(peer);
    let text = match column {
        Column::Name => name(peer),
        Column::Endpoint => peer.endpoint.map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string()),
        Column::Received => rate(current.received),
        Column::Sent => rate(current.sent),
        Column::Trend => {
            let rates = trend.into_iter().flat_map(|trend| trend.last(width)).map(Rate::both);
            let bars = sparkline(rates, width);
            return Cell::new(bars).style(colour(state, Color::Green));
        }
        Column::Handshake => age(peer.latest_handshake(), now),
        Column::State => PeerState::of_live(peer).text().to_owned(),
        Column::ReceivedAll => amount(peer.received),
        Column::SentAll => amount(peer.sent),
    };
    let style = match column {
        Column::Name if peer.has_session => colour(state, Color::Yellow),
        Column::Received if current.received > 0 => colour(state, Color::Green),
        Column::Sent if current.sent > 0 => colour(state, Color::Cyan),
        _ => Style::new(),
    };
    Cell::new(aligned(column, &text, width)).style(style)
}

fn aligned(column: Column, text: &str, width: usize) -> String {
    let text = fit(text, width);
    if column.is_number() { format!("{text:>width$}") } else { text }
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect, state: &State, shown: &str) {
    let reversed = if state.is_reversed { ", reversed" } else { "" };
    let text = format!(
        " q quit  s order: {}{reversed}  r reverse  ↑↓ scroll  l list of tunnels",
        state.order.name()
    );
    let short = format!(" q quit  s order: {}{reversed}  r  ↑↓  l", state.order.name());
    // the range of peers shown is more important than the keys
    let fits = Span::raw(text.as_str()).width() + Span::raw(shown).width() < usize::from(area.width);
    bar(frame, area, if fits { &text } else { &short }, shown, BAR);
}

fn draw_tunnel_list(frame: &mut Frame<'_>, state: &mut State, statuses: &[TunnelStatus], selected: usize) {
    let parts = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)];
    let [title, list, keys] = *Layout::vertical(parts).split(frame.area()) else { return };
    bar(frame, title, " select a tunnel", "", BAR);
    let room = usize::from(list.height).max(1);
    state.page = room;
    let offset = selected.saturating_sub(room - 1);
    for ((place, status), row) in statuses.iter().enumerate().skip(offset).zip(list.rows()) {
        let count = status.peers.len();
        let text = format!(
            " {:<15}  port {:<5}  {count} peer{}",
            status.name.as_str(),
            status.listen_port,
            if count == 1 { "" } else { "s" }
        );
        let style = if place == selected { colour(state, Color::Yellow).patch(BAR) } else { Style::new() };
        bar(frame, row, &text, "", style);
    }
    bar(frame, keys, " q quit  ↑↓ select  Enter open", "", BAR);
}

fn draw_waiting(frame: &mut Frame<'_>, state: &State, why: &str) {
    let parts = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)];
    let [title, message, keys] = *Layout::vertical(parts).split(frame.area()) else { return };
    bar(frame, title, " waiting", "", BAR);
    let text = Paragraph::new(Line::styled(why, colour(state, Color::Yellow))).wrap(Wrap { trim: true });
    frame.render_widget(text, message);
    bar(frame, keys, " q quit  l list of tunnels", "", BAR);
}

fn colour(state: &State, colour: Color) -> Style {
    if state.colours { Style::new().fg(colour) } else { Style::new() }
}
