//! Takes the tunnel over: receives the sessions, passes them to the tunnel process, and sets up the
//! host once the other process has ended.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{SealFlags, fcntl_get_seals};
use tracing::{info, warn};

use super::messages::{FromSuccessor, ToSuccessor};
use super::predecessor::Predecessor;
use super::source::TakeOverSource;
use super::store::Stored;
use crate::messages::{ConnectedSocket, FromTunnel, ToTunnel};
use crate::net::timer::now;
use crate::supervisor::error::{SupervisorError, system};
use crate::supervisor::event_loop::Supervisor;
use crate::supervisor::mode::Mode;

/// Maximum size of the file with the sessions: 60,000 peers.
const MAX_SESSIONS: u64 = 256 << 20;

impl<M: Mode> Supervisor<M> {
    /// Takes the tunnel over from the process that runs it, or from the service manager, if there
    /// is one to take over. The tunnel process waits for that.
    ///
    /// # Errors
    /// The other process does not hand it over, and may continue; or the tunnel process has ended.
    pub(crate) fn take_over(&mut self) -> Result<(), SupervisorError> {
        match self.take_over_from.take() {
            Some(TakeOverSource::Process(predecessor)) => self.take_over_from_process(predecessor),
            Some(TakeOverSource::Store(stored)) => self.take_over_from_store(stored),
            None => Ok(()),
        }
    }

    fn take_over_from_process(&mut self, mut predecessor: Predecessor) -> Result<(), SupervisorError> {
        let pid = predecessor.pid();
        let start = now().map_err(system("reading the clock"))?;
        predecessor.send(&FromSuccessor::Freeze)?;
        let (ToSuccessor::Sessions(result), descriptors) = predecessor.receive()? else {
            return Err(predecessor.unexpected().into());
        };
        let imported = self.import(result.map(|sockets| (sockets, descriptors)))?;
        predecessor.send(&FromSuccessor::Adopt)?;
        let (ToSuccessor::Committed, _) = predecessor.receive()? else {
            return Err(predecessor.unexpected().into());
        };
        // nothing is encrypted before this
        self.context.tunnel.send(&ToTunnel::Proceed);
        let paused = now().map_err(system("reading the clock"))?.since(start);
        log_taken_over(&imported, &format!("{:.1} ms", paused.as_secs_f64() * 1000.0), Some(pid));
        if !predecessor.wait_for_end() {
            warn!(
                pid,
                "the process that ran the tunnel has not ended yet, and may own its tables: end it, then reload"
            );
        }
        self.settle()
    }

    fn take_over_from_store(&mut self, mut stored: Stored) -> Result<(), SupervisorError> {
        // removed first: afterwards no other process can use them
        let sessions = stored.remove(self.context.service_manager.notifier());
        let sessions = sessions.map_err(|error| format!("the service manager may still have them: {error}"));
        let sessions = sessions.and_then(|()| stored.take_sessions());
        let imported = self.import(sessions)?;
        self.context.tunnel.send(&ToTunnel::Proceed);
        log_taken_over(&imported, "for the restart", None);
        self.settle()
    }

    fn settle(&mut self) -> Result<(), SupervisorError> {
        self.context.now = now().map_err(system("reading the clock"))?;
        self.mode.settle(&mut self.context);
        Ok(())
    }

    /// Passes the sessions to the tunnel process. Returns the number of peers with a session, or
    /// the reason why there are none.
    fn import(
        &mut self,
        sessions: Result<(Vec<ConnectedSocket>, Vec<OwnedFd>), String>,
    ) -> Result<Result<u32, String>, SupervisorError> {
        let (sockets, descriptors) =
            match sessions.and_then(|(sockets, descriptors)| check(sockets, descriptors)) {
                Ok(checked) => checked,
                Err(reason) => return Ok(Err(reason)),
            };
        self.context.tunnel.send_with(&ToTunnel::Import(sockets), descriptors);
        self.wait_for_tunnel(|message| match message {
            FromTunnel::Imported(result) => Ok(result),
            other => Err(other),
        })
    }
}

fn log_taken_over(imported: &Result<u32, String>, paused: &str, pid: Option<i32>) {
    match imported {
        Ok(peers) => info!(pid, peers, paused, "took the tunnel over, with the sessions of its peers"),
        Err(reason) => warn!(
            pid,
            paused, "took the tunnel over without the sessions of its peers, which handshake again: {reason}"
        ),
    }
}

/// Checks that the file with the sessions, which is the first descriptor, cannot change any more.
fn check(
    sockets: Vec<ConnectedSocket>,
    descriptors: Vec<OwnedFd>,
) -> Result<(Vec<ConnectedSocket>, Vec<OwnedFd>), String> {
    let sessions = descriptors.first().filter(|_| descriptors.len() == sockets.len() + 1);
    let sessions = sessions.ok_or("descriptors are missing")?;
    let seals = fcntl_get_seals(sessions).map_err(|error| format!("they are no memory file: {error}"))?;
    let needed = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    let size = sessions.try_clone().and_then(|file| File::from(file).metadata()).map(|file| file.len());
    if !seals.contains(needed) || size.is_ok_and(|size| size > MAX_SESSIONS) {
        return Err("their file is not sealed, or too large".to_owned());
    }
    Ok((sockets, descriptors))
}
