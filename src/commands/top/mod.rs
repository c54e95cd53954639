//! Implements `wontun top`: shows a running tunnel on a terminal.
//!
//! Three threads wait for keys, for signals and for the tunnel's answers, and send events to the
//! main thread, which alone owns the [`State`] and draws it. It requests what `wontun show` does,
//! at intervals: forwarding packets costs nothing more.

mod answer;
mod asker;
mod happening;
mod history;
mod keys;
mod state;
mod text;
mod view;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, Signal};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use super::error::CommandError;
use super::show::human;
use crate::config::TunName;
use crate::uapi::UapiFolders;
use answer::Target;
use asker::Asker;
use happening::{Happening, spawn};
use keys::Wish;
use state::State;

/// Options of `wontun top`.
#[derive(Clone, Debug)]
pub struct TopOptions {
    /// Name of the tunnel; `None` for the only running one, or a list to choose from.
    pub name: Option<TunName>,
    /// Folders that may hold its socket.
    pub folders: UapiFolders,
    /// Refresh interval.
    pub interval: Duration,
}

/// Capacity of the event queue. A terminal that accepts no output blocks the threads that send
/// events.
const WAITING: usize = 64;

/// Draws the tunnel's peers, rates and drops on the terminal until `q`, Esc, Ctrl-C or SIGTERM;
/// then restores the terminal. Waits for a tunnel that stops to come back.
///
/// # Errors
/// [`CommandError`]: there is no terminal, or this user may not connect to the tunnel.
pub fn top(options: TopOptions) -> Result<(), CommandError> {
    if !io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    let target = options.name.map_or(Target::Any, Target::One);
    let asker = Asker { folders: options.folders, interval: options.interval };
    let mut state = State::new(target.clone(), options.interval, human::wants_colours());
    let first = asker.ask(&target);
    if let Err(error) = &first.found
        && !asker::may_change(error)
    {
        return first.found.map(drop);
    }
    let next = state.handle_answer(first).unwrap_or(target);

    let (happens, happenings) = sync_channel(WAITING);
    // before any other thread, which would receive the signal and terminate the process
    watch_signals(happens.clone()).map_err(CommandError::Terminal)?;
    let terminal = ratatui::try_init();
    let result = terminal.map_err(CommandError::Terminal).and_then(|terminal| {
        watch_keys(happens.clone()).map_err(CommandError::Terminal)?;
        let wanted = asker.start(next, happens).map_err(CommandError::Terminal)?;
        run(terminal, &mut state, &happenings, &wanted)
    });
    // an earlier error is more important than one of restoring the terminal
    let restored = ratatui::try_restore().map_err(CommandError::Terminal);
    result.and(restored)
}

fn run(
    mut terminal: DefaultTerminal,
    state: &mut State,
    happenings: &Receiver<Happening>,
    wanted: &Sender<Target>,
) -> Result<(), CommandError> {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        terminal.draw(|frame| view::draw(frame, state, now)).map_err(CommandError::Terminal)?;
        let Ok(first) = happenings.recv() else { return Err(CommandError::Fault) };
        // drawn once for all pending events
        for happening in std::iter::once(first).chain(happenings.try_iter()) {
            let next = match happening {
                Happening::Stop => return Ok(()),
                Happening::Fault => return Err(CommandError::Fault),
                Happening::Deaf(error) => return Err(CommandError::Terminal(error)),
                Happening::Answer(answer) => state.handle_answer(answer),
                Happening::Terminal(Event::Key(key)) => match keys::wish(key) {
                    Some(Wish::Quit) => return Ok(()),
                    Some(Wish::Redraw) => {
                        terminal.clear().map_err(CommandError::Terminal)?;
                        None
                    }
                    Some(wish) => state.handle_wish(wish),
                    None => None,
                },
                Happening::Terminal(_) => None,
            };
            if let Some(target) = next {
                // if that thread is gone, it has reported so itself
                let _ = wanted.send(target);
            }
        }
    }
}

/// Receives terminating signals in a thread: the second one ends the program even if the terminal
/// blocks.
fn watch_signals(happens: SyncSender<Happening>) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    spawn("signals", happens, move |happens| {
        let _ = signals.wait();
        let _ = happens.try_send(Happening::Stop);
        let _ = signals.thread_unblock();
        loop {
            thread::park();
        }
    })
}

fn watch_keys(happens: SyncSender<Happening>) -> io::Result<()> {
    spawn("keys", happens, |happens| {
        loop {
            let (happening, ends) = match event::read() {
                Ok(event) => (Happening::Terminal(event), false),
                Err(error) => (Happening::Deaf(error), true),
            };
            if happens.send(happening).is_err() || ends {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests;
