//! Packets that threads carry without the interface. In the other tests, every other packet is
//! carried so, by the functions here.

use super::wire::{BUFFER, Host, MTU, World, endpoint, packet, seconds};
use super::*;
use crate::time::Instant;
use message::{DATA_HEADER_LEN, DataHeader, Message};
use wontun_packet::split::PacketLengths;

/// Sends a packet as a worker does; `None` if that takes the interface.
pub(super) fn send(host: &mut Host, buffer: &mut [u8], len: usize, now: Instant) -> Option<Transmit> {
    let class = outer_class(&buffer[DATA_HEADER_LEN..][..len]);
    let peers = host.interface.peers();
    let mut peer = peers.lock(host.peer)?;
    let (mut sealing, endpoint) = peer.begin_send(PacketLengths::single(len), now).ok()??;
    let has_work = peer.has_work(now);
    drop(peer);
    let len = sealing.seal(buffer, len).unwrap();
    if has_work {
        host.interface.queue_work(host.peer, now);
    }
    Some(Transmit { peer: Some(host.peer), endpoint, len, class })
}

/// Receives a data message as a worker does; `None` if that takes the interface.
pub(super) fn receive(
    interface: &mut Interface,
    from: Endpoint,
    datagram: &mut [u8],
    now: Instant,
) -> Option<Result<Incoming, DropReason>> {
    let Some(Message::Data(header)) = Message::parse(datagram) else { return None };
    let id = interface.peer_of_index(header.receiver)?;
    let peers = interface.peers();
    if peers.lock(id)?.is_next(header.receiver) {
        return None;
    }
    let (received, has_work) = receive_from(&peers, id, from, header, datagram, now);
    if has_work {
        interface.queue_work(id, now);
    }
    Some(received)
}

fn receive_from(
    peers: &Peers,
    id: PeerId,
    from: Endpoint,
    header: DataHeader,
    datagram: &mut [u8],
    now: Instant,
) -> (Result<Incoming, DropReason>, bool) {
    let begin = || {
        let mut peer = peers.lock(id).ok_or(DropReason::UnknownIndex)?;
        let opening = peer.begin_receive(header.receiver, now)?;
        peer.check(header)?;
        Ok(opening)
    };
    let opened = begin().and_then(|opening: Opening| opening.open(header, 0, datagram));
    let opened = match opened {
        Ok(opened) => opened,
        Err(reason) => return (Err(reason), false),
    };
    let mut peer = peers.lock(id).unwrap();
    let mut accepted = Accepted::default();
    let result = peer.accept(&mut accepted, header, datagram.len());
    peer.finish_receive(accepted, Some(from), now);
    let incoming = result.and(opened).map(|opened| match opened {
        Opened::Packet(len) => Incoming::Packet { peer: id, len },
        Opened::Keepalive => Incoming::Keepalive(id),
    });
    (incoming, peer.has_work(now))
}

#[test]
fn threads_carry_packets_while_another_has_the_interface() {
    let mut world = World::connected(1);
    let [first, second] = &mut world.hosts;
    let (from, to) = (first.at, second.peer);
    let [first_peers, second_peers] = [first.interface.peers(), second.interface.peers()];
    let (now, from_peer) = (world.now, first.peer);
    // the interfaces are borrowed here, and cannot be used by the thread
    let interfaces = (&mut first.interface, &mut second.interface);
    let counted = std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut received = 0;
            for tag in 0..100 {
                let mut buffer = [0; BUFFER];
                buffer[DATA_HEADER_LEN..][..500].copy_from_slice(&packet(500, tag));
                let begun = first_peers.lock(from_peer).unwrap().begin_send(PacketLengths::single(500), now);
                let (mut sealing, _) = begun.unwrap().unwrap();
                let len = sealing.seal(&mut buffer, 500).unwrap();
                let datagram = &mut buffer[..len];
                let Some(Message::Data(header)) = Message::parse(datagram) else { panic!("no data") };
                let (incoming, _) = receive_from(&second_peers, to, from, header, datagram, now);
                assert_eq!(incoming, Ok(Incoming::Packet { peer: to, len: 500 }));
                assert_eq!(datagram[DATA_HEADER_LEN..][..500], packet(500, tag));
                let again = receive_from(&second_peers, to, from, header, datagram, now).0;
                assert_eq!(again, Err(DropReason::Replay));
                received += 1;
            }
            received
        });
        thread.join().unwrap()
    });
    assert_eq!(counted, 100);
    let (sender, receiver) = interfaces;
    assert_eq!(sender.peer(from_peer).unwrap().transfer().packets_sent, 101);
    assert_eq!(receiver.peer(to).unwrap().transfer().packets_received, 101);
}

