//! Key bindings.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A user command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyCommand {
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
    /// Opens the tunnel selected in the list.
    Open,
}

/// Returns the command of a key, if it has one.
pub(super) fn command(key: KeyEvent) -> Option<KeyCommand> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(KeyCommand::Quit),
            KeyCode::Char('l') => Some(KeyCommand::Redraw),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => KeyCommand::Quit,
        KeyCode::Down | KeyCode::Char('j') => KeyCommand::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => KeyCommand::Scroll(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => KeyCommand::Page(1),
        KeyCode::PageUp => KeyCommand::Page(-1),
        KeyCode::Home | KeyCode::Char('g') => KeyCommand::First,
        KeyCode::End | KeyCode::Char('G') => KeyCommand::Last,
        KeyCode::Char('s') => KeyCommand::Sort,
        KeyCode::Char('S') => KeyCommand::SortBack,
        KeyCode::Char('r') => KeyCommand::Reverse,
        KeyCode::Char('l') => KeyCommand::List,
        KeyCode::Enter => KeyCommand::Open,
        _ => return None,
    })
}
