//! systemd-resolved: the name servers are set for the tunnel's link, over D-Bus.
//!
//! | File | Content |
//! |---|---|
//! | `mod.rs` | the back end |
//! | `detect.rs` | whether resolved answers this host's queries |
//! | `error.rs` | reasons why settings cannot be applied |
//! | `open.rs` | the connections to the bus, opened while this process has its privileges |
//! | `calls.rs` | the calls, and the comparison with what resolved says |
//! | `setter.rs` | the process that has root's connection to the bus |
//! | `connection.rs` | calls with a deadline, signals |
//! | `wire.rs` | messages as bytes |
//!
//! Changes by other programs (NetworkManager, networkd, resolvectl) are seen by signals: resolved
//! emits one at each change of a link's servers. They only cause a comparison. There is none for a
//! change of domains alone, so the link is also compared every ten seconds.

mod calls;
mod connection;
mod detect;
mod error;
mod open;
mod setter;
mod wire;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Backend, DnsError, DnsEvent, DnsSettings};
use crate::net::timer::now;
use crate::repair_limit::RepairLimit;
use crate::sandbox::{Sandbox, SandboxError};
use calls::{LinkSettings, Service};
use connection::{BusError, Connection, connect_and_greet};
use detect::RESOLV_CONF;
pub(super) use detect::{Role, role};
use error::EFFECT;
pub(super) use error::ResolvedError;
pub(super) use open::Connections;
use setter::{Setter, SetterRequest};
use wontun_proto::time::Instant;

/// Interval of attempts to connect to a bus that was restarted.
const RECONNECT: Duration = Duration::from_secs(5);
/// Interval of comparisons that no signal causes.
const INTERVAL: Duration = Duration::from_secs(10);
/// Signals: changes of resolved's properties, and its start and end.
const MATCHES: [&str; 2] = [
    "type='signal',sender='org.freedesktop.resolve1',path='/org/freedesktop/resolve1',\
     interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
     member='NameOwnerChanged',arg0='org.freedesktop.resolve1'",
];

/// The back end.
#[derive(Debug)]
pub(super) struct Resolved {
    /// `None` while the bus is gone.
    connection: Option<Connection>,
    /// `None` if this process's own user sets the name servers.
    setter: Option<Setter>,
    applied: Option<Applied>,
    limit: RepairLimit,
    /// Time of the next comparison that no signal causes.
    check_at: Option<Instant>,
    /// True once the loss of the service was reported, until it is back.
    is_lost: bool,
    /// Role of systemd-resolved for programs that read /etc/resolv.conf.
    role: Role,
}

#[derive(Clone, Debug)]
struct Applied {
    settings: DnsSettings,
    service: Service,
}

impl Resolved {
    /// Completes the connections, and asks whether the service runs.
    ///
    /// # Errors
    /// [`ResolvedError`].
    pub(super) fn open(connections: Connections) -> Result<Self, ResolvedError> {
        let Connections { observer, setter } = connections;
        let connection = Connection::greeted(observer)?;
        let limit = RepairLimit::default();
        let mut resolved = Self {
            connection: None,
            setter,
            applied: None,
            limit,
            check_at: None,
            is_lost: false,
            role: role(),
        };
        resolved.watch(connection)?;
        resolved.connection()?.name_owner(Service::Resolved.name()).map_err(ResolvedError::of)?;
        Ok(resolved)
    }

