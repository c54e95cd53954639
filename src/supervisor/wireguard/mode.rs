//! Implements `Mode` for WireGuard mode.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use super::file::ConfigSource;
use super::state::WireGuard;
use crate::messages::FromTunnel;
use crate::netlink::AccessTable;
use crate::sandbox::AllowedPaths;
use crate::supervisor::context::Context;
use crate::supervisor::hand_over::ModeOffer;
use crate::supervisor::lookups::LookupTarget;
use crate::supervisor::mode::{EventSource, Mode};
use crate::supervisor::path_watch::PathChange;
use crate::supervisor::reconcile::{HostResource, ReconcileOutcome, Requirement};
use wontun_proto::time::Instant;

impl Mode for WireGuard {
    fn allowed_paths(&self) -> AllowedPaths {
        let paths = match &self.source {
            ConfigSource::File(file) => AllowedPaths::for_configuration(&file.path, &file.key_files),
            ConfigSource::Socket => AllowedPaths::default(),
        };
        AllowedPaths { socket_folder: self.uapi.folder(), ..paths }
    }

    fn descriptors(&self) -> Vec<(EventSource, BorrowedFd<'_>, PollFlags)> {
        let mut descriptors = self.uapi.descriptors();
        let ruleset = self.firewall.ruleset.descriptor();
        descriptors.extend(ruleset.map(|watch| (EventSource::Ruleset, watch, PollFlags::POLLIN)));
        descriptors.push((EventSource::Clock, self.access.descriptor(), PollFlags::POLLIN));
        descriptors.extend(self.names.descriptor().map(|(fd, flags)| (EventSource::Names, fd, flags)));
        descriptors.extend(self.admin.descriptors());
        descriptors.extend(self.invitations.descriptors());
        descriptors.extend(self.dns.descriptor().map(|fd| (EventSource::Dns, fd, PollFlags::POLLIN)));
        descriptors
    }

    fn handle_ready(&mut self, context: &mut Context, source: EventSource, events: PollFlags) {
        match source {
            EventSource::Uapi => self.accept_uapi(context.now),
            EventSource::UapiWatch => self.drain_uapi_watch(context),
            EventSource::UapiClient(number) => self.drain_uapi_client(context, number, events),
            EventSource::Ruleset => self.drain_ruleset(context),
            EventSource::Clock => self.handle_clock(context),
            EventSource::Dns => self.dns.drain(context.now),
            EventSource::Names => self.names.drain(context.now),
            EventSource::Admin => self.drain_admin(context, events),
            EventSource::Editor => self.drain_editor(context, events),
            EventSource::Responder => self.drain_responder(context, events),
            EventSource::InvitationEditor => self.drain_invitation_editor(context, events),
            EventSource::Signals
            | EventSource::Tunnel
            | EventSource::Link
            | EventSource::Resolver
            | EventSource::HandOver
            | EventSource::Successor
            | EventSource::Paths => {}
        }
    }

    fn handle_message(&mut self, context: &mut Context, message: FromTunnel) {
        match message {
            FromTunnel::Changed(number) => self.handle_changed(context, number),
            FromTunnel::Answered(number) => self.handle_response_sent(context, number),
            FromTunnel::Endpoint { peer, address, is_confirmed } => {
                self.handle_endpoint(context, &peer, address, is_confirmed);
            }
            FromTunnel::State { sent, peers } => self.handle_state(sent, &peers),
            FromTunnel::Path { peer: Some(peer), remote, local } => {
                self.handle_path(context, &peer, remote, local);
            }
            FromTunnel::LookUp(Some(peer)) => self.look_up(context, &peer),
            FromTunnel::NeedSockets { ipv4, ipv6 } => {
                let (ipv4, ipv6) = self.spare.take(context.now, ipv4, ipv6);
                self.send_spare_sockets(context, ipv4, ipv6);
            }
            // for the other mode, or handled by the event loop
            FromTunnel::Ready
            | FromTunnel::LookUp(None)
            | FromTunnel::Path { peer: None, .. }
            | FromTunnel::CheckCandidate(_)
            | FromTunnel::OuterFamily { .. }
            | FromTunnel::Alive { .. }
            | FromTunnel::Probe(_)
            | FromTunnel::CountDenied(_)
            | FromTunnel::StopRequested
            | FromTunnel::Exported(_)
            | FromTunnel::Imported(_) => {}
        }
    }

