//! Answers health requests once every worker, the thread for handshakes and the supervisor have
//! answered a liveness probe, or one of them has not in time.

use super::budget::{BUDGET, Progress};
use super::core::Core;
use super::health_requests::{HealthRequest, MAX_PENDING, Probes};
use super::liveness::PROBE_TIMEOUT;
use super::protocol::Protocol;
use crate::control::health::{HealthListener, HealthReport};

impl Core {
    /// Answers pending requests that are complete, and accepts new ones.
    pub(super) fn drain_health(&mut self, mode: &impl Protocol) -> Progress {
        self.answer_health(mode);
        let mut probes = None;
        for _ in 0..BUDGET {
            if self.health_requests.0.len() >= MAX_PENDING {
                // handled again when requests are answered
                return Progress::Drained;
            }
            let client = match self.health.as_ref().map(HealthListener::accept) {
                Some(Ok(Some(client))) => client,
                Some(Ok(None)) => continue,
                // no client; or out of descriptors or memory: waiting clients are served at the
                // next request
                Some(Err(_)) | None => return Progress::Drained,
            };
            let probes = *probes.get_or_insert_with(|| Probes {
                threads: self.probe_threads(),
                supervisor: self.probe_supervisor(),
            });
            self.health_requests.0.push_back(HealthRequest {
                deadline: self.now + PROBE_TIMEOUT,
                probes,
                client,
            });
        }
        Progress::More
    }

    fn answer_health(&mut self, mode: &impl Protocol) {
        let mut handshake = None;
        while let Some(request) = self.health_requests.0.pop_front() {
            if !self.is_answered(request.probes) && self.now < request.deadline {
                self.health_requests.0.push_front(request);
                break;
            }
            let HealthRequest { probes, client, .. } = request;
            let handshake = *handshake.get_or_insert_with(|| mode.handshake(self.now));
            let host = &self.supervisor.host;
            let (warnings, reload_error) = (host.warnings.clone(), host.reload_error.clone());
            client.answer(&HealthReport { state: self.state(probes), handshake, warnings, reload_error });
        }
    }

    fn is_answered(&self, probes: Probes) -> bool {
        self.liveness.is_answered(probes.threads) && self.supervisor.has_answered(probes.supervisor)
    }

    fn state(&self, probes: Probes) -> Result<String, String> {
        let tun = &self.name;
        let threads = probes.threads;
        if let Some(thread) = self.liveness.unresponsive(threads).next() {
            let others = match self.liveness.unresponsive(threads).count() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let thread = if thread < self.worker_count() {
                format!("worker {thread}")
            } else {
                "the thread for handshakes".to_owned()
            };
            let timeout = PROBE_TIMEOUT.as_secs();
            return Err(format!(
                "{thread}{others} of {tun} has not responded for {timeout} s: it is stuck; restart the tunnel"
            ));
        }
        if !self.supervisor.has_answered(probes.supervisor) {
            let timeout = PROBE_TIMEOUT.as_secs();
            return Err(format!(
                "the supervisor of {tun} has not answered for {timeout} s: it is stuck; restart the tunnel"
            ));
        }
        if let Some(trouble) = &self.supervisor.host.failure {
            return Err(trouble.clone());
        }
        if self.link.is_in_other_netns {
            Ok(format!(
                "the event loop of {tun} responds; the device is in another network namespace and not monitored"
            ))
        } else if self.link.is_up {
            Ok(format!("{tun} is up and its event loop responds"))
        } else {
            Err(format!("{tun} is down: set it up (ip link set {tun} up)"))
        }
    }
}
