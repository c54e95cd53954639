use std::collections::VecDeque;
use std::time::Duration;

use super::*;

const NOW: Instant = Instant::from_boot(Duration::from_secs(1000));
const TIME: Duration = Duration::from_secs(5);

fn rate(bits: u64) -> NonZeroU64 {
    NonZeroU64::new(bits).unwrap()
}

/// Returns an IPv4 packet with the ECN field `ecn` to the UDP port `port`.
fn packet(len: usize, ecn: u8, port: u8) -> Vec<u8> {
    let mut packet = vec![0; len];
    let header = [0x45, ecn, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 2, port];
    packet[..header.len()].copy_from_slice(&header);
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet
}

fn down(bits: u64) -> Limiter {
    let mut limiter = Limiter::default();
    limiter.set(Limits { down: Some(rate(bits)), ..Limits::default() }, 0);
    limiter
}

/// Outcome of the packets offered.
#[derive(Debug, Default)]
struct Outcome {
    passed: u64,
    dropped: u64,
    marked: usize,
    longest: Duration,
}

/// Offers packets of 1000 bytes at `load` bits per second for `time`, after `first` of them at
/// once, with a timer that is `late`.
fn play(bits: u64, first: usize, load: u64, late: Duration, ecn: u8) -> Outcome {
    let mut limiter = down(bits);
    let mut outcome = Outcome::default();
    let mut entered = VecDeque::new();
    let mut out = [0; 2000];
    let packet = packet(1000, ecn, 1);
    let step = Duration::from_nanos(8_000_000_000_000 / load);
    let mut now = NOW;
    let mut left = first;
    while now < NOW + TIME {
        if limiter.deadline().is_some_and(|due| due + late <= now) && limiter.release(Direction::Down, now) {
            while let Some(len) = limiter.pop(Direction::Down, &mut out, now) {
                outcome.passed += len as u64;
                outcome.marked += usize::from(out[1] & 3 == 3);
                outcome.longest = outcome.longest.max(now.since(entered.pop_front().unwrap()));
            }
            limiter.hold(Direction::Down);
        }
        match limiter.admit(Direction::Down, &packet, PacketLengths::single(1000), now).unwrap() {
            Admission::Pass => outcome.passed += 1000,
            Admission::Wait => match limiter.push(Direction::Down, &packet, now) {
                Ok(()) => entered.push_back(now),
                Err(reason) => {
                    assert_eq!(reason, DropReason::OverRate);
                    outcome.dropped += 1000;
                }
            },
        }
        if left > 0 { left -= 1 } else { now = now + step }
    }
    outcome
}

#[test]
fn what_is_below_the_rate_passes_and_what_is_above_does_not() {
    for late in [0, 3].map(Duration::from_millis) {
        for bits in [1_000_000, 20_000_000, 200_000_000] {
            let limit = bits / 8 * TIME.as_secs();
            let low = play(bits, 0, bits * 9 / 10, late, 0);
            assert_eq!(low.dropped, 0, "{bits}");
            assert!(low.passed >= limit * 88 / 100);
            let high = play(bits, 0, bits * 2, late, 0);
            assert!((limit * 98 / 100..=limit * 101 / 100).contains(&high.passed), "{high:?} of {limit}");
            assert!(high.dropped > limit * 90 / 100);
            assert_eq!(high.marked, 0);
            // 24 KiB at the lowest rate
            let most = if bits == 1_000_000 { 220 } else { 75 };
            assert!(high.longest <= Duration::from_millis(most), "{bits}: {high:?}");
        }
    }
}

#[test]
fn a_standing_queue_is_answered_with_marks_or_drops_before_it_is_full() {
    for (ecn, marks) in [(0, false), (2, true), (1, true)] {
        // 26 ms in the queue at once, and then exactly the rate
        let outcome = play(20_000_000, 65, 20_000_000, Duration::ZERO, ecn);
        assert!(outcome.longest < Duration::from_millis(40), "{outcome:?}");
        assert_eq!((outcome.dropped > 0, outcome.marked > 0), (!marks, marks));
        assert!(outcome.dropped < 65_000, "{outcome:?}");
    }
}

