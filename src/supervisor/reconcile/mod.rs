//! State of the host that the tunnel needs: compared with the desired state whenever the kernel
//! reports a change, and restored.
//!
//! [`HostResource`] lists what wontun sets up itself. Each resource is derived from the
//! configuration and the peers by the type that sets it up, which keeps the desired state: the
//! device and its addresses by [`Link`](crate::netlink::Link), routes and rules by
//! [`Routes`](crate::netlink::Routes), tables and settings by [`Nat`](crate::netlink::Nat),
//! [`Guard`](crate::netlink::Guard) and [`KillSwitch`](crate::netlink::KillSwitch). [`Requirement`]
//! lists the conditions that the tunnel relies on and that wontun does not manage: they are
//! reported and left alone.
//!
//! The comparison reads the kernel's current state, never an event's contents; so events may come
//! late, twice or, after an overrun, not at all.

mod compare;
mod reconciler;
mod resource;

pub(super) use reconciler::Reconciler;
pub(super) use resource::{HostResource, ReconcileOutcome, Requirement};
