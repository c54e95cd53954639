//! Names of endpoints, looked up before the routes lead everything into a tunnel that is not there
//! yet.
//!
//! A name server on this host (dnsmasq, unbound, …) asks others with sockets that are not ours to
//! mark, and once the routes are set its questions wait for the tunnel, which waits for the name.
//! Those who are behind it are asked past the tunnel afterwards, but are not known everywhere.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::WireGuard;
use crate::config::wg_quick::{Table, WgQuick};
use crate::io::timer::now;
use crate::supervisor::context::Context;
use crate::supervisor::{SupervisorError, system};

/// Time for all names together: a name server that is silent, or a network that is not there yet,
/// holds up the start no longer.
const LIMIT: Duration = Duration::from_secs(2);

impl WireGuard {
    /// Looks up the names of a full tunnel's peers, whose answers are kept until the tunnel process
    /// asks for them. What is not answered in time is asked for again by the tunnel. With a kill
    /// switch only marked questions leave this host, and they do so afterwards as well.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub(super) fn look_up_before_routes(
        &mut self,
        context: &mut Context,
        configuration: &WgQuick,
    ) -> Result<(), SupervisorError> {
        let sets_routes = configuration.interface.table != Table::Off && configuration.is_full_tunnel();
        if !sets_routes || self.firewall.kill_switch.is_some() {
            return Ok(());
        }
        for (key, host, port) in self.peers.hosts() {
            if let Err(error) = context.lookups.request(Some(*key), host, port, self.mark) {
                debug!(%error, host, "a name is not looked up before the routes are set");
            }
        }
        let start = now().map_err(system("reading the clock"))?;
        context.now = start;
        while context.lookups.is_asked() {
            let left = LIMIT.saturating_sub(context.now.since(start));
            let Some(descriptor) = context.lookups.descriptor() else { break };
            if left.is_zero() {
                break;
            }
            wait(descriptor, left);
            context.now = now().map_err(system("reading the clock"))?;
            for (question, result) in context.lookups.poll_answer(context.now) {
                if let (Some(key), Ok(addresses)) = (question, result) {
                    self.peers.take_early(&key, addresses);
                }
            }
        }
        if context.lookups.is_asked() {
            debug!("not all names were looked up before the routes are set");
            // it would wait for an answer that cannot come any more
            if let Err(error) = context.lookups.abandon(&mut context.nursery, context.now) {
                warn!(%error, "the resolver process cannot be started again; trying again later");
            }
        }
        Ok(())
    }
}

/// Waits until `descriptor` is readable, for `limit` at most.
fn wait(descriptor: BorrowedFd<'_>, limit: Duration) {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    let limit = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX).max(1);
    // an error of poll(2) ends like its time
    let _ = poll(&mut descriptors, PollTimeout::from(limit));
}