#[test]
fn a_small_packet_overtakes_the_queue_unless_its_flow_waits() {
    let mut limiter = down(1_000_000);
    let mut admit = |packet: &[u8]| {
        let lengths = PacketLengths::single(packet.len());
        let admission = limiter.admit(Direction::Down, packet, lengths, NOW).unwrap();
        if admission == Admission::Wait {
            // a flood is dropped in the end
            let _ = limiter.push(Direction::Down, packet, NOW);
        }
        admission
    };
    while admit(&packet(1400, 0, 1)) == Admission::Pass {}
    assert_eq!(admit(&packet(100, 0, 1)), Admission::Wait, "its order is kept");
    assert_eq!(admit(&packet(100, 0, 2)), Admission::Pass);
    assert_eq!(admit(&packet(400, 0, 3)), Admission::Wait, "not small");
    let passed = (0..1000).filter(|_| admit(&packet(100, 0, 4)) == Admission::Pass).count();
    assert!(passed < 40, "a flood of small packets has no more than the rate either: {passed}");
}

#[test]
fn super_packets_wait_if_they_take_long_and_leave_in_order() {
    let mut limiter = down(20_000_000);
    let lengths = PacketLengths { count: 40, each: 1400, last: 1400 };
    let admission = limiter.admit(Direction::Down, &packet(1400, 0, 1), lengths, NOW);
    assert_eq!(admission, Ok(Admission::Wait), "22 ms");
    assert_eq!(
        down(1_000_000_000).admit(Direction::Down, &packet(1400, 0, 1), lengths, NOW),
        Ok(Admission::Pass)
    );
    for number in 0..40 {
        limiter.push(Direction::Down, &packet(1000 + number, 0, 1), NOW).unwrap();
    }
    let mut out = [0; 2000];
    let mut now = NOW;
    let mut seen = Vec::new();
    while seen.len() < 40 {
        now = limiter.deadline().unwrap().max(now);
        assert!(limiter.release(Direction::Down, now));
        while let Some(len) = limiter.pop(Direction::Down, &mut out, now) {
            assert_eq!(out[..len], packet(len, 0, 1));
            seen.push(len);
        }
        limiter.hold(Direction::Down);
    }
    assert!(seen.iter().copied().eq(1000..1040));
    // its memory is freed later
    let due = limiter.deadline().unwrap();
    assert_eq!(due, now + Duration::from_secs(1));
    assert!(!limiter.release(Direction::Down, due));
    assert_eq!(limiter.deadline(), None);
}

#[test]
fn a_quota_ends_and_begins_again() {
    let packet = packet(1000, 0, 1);
    let lengths = PacketLengths { count: 20, each: 1000, last: 1000 };
    let quota = |end, over| Limits { quota: Some(QuotaLimit { end, over }), ..Limits::default() };
    let mut limiter = Limiter::default();
    assert!(!limiter.set(quota(5000, OverQuota::Drop), 4000));
    assert_eq!(limiter.admit(Direction::Up, &packet, lengths, NOW), Ok(Admission::Pass));
    assert!(!limiter.update(4999));
    assert!(limiter.update(5000) && !limiter.update(6000), "reported once");
    for direction in [Direction::Up, Direction::Down] {
        assert_eq!(limiter.admit(direction, &packet, lengths, NOW), Err(DropReason::OverQuota));
    }
    assert!(!limiter.set(quota(5000, OverQuota::Rate(rate(1_000_000))), 6000), "as before");
    for direction in [Direction::Up, Direction::Down] {
        assert_eq!(limiter.admit(direction, &packet, lengths, NOW), Ok(Admission::Wait));
        limiter.push(direction, &packet, NOW).unwrap();
    }
    assert!(limiter.is_over_quota());
    assert!(!limiter.set(quota(9000, OverQuota::Drop), 6000));
    assert!(!limiter.is_over_quota());
    // what has waited leaves at once
    let mut out = [0; 2000];
    assert!(limiter.release(Direction::Up, NOW + Duration::from_millis(1)));
    assert_eq!(limiter.pop(Direction::Up, &mut out, NOW), Some(1000));
    assert!(!limiter.is_unused());
    assert!(!limiter.set(Limits::default(), 6000));
    assert_eq!(limiter.clear(Direction::Down), 1);
    limiter.set(Limits::default(), 6000);
    assert!(limiter.is_unused());
}
