//! Handshake messages in steps: the Curve25519 operations of each, some 200 µs, do not need the
//! interface. A caller that shares it between threads does them without the lock, which it holds
//! for a few microseconds to begin the handshake and to apply each result.
//!
//! Meanwhile the private key or a preshared key may be replaced, the peer be removed, or another
//! handshake message of the peer be applied first. A result that this has made obsolete is dropped
//! like a message that is lost.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::{Interface, list_events};
use crate::stack;
use crate::time::Instant;
use crate::wireguard::endpoint::Endpoint;
use crate::wireguard::index::PeerId;
use crate::wireguard::key::{KEY_LEN, PresharedKey};
use crate::wireguard::message::{Initiation, RESPONSE_NOISE_LEN, Response};
use crate::wireguard::noise::{Identity, InitiationError, Initiator, Responder, SessionKeys, StaticSecrets};
use crate::wireguard::queued::Handshake;
use crate::wireguard::random;
use crate::wireguard::timestamp::Timestamp;
use wontun_packet::DropReason;

/// A part of the work on a handshake message for which the interface is not needed.
#[must_use]
pub struct HandshakeStep {
    origin: Origin,
    work: Work,
}

/// The result of a step, for [`Interface::continue_handshake`].
#[must_use]
pub struct HandshakeStepResult {
    origin: Origin,
    outcome: Outcome,
}

/// State of a handshake message that is being handled.
#[must_use]
#[expect(clippy::large_enum_variant, reason = "a step that is moved out of a box leaves its keys there")]
pub enum HandshakeProgress {
    /// A step follows.
    Next(HandshakeStep),
    /// The message was handled: its peer, or the reason to drop it.
    Done(Result<PeerId, DropReason>),
}

/// Sender of a message, and the key that it was for.
#[derive(Clone, Copy)]
struct Origin {
    from: Endpoint,
    /// Value of `Interface::identity_changes`.
    identity: u64,
}

enum Work {
    /// Reading an initiation.
    Read {
        message: Initiation,
        identity: Identity,
        secrets: StaticSecrets,
        ephemeral: Zeroizing<[u8; KEY_LEN]>,
    },
    /// Writing the response to it.
    Respond { peer: PeerId, message: Initiation, responder: Responder, preshared: PresharedKey },
    /// Reading a response.
    Finish { peer: PeerId, message: Response, initiator: Arc<Mutex<Initiator>>, preshared: PresharedKey },
}

enum Outcome {
    Read {
        message: Initiation,
        responder: Result<Responder, InitiationError>,
    },
    Response {
        peer: PeerId,
        message: Initiation,
        timestamp: Timestamp,
        preshared: PresharedKey,
        written: Result<([u8; RESPONSE_NOISE_LEN], SessionKeys), DropReason>,
    },
    Finished {
        peer: PeerId,
        message: Response,
        preshared: PresharedKey,
        keys: Result<SessionKeys, DropReason>,
    },
}

impl HandshakeStep {
    /// Does the step. Leaves secrets on the stack, see [`stack::isolate`].
    pub fn compute(self) -> HandshakeStepResult {
        let outcome = match self.work {
            Work::Read { message, identity, secrets, ephemeral } => Outcome::Read {
                message,
                responder: Responder::new(&identity, &secrets, ephemeral, &message.noise),
            },
            Work::Respond { peer, message, responder, preshared } => {
                let timestamp = responder.timestamp;
                let written = responder.finish(&preshared);
                Outcome::Response { peer, message, timestamp, preshared, written }
            }
            Work::Finish { peer, message, initiator, preshared } => {
                let mut initiator = initiator.lock().unwrap_or_else(PoisonError::into_inner);
                let keys = initiator.finish(&preshared, &message.noise);
                Outcome::Finished { peer, message, preshared, keys }
            }
        };
        HandshakeStepResult { origin: self.origin, outcome }
    }
}

impl Interface {
    /// Returns the number of handshake messages that wait for [`Self::handle_queued`] or
    /// [`Self::begin_handshake`]. More may wait for [`Self::poll_timeout`].
    pub fn queued(&self) -> usize {
        self.admission.waiting()
    }

    /// Returns the number of handshake messages beyond their source's rate limit, which wait until
    /// the queue is nearly empty.
    pub fn backlog(&self) -> usize {
        self.admission.backlog()
    }

    /// Processes one handshake message: the Curve25519 operations, some 200 µs. The caller calls it
    /// a few times per turn of its loop, after the data. Returns `None` if none waits, otherwise
    /// the peer or the reason to drop the message. Leaves no secrets on the stack.
    pub fn handle_queued(&mut self, now: Instant) -> Option<Result<PeerId, DropReason>> {
        stack::isolate(|| {
            let mut progress = self.begin_handshake(now)?;
            loop {
                match progress {
                    HandshakeProgress::Next(step) => progress = self.continue_handshake(step.compute(), now),
                    HandshakeProgress::Done(handled) => return Some(handled),
                }
            }
        })
    }

