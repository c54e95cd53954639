//! The interface between the supervisor's loop and the mode of the tunnel: WireGuard or plain.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use super::context::Context;
use super::reconcile::{Compared, Need, Piece};
use crate::messages::FromTunnel;
use crate::sandbox::Places;
use crate::time::Instant;
use crate::tunnel::wireguard::PublicKey;

/// A descriptor that the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Signals.
    Signals,
    /// Messages of the tunnel process.
    Tunnel,
    /// Changes of network devices.
    Link,
    /// Answers of the resolver process.
    Resolver,
    /// Changes of the host's nf_tables ruleset.
    Ruleset,
    /// Connections to wg(8)'s socket.
    Uapi,
    /// The file of that socket.
    UapiWatch,
    /// A connection to it.
    UapiClient(u32),
}

/// Part of the supervisor that is different between the modes.
pub trait Mode: Sized {
    /// Returns what is opened or removed while it runs.
    fn places(&self) -> Places;

    /// Returns the descriptors that only this mode waits for.
    fn descriptors(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)>;

    /// Handles one of them that is ready.
    fn handle_ready(&mut self, context: &mut Context, source: Source, events: PollFlags);

    /// Handles a message of the tunnel process, which may say anything.
    fn handle_message(&mut self, context: &mut Context, message: FromTunnel);

    /// Handles the answer to a question about a name, and passes it on.
    fn handle_addresses(
        &mut self,
        context: &mut Context,
        question: Option<PublicKey>,
        result: Result<Vec<SocketAddr>, String>,
    );

    /// Returns the time at which [`Self::handle_timeouts`] is to be called.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due.
    fn handle_timeouts(&mut self, context: &mut Context);

    /// Reads the configuration again (SIGHUP).
    fn reload(&mut self, context: &mut Context);

    /// The device has another name or index: what goes by them is to follow. Called again while
    /// there is an error, which says what does not yet.
    fn handle_renamed(&mut self, context: &mut Context) -> Result<(), String>;

    /// The device is in another network namespace.
    fn handle_away(&mut self, context: &mut Context);

    /// Returns true if what was routed into the device is unreachable until it is back.
    fn blocks(&self) -> bool;

    /// The device is up again.
    fn handle_link_up(&mut self, context: &mut Context);

    /// Compares a piece of the host's state with what is wanted, and puts back what is missing if
    /// it `is_allowed`; policy rules and the routes of their table in any case.
    fn compare(&mut self, context: &mut Context, piece: Piece, is_allowed: bool) -> Compared;

    /// Returns a line for each condition that others do not meet, as it was found last.
    fn unmet(&self, need: Need) -> Vec<String>;

    /// Takes down what was put up, after the tunnel process has ended. The kill switch stays
    /// engaged unless `opens_kill_switch`.
    fn finish(self, opens_kill_switch: bool);
}
