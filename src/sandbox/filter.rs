//! Compilation of lists of calls into programs that the kernel runs at each call (seccomp(2)).

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use nix::errno::Errno;
use nix::unistd::getpid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::admin_calls::{ADMIN_ALLOWED, ADMIN_FORBIDDEN, EDITOR_ALLOWED, EDITOR_FORBIDDEN};
use super::calls::{
    Condition, LOOK_UP_ALLOWED, LOOK_UP_FORBIDDEN, NURSERY_ABSENT, NURSERY_FORBIDDEN, RESOLVER_ALLOWED,
    RESOLVER_FORBIDDEN, SUPERVISOR_ABSENT, SUPERVISOR_ALLOWED, SUPERVISOR_LOG_ALLOWED, Syscall,
    TUNNEL_ALLOWED, TUNNEL_LOG_ALLOWED, TUNNEL_MISSING,
};
use super::dns_bus_calls::{DNS_BUS_ALLOWED, DNS_BUS_FORBIDDEN, DNS_RECONNECT_ALLOWED};
use super::enroll_calls::{ENROLL_ALLOWED, ENROLL_FORBIDDEN};
use super::error::SandboxError;
use super::hold_calls::HOLD_ALLOWED;
use super::names_calls::{NAMES_ALLOWED, NAMES_FORBIDDEN, NAMES_OVER_TLS_ALLOWED};
use super::resolv_conf_calls::{BELOW, RESOLV_CONF_ALLOWED, RESOLV_CONF_MISSING, RESOLV_CONF_PATH};
use super::status::FeatureState;

/// Size of the largest page in bytes.
const MAX_PAGE: u64 = 64 * 1024;

/// The kind of thread or process to which filters apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SandboxRole {
    /// Any thread of the supervisor.
    Supervisor,
    /// The supervisor's log thread until it has found journald; afterwards it is confined like the
    /// other threads.
    SupervisorLog,
    /// Any thread of the tunnel process.
    Tunnel,
    /// The tunnel process's log thread until it has found journald; afterwards it is confined like
    /// the other threads.
    TunnelLog,
    /// The resolver process.
    Resolver,
    /// A process that looks up a name for the resolver process.
    LookUp,
    /// The `dns` process that writes /etc/resolv.conf.
    ResolvConf,
    /// The process that starts helpers; its filter applies to them from their start.
    Nursery,
    /// A process that only waits for signals.
    Hold,
    /// The `dns` process that is connected to the system bus, and the one that sets name servers.
    DnsBus,
    /// The former, if it may connect again.
    DnsReconnect,
    /// The process that answers the peers' DNS queries.
    Names,
    /// The same, where name servers are asked over TLS only.
    NamesOverTls,
    /// The process that enrols devices.
    Enroll,
    /// The process that serves the admin page.
    Admin,
    /// The process that changes the server's file for it.
    Editor,
}

/// The filters of a thread; of their actions for a call, the strictest applies.
#[derive(Clone, Debug)]
pub(super) struct SeccompFilters(Vec<BpfProgram>);