    /// Begins with the handshake message that waited longest; returns `None` if none waits. The
    /// caller computes each step that follows and passes its result to
    /// [`Self::continue_handshake`], all of it within [`stack::isolate`].
    pub fn begin_handshake(&mut self, now: Instant) -> Option<HandshakeProgress> {
        let (from, handshake) = self.admission.poll_handshake()?;
        let origin = Origin { from, identity: self.identity_changes };
        Some(match self.first_work(handshake, now) {
            Ok(work) => HandshakeProgress::Next(HandshakeStep { origin, work }),
            Err(reason) => HandshakeProgress::Done(Err(reason)),
        })
    }

    /// Continues with the result of a step.
    pub fn continue_handshake(&mut self, result: HandshakeStepResult, now: Instant) -> HandshakeProgress {
        let HandshakeStepResult { origin, outcome } = result;
        if origin.identity != self.identity_changes {
            return HandshakeProgress::Done(Err(DropReason::Handshake));
        }
        let handled = match outcome {
            Outcome::Read { message, responder } => {
                match self.accept_initiation(&origin, message, responder, now) {
                    Ok(work) => return HandshakeProgress::Next(HandshakeStep { origin, work }),
                    Err(reason) => Err(reason),
                }
            }
            Outcome::Response { peer, message, timestamp, preshared, written } => {
                self.install_response(peer, &message, timestamp, &preshared, written, now).map(|()| peer)
            }
            Outcome::Finished { peer, message, preshared, keys } => {
                self.install_initiated(&origin, peer, &message, &preshared, keys, now).map(|()| peer)
            }
        };
        if let Ok(id) = handled {
            self.queue_work(id, now);
        }
        HandshakeProgress::Done(handled)
    }

    fn first_work(&mut self, handshake: Handshake, now: Instant) -> Result<Work, DropReason> {
        let (context, peers) = self.split()?;
        Ok(match handshake {
            Handshake::Initiation(message) => Work::Read {
                message,
                identity: context.identity.clone(),
                secrets: context.secrets.clone(),
                ephemeral: random::bytes(context.random).into(),
            },
            Handshake::Response(message) => {
                let id = context.indices.peer(message.receiver).ok_or(DropReason::UnknownIndex)?;
                let peer = peers.lock(id).ok_or(DropReason::UnknownIndex)?;
                let initiator = peer.initiator(message.receiver, now).ok_or(DropReason::Handshake)?;
                Work::Finish { peer: id, message, initiator, preshared: peer.preshared_key().clone() }
            }
        })
    }

    fn accept_initiation(
        &mut self,
        origin: &Origin,
        message: Initiation,
        responder: Result<Responder, InitiationError>,
        now: Instant,
    ) -> Result<Work, DropReason> {
        let responder = responder.map_err(|error| {
            if let InitiationError::UnknownPeer(public) = error {
                self.unknown = Some((origin.from.remote, public));
            }
            error.reason()
        })?;
        let id = self.peers.by_key(&responder.peer).ok_or(DropReason::UnknownPeer)?;
        let mut peer = self.peers.lock(id).ok_or(DropReason::UnknownPeer)?;
        let accepted = peer.accept_initiation(origin.from, responder.timestamp, now);
        let preshared = peer.preshared_key().clone();
        // also of a clock that was set back
        list_events(&mut peer, &mut self.events);
        accepted.map(|()| Work::Respond { peer: id, message, responder, preshared })
    }

    fn install_response(
        &mut self,
        id: PeerId,
        initiation: &Initiation,
        timestamp: Timestamp,
        preshared: &PresharedKey,
        written: Result<([u8; RESPONSE_NOISE_LEN], SessionKeys), DropReason>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let (mut context, peers) = self.split()?;
        let mut peer = peers.lock(id).ok_or(DropReason::UnknownPeer)?;
        if peer.preshared_key() != preshared {
            return Err(DropReason::Handshake);
        }
        if peer.latest_timestamp() != Some(timestamp) {
            return Err(DropReason::OldInitiation);
        }
        let (noise, keys) = written?;
        peer.install_response(&mut context, initiation, noise, &keys, now)
    }

    fn install_initiated(
        &mut self,
        origin: &Origin,
        id: PeerId,
        response: &Response,
        preshared: &PresharedKey,
        keys: Result<SessionKeys, DropReason>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let (mut context, peers) = self.split()?;
        let mut peer = peers.lock(id).ok_or(DropReason::UnknownIndex)?;
        // another response may have been applied meanwhile
        if peer.preshared_key() != preshared || peer.initiator(response.receiver, now).is_none() {
            return Err(DropReason::Handshake);
        }
        peer.install_initiated(&mut context, origin.from, response, &keys?, now)
    }
}
