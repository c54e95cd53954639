//! What the keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// All of the screen anew, after something else wrote on it.
    Redraw,
    /// So many lines down, or if negative up.
    Scroll(isize),
    /// So many pages down, or if negative up.
    Page(isize),
    First,
    Last,
    /// The next order of the peers.
    Sort,
    /// The one before.
    SortBack,
    Reverse,
    /// The list of tunnels.
    List,
    /// Take what is marked in the list.
    Choose,
}

/// `None` for a key that means nothing.
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
