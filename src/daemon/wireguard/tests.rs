//! Two workers, without threads.

use super::WireGuard;
use crate::config::TunName;
use crate::daemon::core::{Core, LinkState};
use crate::daemon::data_path::DataPath as _;
use crate::daemon::device_queues::DeviceQueues;
use crate::daemon::run::Daemon;
use crate::daemon::shared::Shared;
use crate::daemon::sockets::Sockets;
use crate::daemon::token::Token;
use crate::daemon::worker::Worker;
use crate::messages::{BaseSocket, DeviceState, Queue, SocketRole};
use crate::net::tun::Tun;
use crate::net::udp::UdpSocket;
use crate::process::{Channel, pair};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use wontun_proto::wireguard::{Endpoint, PrivateKey};

/// Returns a tunnel with two workers, whose device's queues are the sockets.
fn tunnel(supervisor: OwnedFd) -> (Daemon<WireGuard>, Vec<UnixDatagram>) {
    let link = DeviceState { mtu: 1420, is_up: true, is_in_other_netns: false };
    let core = Core::open(
        TunName::default(),
        2,
        true,
        LinkState::new(7, link),
        Channel::new(supervisor).unwrap(),
        None,
    );
    let (near, far): (Vec<_>, Vec<_>) = (0..2).map(|_| UnixDatagram::pair().unwrap()).unzip();
    let queues = near.into_iter().map(|near| Tun::from_parts(near.into(), Queue::SOCKET)).collect();
    let address = [127, 0, 0, 1].into();
    let socket = |worker| BaseSocket { worker, role: SocketRole::Data, address, has_gso: false };
    let descriptors = (0..2).map(|_| UdpSocket::bind((address, 0).into()).unwrap().into_fd()).collect();
    let sockets = Sockets::new(0, vec![socket(0), socket(1)], descriptors).unwrap();
    let queues = DeviceQueues::new(queues).unwrap();
    (Daemon::wireguard(core.unwrap(), queues, sockets, false, false, false).unwrap(), far)
}

fn block(worker: &mut Worker<WireGuard>, shared: &Shared<WireGuard>) {
    let number = worker.number;
    let socket = shared.with(worker, |mode, _, _| {
        mode.sockets()
            .disconnected()
            .find(|(worker, ..)| *worker == number)
            .map(|(_, token, socket)| (token, Arc::clone(socket)))
    });
    let Some((Token::Socket(id), socket)) = socket else { panic!("no socket") };
    worker.blocked = Some((id, socket));
}

#[test]
fn messages_do_not_wait_for_a_worker_whose_socket_is_full() {
    let (near, _supervisor) = pair().unwrap();
    let (mut daemon, _tun) = tunnel(near);
    let shared = &daemon.shared;
    let [first, second] = &mut daemon.workers[..] else { panic!("not two workers") };
    let remote = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    remote.set_nonblocking(true).unwrap();
    let endpoint = Endpoint::new(remote.local_addr().unwrap());
    let peer = shared.with(first, |mode, core, _| {
        mode.engine.set_private_key(Some(PrivateKey::from_bytes(&[7; 32])), core.now);
        let peer = mode.engine.add_peer(PrivateKey::from_bytes(&[8; 32]).public_key()).unwrap();
        mode.engine.set_endpoint(peer, Some(endpoint), core.now);
        peer
    });
    second.serve(shared).unwrap();
    assert_eq!(second.served, second.lock_uses);
    let posted =
        |worker: usize| shared.with_state(|_, core| core.worker_handle(worker).unwrap().tokens.clone());

    block(first, shared);
    shared.with(first, |mode, core, _| mode.engine.send_keepalive(peer, core.now));
    first.serve(shared).unwrap();
    first.serve(shared).unwrap();
    assert_eq!((posted(0), posted(1)), (vec![], vec![Token::Transmit]), "posted once");
    let mut datagram = [0; 2048];
    assert!(remote.recv_from(&mut datagram).is_err());
    second.request_lock();
    second.serve(shared).unwrap();
    assert!(posted(1).is_empty() && second.ready.pop().is_some());
    assert_eq!(remote.recv_from(&mut datagram).unwrap().0, 148, "an initiation");
}
