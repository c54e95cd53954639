use std::net::IpAddr;

use super::*;
use crate::net::recv_buffer::{RecvBuffer, SLOTS};

fn at(seconds: u64) -> Instant {
    Instant::from_boot(Duration::from_secs(seconds))
}

struct Pair {
    near: Arc<UdpSocket>,
    far: UdpSocket,
    recv_buffer: RecvBuffer,
    batch: SendBatch<u32>,
}

impl Pair {
    fn new(address: &str) -> Self {
        let bind = || UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let (near, far) = (Arc::new(bind()), bind());
        near.enable_offloads();
        far.enable_offloads();
        assert!(near.has_gso(), "this kernel has UDP_SEGMENT");
        Self { near, far, recv_buffer: RecvBuffer::default(), batch: SendBatch::default() }
    }

    fn route(&self) -> SendRoute<u32> {
        SendRoute {
            socket: Arc::clone(&self.near),
            is_connected: false,
            remote: self.far.local_addr().unwrap(),
            local: None,
            class: 0,
            owner: 7,
        }
    }

    fn push(&mut self, datagram: &[u8], route: &SendRoute<u32>) {
        // reserves more than is used in the end, as for padding
        let room = self.batch.reserve(datagram.len() + 9).unwrap();
        room[..datagram.len()].copy_from_slice(datagram);
        self.batch.commit(datagram.len(), route);
    }

    /// Returns the received datagrams, grouped by message.
    fn received(&mut self) -> Vec<Vec<Vec<u8>>> {
        let mut received = vec![];
        while let Ok(count) = self.far.receive(&mut self.recv_buffer, SLOTS) {
            for number in 0..count {
                let ranges = self.recv_buffer.batch(number).unwrap().ranges();
                received.push(ranges.map(|place| self.recv_buffer.bytes()[place].to_vec()).collect());
            }
        }
        received
    }

    fn datagrams(&mut self) -> Vec<Vec<u8>> {
        self.received().concat()
    }
}

fn datagram(number: u8, len: usize) -> Vec<u8> {
    vec![number; len]
}

#[test]
fn datagrams_of_one_length_leave_as_one_message_and_arrive_as_one() {
    for address in ["127.0.0.1", "::1"] {
        let mut pair = Pair::new(address);
        let route = pair.route();
        let sent: Vec<_> = (0..10).map(|i| datagram(i, if i == 9 { 100 } else { 1000 })).collect();
        sent.iter().for_each(|datagram| pair.push(datagram, &route));
        assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
        assert_eq!(pair.received(), [sent]);
        assert!(pair.batch.is_empty());
    }
}

#[test]
fn order_is_kept_whatever_the_lengths() {
    let mut pair = Pair::new("127.0.0.1");
    let route = pair.route();
    let lengths = [100, 100, 50, 100, 100, 200, 100, 0, 100, 100, 1, 1, 0, 0, 300];
    let sent: Vec<_> = (0..).zip(lengths).map(|(i, len)| datagram(i, len)).collect();
    sent.iter().for_each(|datagram| pair.push(datagram, &route));
    assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
    assert_eq!(pair.datagrams(), sent);
}

#[test]
fn destinations_that_take_turns_have_a_message_each() {
    let mut pair = Pair::new("127.0.0.1");
    let other = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    other.enable_offloads();
    let (route, mut aside) = (pair.route(), pair.route());
    aside.remote = other.local_addr().unwrap();
    for i in 0..40 {
        pair.push(&datagram(i, 500), if i % 2 == 0 { &route } else { &aside });
    }
    assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
    let even: Vec<_> = (0..40).step_by(2).map(|i| datagram(i, 500)).collect();
    assert_eq!(pair.received(), [even]);
    assert_eq!(other.receive(&mut pair.recv_buffer, 2).unwrap(), 1);
    assert_eq!(pair.recv_buffer.batch(0).unwrap().count(), 20);
}

#[test]
fn bulk_is_sent_two_messages_at_once_and_small_datagrams_by_the_message() {
    let until = |len: usize, is_it: fn(&SendBatch<u32>) -> bool| {
        let mut pair = Pair::new("127.0.0.1");
        let route = pair.route();
        let mut count = 0;
        while !is_it(&pair.batch) {
            pair.push(&datagram(count, len), &route);
            count += 1;
        }
        count
    };
    assert_eq!(until(9000, SendBatch::is_bulk), 6);
    // two messages of seven
    assert_eq!(until(9000, SendBatch::should_send), 14);
    assert_eq!(until(65_000, SendBatch::is_bulk), 1);
    assert_eq!(until(65_000, SendBatch::should_send), 2);
    assert_eq!(until(96, SendBatch::should_send), 64);
    assert_eq!(until(1452, SendBatch::should_send), 90);
    // the last message has room, but not for one of its size
    assert_eq!(until(33_000, SendBatch::should_send), 3);
}