#[test]
fn a_removed_peer_is_not_found_nor_is_the_one_after_it() {
    let mut world = World::connected(1);
    let host = &mut world.hosts[0];
    let (peers, old) = (host.interface.peers(), host.peer);
    assert!(host.interface.remove_peer(old).is_some());
    assert!(peers.lock(old).is_none());
    let new = host.interface.add_peer(PrivateKey::from_bytes(&[7; 32]).public_key()).unwrap();
    assert_eq!((new.slot, peers.lock(old).is_none()), (old.slot, true), "the slot is used again");
    assert!(peers.lock(new).is_some());
}

/// A worker may have carried packets after the counters were read last.
#[test]
fn a_removed_peer_has_its_final_counters() {
    let mut world = World::connected(1);
    let before = world.peer(0).transfer().packets_sent;
    let (now, host) = (world.now, &mut world.hosts[0]);
    let mut buffer = [0; BUFFER];
    buffer[DATA_HEADER_LEN..][..100].copy_from_slice(&packet(100, 1));
    send(host, &mut buffer, 100, now).unwrap();
    let removed = host.interface.remove_peer(host.peer).unwrap();
    assert_eq!((removed.transfer().packets_sent, removed.lost()), (before + 1, 0));

    let mut world = World::new(1);
    world.carries_by_peer = false;
    (0..3).for_each(|tag| world.send(0, &packet(100, tag)));
    let host = &mut world.hosts[0];
    assert_eq!(host.interface.peer(host.peer).unwrap().lost(), 0);
    let removed = host.interface.remove_peer(host.peer).unwrap();
    assert_eq!(removed.lost(), 3, "they wait for a handshake no more");
}

/// The peer may have moved since a packet to it failed, or since its name was looked up.
#[test]
fn an_address_that_is_no_longer_used_changes_nothing() {
    let mut world = World::connected(1);
    let (now, host) = (world.now, &mut world.hosts[0]);
    let (id, remote) = (host.peer, host.interface.peer(host.peer).unwrap().endpoint().unwrap().remote);
    let at = |local: &str| Endpoint { remote, local: Some(local.parse().unwrap()) };
    let (old, new) = (at("192.0.2.7"), at("192.0.2.8"));
    let interface = &mut host.interface;
    interface.set_endpoint(id, Some(new), now);
    interface.set_any_source(id, |endpoint| endpoint == old);
    assert_eq!(interface.peer(id).unwrap().endpoint(), Some(new));
    interface.set_any_source(id, |endpoint| endpoint == new);
    assert_eq!(interface.peer(id).unwrap().endpoint(), Some(Endpoint::new(remote)));

    let other = endpoint("198.51.100.7:7").remote;
    interface.set_endpoint(id, Some(new), now);
    assert!(!interface.set_addresses(id, &[other, remote], now), "it is among them");
    assert_eq!(interface.peer(id).unwrap().endpoint(), Some(new));
    assert!(!interface.set_addresses(id, &[], now));
    assert!(interface.set_addresses(id, &[other], now));
    assert_eq!(interface.peer(id).unwrap().endpoint(), Some(Endpoint::new(other)));
}

#[test]
fn a_peer_does_not_confirm_its_next_session_by_itself() {
    let mut world = World::new(1);
    world.carries_by_peer = false;
    world.send(0, &packet(100, 1));
    let now = world.now;
    let initiation = world.last.clone();
    world.deliver(1, world.hosts[0].at, &initiation);
    let response = world.last.clone();
    world.deliver(0, world.hosts[1].at, &response);
    let (data, id) = (world.last.clone(), world.hosts[1].peer);
    let Some(Message::Data(header)) = Message::parse(&data) else { panic!("no data") };
    assert!(receive(&mut world.hosts[1].interface, world.hosts[0].at, &mut data.clone(), now).is_none());
    let peers = world.hosts[1].interface.peers();
    let (received, _) = receive_from(&peers, id, world.hosts[0].at, header, &mut data.clone(), now);
    assert_eq!(received, Err(DropReason::UnknownIndex));
    assert!(!world.peer(1).has_session(now));
    world.deliver(1, world.hosts[0].at, &data);
    assert!(world.peer(1).has_session(now));
}

#[test]
fn a_packet_by_a_peer_keeps_the_timers_of_the_interface() {
    let mut world = World::connected(1);
    // past the keepalive of the other host
    world.run(seconds(20.0));
    let now = world.now;
    let mut buffer = [0; BUFFER];
    buffer[DATA_HEADER_LEN..][..100].copy_from_slice(&packet(100, 1));
    let before = world.hosts[0].interface.scheduled();
    assert!(send(&mut world.hosts[0], &mut buffer, 100, now).is_some());
    assert!(world.hosts[0].interface.scheduled() >= before);
    // nothing comes back: a new handshake after KEEPALIVE_TIMEOUT and REKEY_TIMEOUT
    world.hosts[1].at = endpoint("203.0.113.1:1");
    world.seen.clear();
    world.run(seconds(16.0));
    assert_eq!(world.sent(0, 1).len(), 1);
    assert!(buffer.len() > MTU);
}
