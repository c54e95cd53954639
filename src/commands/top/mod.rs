//! Implements `wontun top`: shows a running tunnel on a terminal.
//!
//! Three threads wait for keys, for signals and for the tunnel's answers, and send events to the
//! main thread, which alone owns the [`State`] and draws it. It requests what `wontun show` does,
//! at intervals: forwarding packets costs nothing more.

mod events;
mod history;
mod keys;
mod poller;
mod state;
mod target;
pub(in crate::commands) mod text;
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
use events::{TopEvent, spawn};
use keys::KeyCommand;
use poller::Poller;
use state::State;
use target::Target;

/// Options of `wontun top`.
#[derive(Clone, Debug)]
pub(crate) struct TopOptions {
    /// Name of the tunnel; `None` for the only running one, or a list to choose from.
    pub name: Option<TunName>,
    /// Folders that may hold its socket.
    pub folders: UapiFolders,
    /// Refresh interval.
    pub interval: Duration,
}

/// Capacity of the event queue. A terminal that accepts no output blocks the threads that send
/// events.
const EVENT_CAPACITY: usize = 64;

/// Draws the tunnel's peers, rates and drops on the terminal until `q`, Esc, Ctrl-C or SIGTERM;
/// then restores the terminal. Waits for a tunnel that stops to come back.
///
/// # Errors
/// [`CommandError`]: there is no terminal, or this user may not connect to the tunnel.
pub(crate) fn top(options: TopOptions) -> Result<(), CommandError> {
    if !io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    let target = options.name.map_or(Target::Any, Target::One);
    let poller = Poller { folders: options.folders, interval: options.interval };
    let mut state = State::new(target.clone(), options.interval, human::wants_colours());
    let first = poller.ask(&target);
    if let Err(error) = &first.result
        && !poller::is_transient(error)
    {
        return first.result.map(drop);
    }
    let next = state.handle_status(first).unwrap_or(target);

    let (sender, receiver) = sync_channel(EVENT_CAPACITY);
    // before any other thread, which would receive the signal and terminate the process
    watch_signals(sender.clone()).map_err(CommandError::Terminal)?;
    let terminal = ratatui::try_init();
    let result = terminal.map_err(CommandError::Terminal).and_then(|terminal| {
        watch_keys(sender.clone()).map_err(CommandError::Terminal)?;
        let target_sender = poller.start(next, sender).map_err(CommandError::Terminal)?;
        run(terminal, &mut state, &receiver, &target_sender)
    });
    // an earlier error is more important than one of restoring the terminal
    let restored = ratatui::try_restore().map_err(CommandError::Terminal);
    result.and(restored)
}

fn run(
    mut terminal: DefaultTerminal,
    state: &mut State,
    receiver: &Receiver<TopEvent>,
    target_sender: &Sender<Target>,
) -> Result<(), CommandError> {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        terminal.draw(|frame| view::draw(frame, state, now)).map_err(CommandError::Terminal)?;
        let Ok(first) = receiver.recv() else { return Err(CommandError::Panic) };
        // drawn once for all pending events
        for event in std::iter::once(first).chain(receiver.try_iter()) {
            let next = match event {
                TopEvent::Stop => return Ok(()),
                TopEvent::Panic => return Err(CommandError::Panic),
                TopEvent::InputError(error) => return Err(CommandError::Terminal(error)),
                TopEvent::Status(answer) => state.handle_status(answer),
                TopEvent::Terminal(Event::Key(key)) => match keys::command(key) {
                    Some(KeyCommand::Quit) => return Ok(()),
                    Some(KeyCommand::Redraw) => {
                        terminal.clear().map_err(CommandError::Terminal)?;
                        None
                    }
                    Some(command) => state.handle_command(command),
                    None => None,
                },
                TopEvent::Terminal(_) => None,
            };
            if let Some(target) = next {
                // if that thread is gone, it has reported so itself
                let _ = target_sender.send(target);
            }
        }
    }
}

/// Receives terminating signals in a thread: the second one ends the program even if the terminal
/// blocks.
fn watch_signals(sender: SyncSender<TopEvent>) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    spawn("signals", sender, move |sender| {
        let _ = signals.wait();
        let _ = sender.try_send(TopEvent::Stop);
        let _ = signals.thread_unblock();
        loop {
            thread::park();
        }
    })
}

fn watch_keys(sender: SyncSender<TopEvent>) -> io::Result<()> {
    spawn("keys", sender, |sender| {
        loop {
            let (event, ends) = match event::read() {
                Ok(event) => (TopEvent::Terminal(event), false),
                Err(error) => (TopEvent::InputError(error), true),
            };
            if sender.send(event).is_err() || ends {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests;
