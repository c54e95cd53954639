//! Events that the threads send to the main thread.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;

use ratatui::crossterm::event::Event;

use super::target::StatusAnswer;

/// An event.
pub(super) enum TopEvent {
    /// A key, or a new size of the terminal.
    Terminal(Event),
    /// The terminal can no longer be read.
    InputError(io::Error),
    /// The result of a status request.
    Status(StatusAnswer),
    /// A terminating signal.
    Stop,
    /// A thread panicked.
    Panic,
}

/// Starts a thread that reports a panic as an event.
pub(super) fn spawn(
    name: &str,
    sender: SyncSender<TopEvent>,
    work: impl FnOnce(&SyncSender<TopEvent>) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let reporter = PanicReporter(sender);
        work(&reporter.0);
    })?;
    Ok(())
}

struct PanicReporter(SyncSender<TopEvent>);

impl Drop for PanicReporter {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(TopEvent::Panic);
        }
    }
}