    /// Subscribes to signals.
    fn watch(&mut self, mut connection: Connection) -> Result<(), ResolvedError> {
        for rule in MATCHES {
            connection.add_match(rule)?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Removes what was applied.
    fn remove(&mut self, applied: &Applied) -> Result<(), ResolvedError> {
        let Applied { settings, service } = applied;
        match &self.setter {
            Some(setter) => Ok(setter.send(&SetterRequest::Revert(*service, settings.clone()))?),
            None => {
                let connection = self.connection.as_mut().ok_or(BusError::Closed)?;
                LinkSettings::from(settings).revert(connection, *service).map_err(ResolvedError::of)
            }
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, BusError> {
        self.connection.as_mut().ok_or(BusError::Closed)
    }

    fn is_intact(&mut self, settings: &DnsSettings) -> Result<bool, ResolvedError> {
        let wanted = LinkSettings::from(settings);
        let observed = wanted.observe(self.connection()?).map_err(ResolvedError::of)?;
        Ok(wanted.is_same(&observed))
    }

    /// Sets the name servers by the service that has this link's, and returns that.
    fn set(&mut self, settings: &DnsSettings) -> Result<Service, ResolvedError> {
        let result = self.set_by(Service::Resolved, settings);
        let is_managed = match &result {
            Err(ResolvedError::Bus(BusError::Method { name, .. })) => {
                name == "org.freedesktop.resolve1.LinkBusy"
            }
            // the setter does not read what the reason is
            Err(ResolvedError::NoEffect) => self.connection()?.name_owner(Service::Networkd.name()).is_ok(),
            _ => false,
        };
        if is_managed {
            return self.set_by(Service::Networkd, settings).map(|()| Service::Networkd);
        }
        result.map(|()| Service::Resolved)
    }

    fn set_by(&mut self, service: Service, settings: &DnsSettings) -> Result<(), ResolvedError> {
        match &self.setter {
            Some(setter) => setter.send(&SetterRequest::Set(service, settings.clone()))?,
            None => {
                let connection = self.connection.as_mut().ok_or(BusError::Closed)?;
                LinkSettings::from(settings).set(connection, service).map_err(ResolvedError::of)?;
            }
        }
        self.wait_for_effect(settings)
    }

    fn wait_for_effect(&mut self, settings: &DnsSettings) -> Result<(), ResolvedError> {
        let deadline = std::time::Instant::now() + EFFECT;
        while !self.is_intact(settings)? {
            if !self.connection()?.wait_for_signal(deadline)? {
                return Err(ResolvedError::NoEffect);
            }
        }
        Ok(())
    }

    /// Handles the end of the connection: this process's own user can connect again, the user that
    /// the connection was opened as, which it is not any more, cannot.
    fn handle_disconnect(&mut self, now: Instant) -> Option<DnsEvent> {
        self.connection = None;
        self.check_at = self.setter.is_none().then_some(now + RECONNECT);
        let remedy = if self.setter.is_none() {
            "connecting again"
        } else {
            "if another program changes the link's name servers, that is not seen: restart the tunnel"
        };
        self.report_loss(format!("D-Bus has closed the connection; {remedy}"))
    }

    fn report_loss(&mut self, text: String) -> Option<DnsEvent> {
        let is_known = std::mem::replace(&mut self.is_lost, true);
        (!is_known).then_some(DnsEvent::Lost(text))
    }

    /// Compares, and restores what is missing.
    fn compare(&mut self, now: Instant, applied: &Applied) -> Result<Option<DnsEvent>, ResolvedError> {
        if self.is_intact(&applied.settings)? {
            let was_lost = std::mem::take(&mut self.is_lost);
            let text = format!(
                "the name servers of {} in systemd-resolved are in effect again",
                applied.settings.device
            );
            return Ok(was_lost.then_some(DnsEvent::Restored(text)));
        }
        let allowed = self.limit.allowed_at(now);
        if now < allowed {
            self.check_at = Some(allowed);
            return Ok(None);
        }
        self.limit.record(now);
        let service = self.set(&applied.settings)?;
        self.applied = Some(Applied { service, ..applied.clone() });
        self.is_lost = false;
        let device = &applied.settings.device;
        Ok(Some(DnsEvent::Restored(format!(
            "the name servers of {device} in systemd-resolved were changed by another program: have it leave {device} \
             alone (NetworkManager: unmanaged-devices=interface-name:{device}; networkd: Unmanaged=yes)"
        ))))
    }
}

impl Backend for Resolved {
    fn name(&self) -> &'static str {
        "systemd-resolved"
    }

    fn sandbox(&self) -> Result<Sandbox, SandboxError> {
        Sandbox::for_dns_resolved(self.setter.is_none())
    }

    fn apply(&mut self, settings: &DnsSettings) -> Result<Vec<String>, DnsError> {
        let service = self.set(settings)?;
        if let Some(before) = self.applied.take().filter(|before| before.settings.index != settings.index) {
            // the link of before may be gone
            let _ = self.remove(&before);
        }
        self.applied = Some(Applied { settings: settings.clone(), service });
        self.is_lost = false;
        self.check_at = now().ok().map(|now| now + INTERVAL);
        let mut warnings = Vec::new();
        if self.role == Role::Listed {
            warnings.push(format!(
                "{RESOLV_CONF} lists the name servers of all links, so that programs which read it may ask others \
                 than the tunnel's: ln -sf ../run/systemd/resolve/stub-resolv.conf {RESOLV_CONF}"
            ));
        }
        let connection = self.connection();
        let foreign = connection.and_then(|bus| LinkSettings::from(settings).foreign_domains(bus));
        let foreign = foreign.unwrap_or_default().join(", ");
        if !foreign.is_empty() {
            warnings.push(format!(
                "names below {foreign} are asked of other name servers, outside of the tunnel, since another link of \
                 this host has that domain (see 'resolvectl domain'): remove it there, or use --kill-switch"
            ));
        }
        Ok(warnings)
    }

    fn revert(&mut self) -> Result<Vec<String>, DnsError> {
        if let Some(applied) = self.applied.take() {
            self.remove(&applied)?;
        }
        Ok(Vec::new())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.connection.iter().map(Connection::as_fd).collect()
    }

    fn deadline(&mut self) -> Option<Instant> {
        self.check_at
    }

    fn check(&mut self, now: Instant) -> Vec<DnsEvent> {
        self.check_at = None;
        let drained = match &mut self.connection {
            Some(connection) => connection.drain().map(drop).map_err(ResolvedError::from),
            None => connect_and_greet()
                .and_then(Connection::greeted)
                .map_err(ResolvedError::from)
                .and_then(|connection| self.watch(connection)),
        };
        let applied = self.applied.clone();
        let result = drained.and_then(|()| match &applied {
            Some(applied) => self.compare(now, applied),
            None => Ok(None),
        });
        let event = match result {
            Ok(event) => event,
            Err(ResolvedError::Bus(error)) if error.is_fatal() => self.handle_disconnect(now),
            Err(error) => self.report_loss(error.to_string()),
        };
        if self.check_at.is_none() && self.connection.is_some() && self.applied.is_some() {
            self.check_at = Some(now + INTERVAL);
        }
        event.into_iter().collect()
    }
}
