//! Events that the threads send to the main thread.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;

use ratatui::crossterm::event::Event;

use super::answer::Answer;

/// An event.
pub(super) enum Happening {
    /// A key, or a new size of the terminal.
    Terminal(Event),
    /// The terminal can no longer be read.
    Deaf(io::Error),
    /// The result of a status request.
    Answer(Answer),
    /// A terminating signal.
    Stop,
    /// A thread panicked.
    Fault,
}

/// Starts a thread that reports a panic as an event.
pub(super) fn spawn(
    name: &str,
    happens: SyncSender<Happening>,
    work: impl FnOnce(&SyncSender<Happening>) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let telling = TellsOfFault(happens);
        work(&telling.0);
    })?;
    Ok(())
}

struct TellsOfFault(SyncSender<Happening>);

impl Drop for TellsOfFault {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Happening::Fault);
        }
    }
}
