//! Requests the status of the tunnel at intervals.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel};
use std::time::{Duration, Instant};

use super::events::{TopEvent, spawn};
use super::target::{StatusAnswer, Target};
use crate::commands::CommandError;
use crate::uapi::client;
use crate::uapi::{ClientError, UapiFolders};

/// Configuration of the requests.
#[derive(Debug)]
pub(super) struct Poller {
    pub(super) folders: UapiFolders,
    pub(super) interval: Duration,
}

/// Returns true if a later request may succeed: the tunnel does not run, or hangs.
pub(super) const fn is_transient(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::NoneRunning
            | CommandError::Client(ClientError::NotRunning(_) | ClientError::Timeout(_))
    )
}

impl Poller {
    /// Sends one request.
    pub(super) fn ask(&self, target: &Target) -> StatusAnswer {
        let result = match target {
            Target::One(tun) => client::status_by_name(&self.folders, tun)
                .map(|status| vec![status])
                .map_err(CommandError::from),
            Target::Any => match client::status_of_all(&self.folders) {
                (statuses, None) if statuses.is_empty() => Err(CommandError::NoneRunning),
                (statuses, Some(error)) if statuses.is_empty() => Err(error.into()),
                (statuses, _) => Ok(statuses),
            },
        };
        StatusAnswer { target: target.clone(), at: Instant::now(), result }
    }

    /// Starts requests at intervals, in a thread. Returns a sender for a new target, which is
    /// requested at once.
    ///
    /// # Errors
    /// An error of the system: the thread cannot be created.
    pub(super) fn start(self, target: Target, sender: SyncSender<TopEvent>) -> io::Result<Sender<Target>> {
        let (target_sender, target_receiver) = channel();
        spawn("poller", sender, move |sender| {
            let mut target = target;
            // the first answer is there already, and two at the same time would give no rate
            let mut wait = self.interval;
            loop {
                match target_receiver.recv_timeout(wait) {
                    Ok(command) => target = command,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let begin = Instant::now();
                if sender.send(TopEvent::Status(self.ask(&target))).is_err() {
                    return;
                }
                wait = self.interval.saturating_sub(begin.elapsed());
            }
        })?;
        Ok(target_sender)
    }
}
