//! Processes beside this one: how they are started and confined, and how they are talked to. This
//! module knows nothing of what they do.

mod channel;
mod codec;

pub use channel::{Channel, ChannelError, MAX_DESCRIPTORS, pair};
pub use codec::{CodecError, MAX_MESSAGE, decode, encode};