#[test]
fn a_message_with_room_is_filled_by_what_follows() {
    let mut pair = Pair::new("127.0.0.1");
    let route = pair.route();
    let counts = |received: &[Vec<Vec<u8>>]| received.iter().map(Vec::len).collect::<Vec<_>>();
    let (mut sent, mut all) = (vec![], vec![]);
    // super-packets of 47 segments
    let expected: [(bool, &[usize]); 4] = [(false, &[]), (true, &[45, 45]), (false, &[]), (true, &[45, 45])];
    for (number, (is_due, messages)) in (0..).zip(expected) {
        (0..47).for_each(|_| pair.push(&datagram(number, 1452), &route));
        sent.extend(vec![datagram(number, 1452); 47]);
        assert_eq!(pair.batch.should_send(), is_due, "super-packet {number}");
        if is_due {
            assert!(matches!(pair.batch.send_full(at(0)), SendOutcome::All));
        }
        let received = pair.received();
        assert_eq!(counts(&received), messages);
        all.extend(received.concat());
    }
    assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
    assert!(pair.batch.is_empty());
    let received = pair.received();
    assert_eq!(counts(&received), [8]);
    all.extend(received.concat());
    assert_eq!(all, sent);
}

#[test]
fn order_is_kept_when_only_full_messages_leave() {
    let mut pair = Pair::new("127.0.0.1");
    let other = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    other.enable_offloads();
    let (route, mut aside) = (pair.route(), pair.route());
    aside.remote = other.local_addr().unwrap();
    let (mut state, mut sent, mut arrived) = (7_u32, [vec![], vec![]], [vec![], vec![]]);
    for number in 0..4_000_u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // mostly bulk to one of them, for a while
        let to = usize::from(number / 60 % 3 == 1 || state >> 29 == 0);
        let len = if state >> 24 & 31 == 0 { 700 } else { 1452 };
        let bytes = [&number.to_be_bytes()[..], &vec![0; len - 4]].concat();
        if pair.batch.reserve(len + 9).is_none() {
            assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
        }
        pair.push(&bytes, if to == 0 { &route } else { &aside });
        sent[to].push(bytes);
        if pair.batch.should_send() {
            assert!(matches!(pair.batch.send_full(at(0)), SendOutcome::All));
        }
        if number % 50 == 0 || number == 3_999 {
            if number % 400 == 0 || number == 3_999 {
                assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
            }
            arrived[0].extend(pair.datagrams());
            while let Ok(count) = other.receive(&mut pair.recv_buffer, SLOTS) {
                for message in 0..count {
                    let ranges = pair.recv_buffer.batch(message).unwrap().ranges();
                    arrived[1].extend(ranges.map(|place| pair.recv_buffer.bytes()[place].to_vec()));
                }
            }
        }
    }
    assert!(arrived == sent, "{:?} of {:?}", arrived.map(|it| it.len()), sent.map(|it| it.len()));
}

#[test]
fn what_is_full_says_so_and_goes_on_after_it_was_sent() {
    let mut pair = Pair::new("127.0.0.1");
    let route = pair.route();
    let mut count = 0;
    while pair.batch.reserve(1).is_some() {
        pair.push(&[1], &route);
        count += 1;
    }
    assert_eq!(count, MAX_SEGMENTS);
    assert!(pair.batch.should_send());
    assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
    assert_eq!(pair.datagrams().len(), count);
    let mut bytes = 0;
    while pair.batch.reserve(1452).is_some() {
        pair.push(&datagram(2, 1452), &route);
        bytes += 1452;
    }
    assert!((ARENA - 2 * 1452..=ARENA).contains(&bytes));
    assert!(pair.batch.reserve(65_600).is_none());
    assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
    assert_eq!(pair.datagrams().concat().len(), bytes);
    assert!(pair.batch.reserve(65_600).is_some());
}

