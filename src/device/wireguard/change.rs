//! Changes to a running interface, whether wg(8) or the file wants them. Sessions of peers that are not concerned go on.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use tracing::{info, warn};

use super::WireGuard;
use super::peer_log::display_name;
use crate::config::Tuning;
use crate::control::uapi::{Changes, PeerChanges};
use crate::device::core::{Core, system};
use crate::device::sockets::SocketOptions;
use crate::device::{DeviceError, Sockets, SocketsError, Token};
use crate::privileges::Identity;
use crate::tunnel::wireguard::{AddPeerError, Endpoint, Peer, PeerId};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// There are no sockets on the port that is wanted; those in use stay.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The sockets do not take the mark.
    #[error("the mark of outgoing datagrams cannot be set: {0}")]
    Mark(#[source] io::Error),
    /// The kill switch does not let the new port through, or is not switched.
    #[error("the kill switch cannot be changed: {0}")]
    KillSwitch(#[source] io::Error),
}

impl WireGuard {
    /// Applies `changes`, all of them or none.
    ///
    /// # Errors
    /// Outside: the tunnel cannot go on. Inside: what is wanted cannot be done, and nothing was changed.
    pub(super) fn change(
        &mut self,
        core: &mut Core,
        changes: &Changes,
    ) -> Result<Result<(), ChangeError>, DeviceError> {
        let was_locked = self.firewall.is_locked();
        if let Some(is_engaged) = changes.kill_switch
            && let Err(error) = self.firewall.set_kill_switch(is_engaged)
        {
            return Ok(Err(ChangeError::KillSwitch(error)));
        }
        if let Err(error) = self.apply(core, changes)? {
            if changes.kill_switch.is_some()
                && let Err(error) = self.firewall.set_kill_switch(was_locked)
            {
                warn!(%error, "the kill switch is not as it was before");
            }
            return Ok(Err(error));
        }
        self.update_routes(core);
        self.follow_networks();
        Ok(Ok(()))
    }

    /// As [`Self::change`], but the routes are still to be set.
    ///
    /// # Errors
    /// As for [`Self::change`].
    pub(super) fn apply(
        &mut self,
        core: &mut Core,
        changes: &Changes,
    ) -> Result<Result<(), ChangeError>, DeviceError> {
        // what can fail comes first, and takes back what was done until then
        let mark_before = self.fwmark;
        if let Some(mark) = changes.fwmark
            && let Err(error) = self.set_fwmark(NonZeroU32::new(mark))
        {
            return Ok(Err(ChangeError::Mark(error)));
        }
        if let Some(port) = changes.listen_port.filter(|port| *port != self.sockets.port())
            && let Err(error) = self.listen(core, port)?
        {
            return Ok(Err(match self.set_fwmark(mark_before) {
                Ok(()) => error,
                Err(error) => ChangeError::Mark(error),
            }));
        }
        if let Some(private) = &changes.private_key
            && let Some(twin) = self.engine.set_private_key(private.clone(), core.now)
        {
            warn!("a peer that has our own public key is left out");
            self.forget(core, twin);
        }
        if changes.replace_peers {
            let ids: Vec<_> = self.engine.peer_ids().collect();
            for id in ids {
                self.remove_peer(core, id);
            }
        }
        for peer in &changes.peers {
            self.change_peer(core, peer)?;
        }
        Ok(Ok(()))
    }

    fn change_peer(&mut self, core: &mut Core, changes: &PeerChanges) -> Result<(), DeviceError> {
        let known = self.engine.peer_id(&changes.public_key);
        if changes.remove {
            if let Some(id) = known {
                self.remove_peer(core, id);
            }
            return Ok(());
        }
        let id = match known {
            Some(id) => id,
            None if changes.update_only => return Ok(()),
            None => match self.engine.add_peer(changes.public_key) {
                Ok(id) => id,
                Err(error @ (AddPeerError::OwnKey | AddPeerError::Full)) => {
                    let name = changes.name.as_ref().and_then(Option::as_ref);
                    warn!(peer = display_name(name, &changes.public_key), %error, "a peer is left out");
                    return Ok(());
                }
            },
        };
        match &changes.name {
            Some(Some(name)) => drop(self.labels.insert(id, name.clone())),
            Some(None) => drop(self.labels.remove(&id)),
            None => {}
        }
        if let Some(preshared) = &changes.preshared_key {
            self.engine.set_preshared_key(id, preshared.clone());
        }
        if let Some(remote) = changes.endpoint {
            self.names.remove(id);
            self.engine.set_endpoint(id, Some(Endpoint::new(remote)), core.now);
            self.follow(core, id)?;
        }
        if changes.replace_allowed_ips {
            self.allowed_ips.remove_peer(id);
        }
        for change in &changes.allowed_ips {
            if change.remove {
                self.allowed_ips.remove_from(change.prefix, id);
            } else {
                self.allowed_ips.insert(change.prefix, id);
            }
        }
        // last, since it may send something
        if let Some(seconds) = changes.persistent_keepalive {
            let interval = Some(Duration::from_secs(seconds.into()));
            self.engine.set_persistent_keepalive(id, interval, core.now);
        }
        Ok(())
    }

    pub(super) fn remove_peer(&mut self, core: &mut Core, id: PeerId) {
        self.lost += self.engine.peer(id).map_or(0, Peer::lost);
        self.engine.remove_peer(id);
        self.forget(core, id);
    }

    /// Forgets what is kept about a peer that the engine does not know any more.
    fn forget(&mut self, core: &mut Core, id: PeerId) {
        self.names.remove(id);
        self.labels.remove(&id);
        self.connected_at.remove(&id);
        self.peer_log.remove(id);
        self.allowed_ips.remove_peer(id);
        self.disconnect(core, id);
    }

    /// Moves to another port; 0 for any that is free.
    fn listen(&mut self, core: &mut Core, port: u16) -> Result<Result<(), ChangeError>, DeviceError> {
        let mut sockets = match self.sockets.reopen(port) {
            Ok(sockets) => sockets,
            Err(error) => return Ok(Err(error.into())),
        };
        if let Err(error) = self.let_through(self.mark, sockets.port()) {
            return Ok(Err(ChangeError::KillSwitch(error)));
        }
        sockets.set_mark(self.mark).map_err(system("marking a socket"))?;
        for (worker, id, socket) in sockets.disconnected() {
            core.register(worker, socket.as_ref(), Token::Sock(id))?;
        }
        let old = std::mem::replace(&mut self.sockets, sockets);
        let leftovers = self.sockets.succeed(old);
        core.drain_last(leftovers);
        info!(port = self.sockets.port(), "listening on another port");
        Ok(Ok(()))
    }

    /// The mark that was asked for. Where the routes need one they have the last word ([`Self::update_routes`]).
    fn set_fwmark(&mut self, mark: Option<NonZeroU32>) -> io::Result<()> {
        if self.routes.is_none() {
            self.set_mark(mark)?;
        }
        self.fwmark = mark;
        Ok(())
    }

    pub(super) fn set_mark(&mut self, mark: Option<NonZeroU32>) -> io::Result<()> {
        let mark = self.firewall.mark(mark);
        if self.mark != mark {
            self.let_through(mark, self.sockets.port())?;
            self.sockets.set_mark(mark)?;
            self.mark = mark;
        }
        Ok(())
    }
}

/// Sockets of a tunnel that has none yet, for a process that becomes `user`, if there is one.
///
/// # Errors
/// [`SocketsError`], with the remedy.
pub(super) fn open_sockets(
    port: u16,
    tuning: Tuning,
    user: Option<Identity>,
) -> Result<Sockets<PeerId>, SocketsError> {
    let options = SocketOptions {
        workers: tuning.workers,
        offload: tuning.offload,
        tells_class: true,
        has_many_peers: true,
        steers: true,
    };
    Sockets::open(&[], Some(port), false, options, user)
}
