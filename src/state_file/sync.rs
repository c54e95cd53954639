//! Writes the file through to the disk, in a thread: that may take seconds.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tracing::debug;

/// Size of the thread's stack in bytes.
const STACK: usize = 128 * 1024;

/// The thread, once it is needed. It ends with the process.
#[derive(Debug, Default)]
pub(super) struct SyncThread(Option<SyncSender<()>>);

impl SyncThread {
    /// Requests that what was written so far reaches the disk. The thread is started at the first
    /// request: the process is confined by then, and so is the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn request(&mut self, file: &File) -> io::Result<()> {
        let requests = match &self.0 {
            Some(requests) => requests,
            None => self.0.insert(start(file.try_clone()?)?),
        };
        match requests.try_send(()) {
            // a pending request covers this one
            Ok(()) | Err(TrySendError::Full(())) => Ok(()),
            Err(TrySendError::Disconnected(())) => Err(io::Error::other("the thread has ended")),
        }
    }
}

fn start(file: File) -> io::Result<SyncSender<()>> {
    let (requests, received) = sync_channel(1);
    let run = move || {
        while received.recv().is_ok() {
            if let Err(error) = file.sync_data() {
                debug!(%error, "cannot write the state file through to the disk");
            }
        }
    };
    thread::Builder::new().name("state".to_owned()).stack_size(STACK).spawn(run)?;
    Ok(requests)
}
