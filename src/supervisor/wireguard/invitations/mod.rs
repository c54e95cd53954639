//! Invitations (`--invitations`): the process that devices ask, and what it asks for. It may be
//! taken over by a device: each of its messages is checked, and their number is limited. It names
//! an invitation by the address that the tunnel has authenticated, and all that it can have changed
//! are the keys of an invitation.

mod handle;
mod sockets;
mod state;

pub(super) use state::Invitations;
