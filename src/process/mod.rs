//! Child processes: starting them, confining them, and communicating with them. This module is
//! independent of their tasks.

mod channel;
mod codec;
mod helper;
mod nursery;

pub(crate) use channel::{Channel, ChannelError, MAX_DESCRIPTORS, pair};
pub use codec::{CodecError, MAX_MESSAGE, decode, encode};
pub(crate) use helper::format_error_chain;
pub use helper::helper_role;
pub(crate) use helper::{HelperError, prepare_helper, prepare_helper_as, stop_helper};
pub(crate) use nursery::{Child, Nursery, NurseryError, spawn_as_own_user};
pub use nursery::{FromNursery, Spawn, SpawnFailure};
