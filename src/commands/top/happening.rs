//! What the threads tell the first one.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;

use ratatui::crossterm::event::Event;

use super::answer::Answer;

/// What happened.
pub(super) enum Happening {
    /// A key, or another size of the terminal.
    Terminal(Event),
    /// The terminal says nothing any more.
    Deaf(io::Error),
    /// The tunnel has spoken, or has not.
    Answer(Answer),
    /// A signal asks for the end.
    Stop,
    /// One of our threads is gone.
    Fault,
}

/// A thread whose unexpected end is told.
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
