//! Answers health requests once every worker and the supervisor have answered a liveness probe, or
//! one of them has not in time.

use super::budget::{BUDGET, Progress};
use super::checkup::{MAX_WAITING, Probes, Request};
use super::core::Core;
use super::mode::Mode;
use super::pulse::PATIENCE;
use crate::control::health::{HealthListener, Report};

impl Core {
    /// Answers pending requests that are complete, and accepts new ones.
    pub(super) fn drain_health(&mut self, mode: &impl Mode) -> Progress {
        self.answer_health(mode);
        let mut probes = None;
        for _ in 0..BUDGET {
            if self.checkup.0.len() >= MAX_WAITING {
                // handled again when requests are answered
                return Progress::Drained;
            }
            let asker = match self.health.as_ref().map(HealthListener::accept) {
                Some(Ok(Some(asker))) => asker,
                Some(Ok(None)) => continue,
                // no client; or out of descriptors or memory: waiting clients are served at the
                // next request
                Some(Err(_)) | None => return Progress::Drained,
            };
            let probes = *probes.get_or_insert_with(|| Probes {
                round: self.ask_workers(),
                supervisor: self.probe_supervisor(),
            });
            self.checkup.0.push_back(Request { deadline: self.now + PATIENCE, probes, asker });
        }
        Progress::More
    }

    fn answer_health(&mut self, mode: &impl Mode) {
        let mut handshake = None;
        while let Some(request) = self.checkup.0.pop_front() {
            if !self.is_answered(request.probes) && self.now < request.deadline {
                self.checkup.0.push_front(request);
                break;
            }
            let Request { probes, asker, .. } = request;
            let handshake = *handshake.get_or_insert_with(|| mode.handshake(self.now));
            let host = &self.supervisor.host;
            let (warnings, reload_error) = (host.warnings.clone(), host.reload_error.clone());
            asker.answer(&Report { state: self.state(probes), handshake, warnings, reload_error });
        }
    }

    fn is_answered(&self, probes: Probes) -> bool {
        self.pulse.is_complete(probes.round) && self.supervisor.has_answered(probes.supervisor)
    }

    fn state(&self, probes: Probes) -> Result<String, String> {
        let tun = &self.name;
        let round = probes.round;
        if let Some(worker) = self.pulse.missing(round).next() {
            let others = match self.pulse.missing(round).count() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let patience = PATIENCE.as_secs();
            return Err(format!(
                "worker {worker}{others} of {tun} has not turned for {patience} s: it is stuck; restart the tunnel"
            ));
        }
        if !self.supervisor.has_answered(probes.supervisor) {
            let patience = PATIENCE.as_secs();
            return Err(format!(
                "the supervisor of {tun} has not answered for {patience} s: it is stuck; restart the tunnel"
            ));
        }
        if let Some(trouble) = &self.supervisor.host.trouble {
            return Err(trouble.clone());
        }
        if self.link.away {
            Ok(format!(
                "the loop of {tun} answers; the device is in another network namespace and not watched"
            ))
        } else if self.link.up {
            Ok(format!("{tun} is up and its loop answers"))
        } else {
            Err(format!("{tun} is down: set it up again (ip link set {tun} up)"))
        }
    }
}
