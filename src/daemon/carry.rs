//! Interface between a worker and a mode that carries packets: beyond [`super::protocol`], the mode
//! has the worker, and takes the lock where that is needed.

use std::ops::Range;

use super::data_path::Route;
use super::error::DaemonError;
use super::protocol::Protocol;
use super::shared::Shared;
use super::sockets_in_use::SocketInfo;
use super::worker::Worker;
use crate::net::recv_buffer::GroBatch;
use wontun_packet::split::PacketLengths;

/// A mode as a worker uses it.
pub trait Carry: Protocol {
    /// Returns the route of the packet that the worker has read last, which is at `packet` in its
    /// buffer, and the means to encrypt it, without the lock; `None` if that takes the lock
    /// ([`super::DataPath::route`]). Nothing has changed then.
    fn route_without_lock(
        _shared: &Shared<Self>,
        _worker: &mut Worker<Self>,
        _packet: Range<usize>,
        _lengths: PacketLengths,
    ) -> Option<(Route<Self>, Self::Sealing)> {
        None
    }

    /// As [`super::Control::ended_sessions`], without the lock.
    fn latest_ended_sessions(_worker: &Worker<Self>) -> u64 {
        0
    }

    /// Handles datagrams of one sender, which are in the worker's receive buffer, and passes the
    /// packets in them to `Worker::queue_packet`.
    ///
    /// # Errors
    /// As for `Control::start`.
    fn receive_batch(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        batch: &GroBatch,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError>;
}