/// Fault 5. A socket without checksums cannot send segments: `EINVAL`.
#[test]
fn fault_05_what_the_kernel_does_not_cut_leaves_each_datagram_once() {
    let mut pair = Pair::new("127.0.0.1");
    wontun_sys::socket::omit_checksums(pair.near.as_ref()).unwrap();
    let route = pair.route();
    let sent: Vec<_> = (0..60).map(|i| datagram(i, 700)).collect();
    for half in sent.chunks(30) {
        half.iter().for_each(|datagram| pair.push(datagram, &route));
        assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
        assert!(pair.batch.path_mtus.is_exceeded(route.remote, 700, at(0)), "this path is tried again later");
    }
    assert_eq!(pair.datagrams(), sent);
}

#[test]
fn a_datagram_leaves_with_the_source_and_class_asked_for() {
    for (address, near) in [("127.0.0.1", "127.0.0.9"), ("::1", "::1")] {
        let mut pair = Pair::new(if address == "::1" { "::" } else { "0.0.0.0" });
        pair.far.enable_traffic_class().unwrap();
        let mut route = pair.route();
        route.remote.set_ip(address.parse().unwrap());
        for (local, class) in [(Some(near), 0), (Some(near), 0x88), (None, 0x03)] {
            route.local = local.map(|local| local.parse().unwrap());
            route.class = class;
            (0..3).for_each(|i| pair.push(&datagram(i, 100), &route));
            assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
            assert_eq!(pair.far.receive(&mut pair.recv_buffer, 1).unwrap(), 1);
            let received = pair.recv_buffer.batch(0).unwrap();
            let from = local.unwrap_or(address).parse::<IpAddr>().unwrap();
            assert_eq!((received.from.ip(), received.class, received.count()), (from, class, 3));
            assert_eq!(received.local.unwrap().address, route.remote.ip());
        }
    }
}

/// TEST-NET addresses (RFC 5737, RFC 3849) are not assigned to this host.
#[test]
fn a_source_that_is_gone_is_refused_and_another_way_is_taken_from_where_it_stopped() {
    for (address, gone) in [("127.0.0.1", "192.0.2.1"), ("::1", "2001:db8::1")] {
        let mut pair = Pair::new(address);
        let route = pair.route();
        let from_nowhere = SendRoute { local: gone.parse().ok(), ..route.clone() };
        (0..3).for_each(|i| pair.push(&datagram(i, 100), &route));
        (3..6).for_each(|i| pair.push(&datagram(i, 100), &from_nowhere));
        (6..9).for_each(|i| pair.push(&datagram(i, 100), &route));
        let SendOutcome::Failed { class: ErrorClass::SourceAddressLost, route: refused, .. } =
            pair.batch.send(at(0))
        else {
            panic!("sent from an address that is not ours")
        };
        assert_eq!(refused.local, from_nowhere.local);
        pair.batch.reroute(route.clone());
        assert!(matches!(pair.batch.send(at(0)), SendOutcome::All));
        assert_eq!(pair.datagrams(), (0..9).map(|i| datagram(i, 100)).collect::<Vec<_>>());
        assert!(pair.near.has_gso(), "that was the address's fault");

        (3..6).for_each(|i| pair.push(&datagram(i, 100), &from_nowhere));
        (6..9).for_each(|i| pair.push(&datagram(i, 100), &route));
        let mut lost = 0;
        while let SendOutcome::Failed { datagrams, .. } = pair.batch.send(at(0)) {
            lost += datagrams;
            pair.batch.skip();
        }
        assert_eq!(lost, 3);
        assert_eq!(pair.datagrams(), (6..9).map(|i| datagram(i, 100)).collect::<Vec<_>>());
    }
}

#[test]
fn a_narrow_path_is_remembered_for_a_while() {
    let mut path_mtus = PathMtuCache::default();
    let path = |host: u8| SocketAddr::from(([192, 0, 2, host], 1));
    path_mtus.insert(path(1), 1452, at(100));
    assert!(path_mtus.is_exceeded(path(1), 1452, at(109)) && path_mtus.is_exceeded(path(1), 1500, at(100)));
    assert!(!path_mtus.is_exceeded(path(1), 1451, at(100)) && !path_mtus.is_exceeded(path(2), 1452, at(100)));
    assert!(!path_mtus.is_exceeded(path(1), 1452, at(110)));
    path_mtus.insert(path(1), 1300, at(110));
    path_mtus.insert(path(1), 1400, at(110));
    assert!(path_mtus.is_exceeded(path(1), 1300, at(110)));
    (2..30).for_each(|host| path_mtus.insert(path(host), 1, at(110)));
    assert!(!path_mtus.is_exceeded(path(1), 1500, at(110)) && path_mtus.is_exceeded(path(29), 1, at(110)));
}
