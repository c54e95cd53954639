//! Interface between the supervisor's event loop and the mode of the tunnel: WireGuard or plain.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use super::context::Context;
use super::hand_over::ModeOffer;
use super::lookups::LookupTarget;
use super::path_watch::PathChange;
use super::reconcile::{HostResource, ReconcileOutcome, Requirement};
use crate::messages::FromTunnel;
use crate::sandbox::AllowedPaths;
use wontun_proto::time::Instant;

/// A source of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    /// Signals.
    Signals,
    /// Messages of the tunnel process.
    Tunnel,
    /// Changes of network devices.
    Link,
    /// Answers of the resolver process.
    Resolver,
    /// Connections of a process that is to take the tunnel over.
    HandOver,
    /// Messages of that process.
    Successor,
    /// Messages of the `dns` process.
    Dns,
    /// The wall clock: a time that the mode waits for, or a clock that was set.
    Clock,
    /// Messages of the process that answers the peers' DNS queries.
    Names,
    /// Messages of the process that serves the admin page.
    Admin,
    /// Messages of the process that edits the file for it.
    Editor,
    /// Messages of the process that enrols devices.
    Responder,
    /// Messages of the process that edits the file for it.
    InvitationEditor,
    /// Changes that may move the path to a peer.
    Paths,
    /// Changes of the host's nf_tables ruleset.
    Ruleset,
    /// Connections to the socket for wg(8).
    Uapi,
    /// Changes of that socket's file.
    UapiWatch,
    /// A client connection of that socket.
    UapiClient(u32),
}

/// Mode-specific part of the supervisor.
pub(crate) trait Mode: Sized {
    /// Returns the files and folders that it opens or removes while it runs.
    fn allowed_paths(&self) -> AllowedPaths;

    /// Returns the descriptors that only this mode waits for.
    fn descriptors(&self) -> Vec<(EventSource, BorrowedFd<'_>, PollFlags)>;

    /// Handles one of these descriptors that is ready.
    fn handle_ready(&mut self, context: &mut Context, source: EventSource, events: PollFlags);

    /// Reads how many packets the rules of peers have denied.
    fn count_denied(&mut self) {}

    /// Returns how many packets the rules of peers had denied when that was read last; `None`
    /// without rules.
    fn denied(&self) -> Option<u64> {
        None
    }

    /// Handles a message of the tunnel process, which is not trusted.
    fn handle_message(&mut self, context: &mut Context, message: FromTunnel);

    /// Handles the answer to a look-up request, and passes it on.
    fn handle_addresses(
        &mut self,
        context: &mut Context,
        target: LookupTarget,
        result: Result<Vec<SocketAddr>, String>,
    );

    /// Returns the mark of the tunnel's datagrams.
    fn mark(&self) -> Option<NonZeroU32>;

    /// Handles a comparison of the paths to the peers, of which the tunnel process knows the
    /// `changes` already.
    fn handle_paths_compared(&mut self, _context: &mut Context, _changes: &[PathChange]) {}

    /// Returns the time at which [`Self::handle_timeouts`] must be called.
    fn deadline(&self) -> Option<Instant>;

    /// Handles deadlines that have passed.
    fn handle_timeouts(&mut self, context: &mut Context);

    /// Reads the configuration again, and applies it. Returns the number with which the tunnel
    /// process acknowledges its part.
    ///
    /// # Errors
    /// The reason why nothing was changed, which was logged.
    fn reload(&mut self, context: &mut Context) -> Result<u32, String>;

    /// Handles a new name or index of the device: updates everything that depends on them. Called
    /// again after an error, which describes what is not updated yet.
    fn handle_renamed(&mut self, context: &mut Context) -> Result<(), String>;

    /// Handles the move of the device to another network namespace.
    fn handle_netns_move(&mut self, context: &mut Context);

    /// Returns true if networks routed into the device are unreachable until it is back.
    fn blocks(&self) -> bool;

    /// Handles the device coming up again.
    fn handle_link_up(&mut self, context: &mut Context);

    /// Compares a resource of the host with the configuration, and restores what is missing if
    /// `may_repair`; policy rules and the routes of their table in any case.
    fn reconcile(
        &mut self,
        context: &mut Context,
        resource: HostResource,
        may_repair: bool,
    ) -> ReconcileOutcome;

    /// Returns a warning for each condition that is not met, as of the last check.
    fn unmet_requirements(&self, requirement: Requirement) -> Vec<String>;

    /// Returns the mode's resources for a process that takes the tunnel over, which this one
    /// continues to use until then.
    ///
    /// # Errors
    /// The reason why the tunnel cannot be taken over.
    fn offer(&self) -> Result<ModeOffer, String> {
        Err("only a WireGuard tunnel that a file describes can be taken over".to_owned())
    }

    /// Sets up the mode's state of the host after the tunnel was taken over from another process,
    /// which has left its own in place. A failure is a warning: the tunnel carries packets already.
    fn settle(&mut self, _context: &mut Context) {}

    /// Writes what has to be known after a restart, before another process takes the tunnel over.
    fn save(&mut self) {}

    /// Removes the mode's state from the host, after the tunnel process has ended. The kill switch
    /// stays engaged unless `opens_kill_switch`.
    fn finish(self, opens_kill_switch: bool);
}
