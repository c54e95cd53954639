//! Takes the tunnel over: receives the sessions, passes them to the tunnel process, and sets up the
//! host once the other process has ended.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{SealFlags, fcntl_get_seals};
use tracing::{info, warn};

use super::messages::{FromSuccessor, ToSuccessor};
use crate::messages::{ConnectedSocket, FromTunnel, ToTunnel};
use crate::net::timer::now;
use crate::supervisor::error::{SupervisorError, system};
use crate::supervisor::event_loop::Supervisor;
use crate::supervisor::mode::Mode;

/// Maximum size of the file with the sessions: 60,000 peers.
const MAX_SESSIONS: u64 = 256 << 20;

impl<M: Mode> Supervisor<M> {
    /// Takes the tunnel over from the process that runs it, if there is one. The tunnel process
    /// waits for that.
    ///
    /// # Errors
    /// The other process does not hand it over, and may continue; or the tunnel process has ended.
    pub(crate) fn take_over(&mut self) -> Result<(), SupervisorError> {
        let Some(mut predecessor) = self.predecessor.take() else { return Ok(()) };
        let pid = predecessor.pid();
        let start = now().map_err(system("reading the clock"))?;
        predecessor.send(&FromSuccessor::Freeze)?;
        let (ToSuccessor::Sessions(result), descriptors) = predecessor.receive()? else {
            return Err(predecessor.unexpected().into());
        };
        let imported = match result.and_then(|sockets| check(sockets, descriptors)) {
            Ok((sockets, descriptors)) => self.import(sockets, descriptors)?,
            Err(reason) => Err(reason),
        };
        predecessor.send(&FromSuccessor::Adopt)?;
        let (ToSuccessor::Committed, _) = predecessor.receive()? else {
            return Err(predecessor.unexpected().into());
        };
        // nothing is encrypted before this
        self.context.tunnel.send(&ToTunnel::Proceed);
        let paused = now().map_err(system("reading the clock"))?.since(start);
        let paused = format!("{:.1} ms", paused.as_secs_f64() * 1000.0);
        match imported {
            Ok(peers) => info!(pid, peers, paused, "took the tunnel over, with the sessions of its peers"),
            Err(reason) => warn!(
                pid,
                paused,
                "took the tunnel over without the sessions of its peers, which handshake again: {reason}"
            ),
        }
        if !predecessor.wait_for_end() {
            warn!(
                pid,
                "the process that ran the tunnel has not ended yet, and may own its tables: end it, then reload"
            );
        }
        self.context.now = now().map_err(system("reading the clock"))?;
        self.mode.settle(&mut self.context);
        Ok(())
    }

    /// Passes the sessions to the tunnel process. Returns the number of peers with a session, or
    /// the reason why there are none.
    fn import(
        &mut self,
        sockets: Vec<ConnectedSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Result<u32, String>, SupervisorError> {
        self.context.tunnel.send_with(&ToTunnel::Import(sockets), descriptors);
        self.wait_for_tunnel(|message| match message {
            FromTunnel::Imported(result) => Ok(result),
            other => Err(other),
        })
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