    fn handle_addresses(
        &mut self,
        context: &mut Context,
        target: LookupTarget,
        result: Result<Vec<SocketAddr>, String>,
    ) {
        match target {
            LookupTarget::Peer(key) => self.handle_name(context, key, result),
            LookupTarget::Nat64 => self.handle_ipv4only(context, result),
            LookupTarget::Server => {}
        }
    }

    fn mark(&self) -> Option<NonZeroU32> {
        self.mark
    }

    fn count_denied(&mut self) {
        if let Some(rules) = &mut self.firewall.rules {
            rules.count();
        }
    }

    fn denied(&self) -> Option<u64> {
        self.firewall.rules.as_ref().and_then(AccessTable::denied)
    }

    fn handle_paths_compared(&mut self, context: &mut Context, changes: &[PathChange]) {
        self.adapt_to_network(context, changes);
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.uapi.deadline(), self.firewall.ruleset.deadline(), self.routes_deadline()];
        let others = [
            self.endpoint_cache.deadline(),
            self.saved_state.deadline(),
            self.bypass.deadline(),
            self.nat64.deadline(),
            self.names.deadline(),
            self.admin.deadline(),
            self.invitations.deadline(),
        ];
        deadlines.into_iter().chain(others).flatten().min()
    }

    fn handle_timeouts(&mut self, context: &mut Context) {
        self.handle_uapi_timeout(context.now);
        self.handle_ruleset_timeout(context);
        self.handle_route_timeout(context);
        self.handle_endpoint_cache_timeout(context);
        self.handle_nat64_timeout(context);
        self.handle_names_timeout(context);
        self.saved_state.serve(context.now);
        self.close_bypass(context, None);
        self.handle_admin_timeout(context);
        self.handle_invitations_timeout(context);
    }

    fn reload(&mut self, context: &mut Context) -> Result<u32, String> {
        let result = self.reload_file(context);
        if let (Err(error), ConfigSource::File(_)) = (&result, &self.source) {
            context.reconciler.reload_error = Some(error.clone());
        }
        result
    }

    fn handle_renamed(&mut self, context: &mut Context) -> Result<(), String> {
        self.update_device(context)
    }

    fn handle_netns_move(&mut self, context: &mut Context) {
        self.restore_routes(context);
    }

    fn blocks(&self) -> bool {
        WireGuard::blocks(self)
    }

    fn handle_link_up(&mut self, context: &mut Context) {
        self.restore_routes(context);
    }

    fn reconcile(
        &mut self,
        context: &mut Context,
        resource: HostResource,
        may_repair: bool,
    ) -> ReconcileOutcome {
        match resource {
            HostResource::KillSwitch => self.reconcile_kill_switch(context),
            HostResource::Device => context.reconcile_device(self, may_repair),
            HostResource::Addresses => context.reconcile_addresses(may_repair),
            HostResource::Routing => self.reconcile_routing(context, may_repair),
            HostResource::Tables => self.reconcile_tables(context, may_repair),
            HostResource::Settings => self.reconcile_settings(context, may_repair),
        }
    }

    fn unmet_requirements(&self, requirement: Requirement) -> Vec<String> {
        self.unmet_requirements(requirement)
    }

    fn offer(&self) -> Result<ModeOffer, String> {
        self.offer_resources()
    }

    fn settle(&mut self, context: &mut Context) {
        self.settle_after_take_over(context);
    }

    fn save(&mut self) {
        self.saved_state.finish();
    }

    fn finish(mut self, opens_kill_switch: bool) {
        self.saved_state.finish();
        self.dns.stop();
        let kill_switch = self.firewall.kill_switch.take();
        drop(self);
        if let Some(kill_switch) = kill_switch.filter(|_| opens_kill_switch) {
            kill_switch.finish();
        }
    }
}