impl SeccompFilters {
    /// Builds the filters of `role`, for this process. Returns `None` for a processor whose call
    /// numbers are unknown.
    ///
    /// # Errors
    /// [`SandboxError::Filter`], which is a defect of wontun.
    pub(super) fn new(role: SandboxRole) -> Result<Option<Self>, SandboxError> {
        let Ok(architecture) = TargetArch::try_from(ARCH) else { return Ok(None) };
        let absent = SeccompAction::Errno(Errno::ENOSYS as u32);
        let program = |lists: &[&[Syscall]], others, listed| {
            program(lists, others, listed, architecture).map_err(SandboxError::Filter)
        };
        let (allow, trap) = (SeccompAction::Allow, SeccompAction::Trap);
        Ok(Some(Self(match role {
            SandboxRole::Supervisor => {
                vec![
                    program(SUPERVISOR_ABSENT, allow.clone(), absent)?,
                    program(SUPERVISOR_ALLOWED, trap, allow)?,
                ]
            }
            SandboxRole::SupervisorLog => {
                vec![
                    program(SUPERVISOR_ABSENT, allow.clone(), absent)?,
                    program(SUPERVISOR_LOG_ALLOWED, trap, allow)?,
                ]
            }
            SandboxRole::Tunnel => {
                vec![program(TUNNEL_MISSING, allow.clone(), absent)?, program(TUNNEL_ALLOWED, trap, allow)?]
            }
            SandboxRole::TunnelLog => vec![
                program(TUNNEL_MISSING, allow.clone(), absent)?,
                program(TUNNEL_LOG_ALLOWED, trap, allow)?,
            ],
            SandboxRole::Resolver => vec![
                program(RESOLVER_FORBIDDEN, allow.clone(), trap)?,
                program(RESOLVER_ALLOWED, absent, allow)?,
            ],
            SandboxRole::LookUp => vec![
                program(LOOK_UP_FORBIDDEN, allow.clone(), trap)?,
                program(LOOK_UP_ALLOWED, absent, allow)?,
            ],
            SandboxRole::Hold => vec![program(HOLD_ALLOWED, trap, allow)?],
            SandboxRole::ResolvConf => vec![
                program(RESOLV_CONF_MISSING, allow.clone(), absent)?,
                program(RESOLV_CONF_ALLOWED, trap, allow)?,
            ],
            SandboxRole::Nursery => vec![
                program(NURSERY_ABSENT, allow.clone(), absent)?,
                program(NURSERY_FORBIDDEN, allow, trap)?,
            ],
            SandboxRole::DnsBus => vec![
                program(DNS_BUS_FORBIDDEN, allow.clone(), trap)?,
                program(DNS_BUS_ALLOWED, absent, allow)?,
            ],
            SandboxRole::Names => {
                vec![program(NAMES_FORBIDDEN, allow.clone(), trap)?, program(NAMES_ALLOWED, absent, allow)?]
            }
            SandboxRole::NamesOverTls => vec![
                program(NAMES_FORBIDDEN, allow.clone(), trap)?,
                program(NAMES_OVER_TLS_ALLOWED, absent, allow)?,
            ],
            SandboxRole::Enroll => {
                vec![program(ENROLL_FORBIDDEN, allow.clone(), trap)?, program(ENROLL_ALLOWED, absent, allow)?]
            }
            SandboxRole::Admin => {
                vec![program(ADMIN_FORBIDDEN, allow.clone(), trap)?, program(ADMIN_ALLOWED, absent, allow)?]
            }
            SandboxRole::Editor => {
                vec![program(EDITOR_FORBIDDEN, allow.clone(), trap)?, program(EDITOR_ALLOWED, absent, allow)?]
            }
            SandboxRole::DnsReconnect => vec![
                program(DNS_BUS_FORBIDDEN, allow.clone(), trap)?,
                program(DNS_RECONNECT_ALLOWED, absent, allow)?,
            ],
        })))
    }

    /// Applies the filters to this thread and to those that it starts from now on.
    ///
    /// # Errors
    /// The kernel supports seccomp, and another error occurs.
    pub(super) fn apply(&self) -> Result<FeatureState, SandboxError> {
        // the calls that apply a filter are subject to those before it
        for program in &self.0 {
            match seccompiler::apply_filter(program) {
                Ok(()) => {}
                Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error)) => {
                    return FeatureState::from_refusal(error).map_err(SandboxError::Seccomp);
                }
                Err(error) => return Err(SandboxError::Seccomp(io::Error::other(error))),
            }
        }
        Ok(FeatureState::On)
    }
}

/// Builds a program that takes the action `listed` for the calls in `lists` and `others` for all
/// others.
fn program(
    lists: &[&[Syscall]],
    others: SeccompAction,
    listed: SeccompAction,
    architecture: TargetArch,
) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::<i64, Vec<SeccompRule>>::new();
    for call in lists.iter().copied().flatten() {
        #[allow(clippy::unnecessary_cast, reason = "c_long has 32 bits on other processors")]
        let number = call.number as i64;
        if call.forms.is_empty() {
            rules.insert(number, Vec::new());
        }
        for form in call.forms {
            let conditions =
                form.iter().map(|condition| compare(*condition)).collect::<Result<Vec<_>, _>>()?;
            rules.entry(number).or_default().push(SeccompRule::new(conditions)?);
        }
    }
    SeccompFilter::new(rules, others, listed, architecture)?.try_into()
}

/// Converts the condition to seccompiler's.
fn compare(condition: Condition) -> Result<SeccompCondition, BackendError> {
    let bits = |value: i32| u64::from(value.cast_unsigned());
    let path = || RESOLV_CONF_PATH.as_ptr().addr() as u64;
    let (argument, length, operator, value) = match condition {
        Condition::Is(argument, value) => (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, bits(value)),
        Condition::IsNot(argument, value) => {
            (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, bits(value))
        }
        Condition::Masked(argument, mask, value) => {
            (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits(mask)), bits(value))
        }
        Condition::IsSelf(argument) => {
            (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, bits(getpid().as_raw()))
        }
        Condition::IsPath(argument) => (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, path()),
        // past the largest page of the architectures, in which the constant ends at the latest
        Condition::Above(argument) => {
            (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ge, path().saturating_add(MAX_PAGE))
        }
        Condition::FarBelow(argument) => {
            let limit = path().saturating_sub(MAX_PAGE + BELOW);
            (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Lt, limit)
        }
        Condition::LessThanBelow(argument) => (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Le, BELOW),
    };
    SeccompCondition::new(argument, length, operator, value)
}
