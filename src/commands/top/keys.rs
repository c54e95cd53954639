//! Key bindings.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A user command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// Redraws the whole screen, after another program wrote to it.
    Redraw,
    /// Scrolls down by so many lines, up if negative.
    Scroll(isize),
    /// Scrolls down by so many pages, up if negative.
    Page(isize),
    First,
    Last,
    /// Selects the next order of the peers.
    Sort,
    /// Selects the previous order.
    SortBack,
    Reverse,
    /// Shows the list of tunnels.
    List,
    /// Opens the tunnel marked in the list.
    Choose,
}

/// Returns the command of a key, if it has one.
pub(super) fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Wish::Quit),
            KeyCode::Char('l') => Some(Wish::Redraw),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Down | KeyCode::Char('j') => Wish::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => Wish::Scroll(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::Page(1),
        KeyCode::PageUp => Wish::Page(-1),
        KeyCode::Home | KeyCode::Char('g') => Wish::First,
        KeyCode::End | KeyCode::Char('G') => Wish::Last,
        KeyCode::Char('s') => Wish::Sort,
        KeyCode::Char('S') => Wish::SortBack,
        KeyCode::Char('r') => Wish::Reverse,
        KeyCode::Char('l') => Wish::List,
        KeyCode::Enter => Wish::Choose,
        _ => return None,
    })
}
