//! Encryption of a super-packet's messages by one thread, and by two that share it: how much a flow
//! would gain by a second worker, and what handing over costs. `cargo bench --bench two_workers`.
//! Wall-clock times on two free cores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::hint::{black_box, spin_loop};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Messages of a super-packet, and bytes of each: header, packet, tag.
const MESSAGES: usize = 45;
const MESSAGE: usize = 16 + 1420 + 16;

/// Messages that one thread encrypts, moved to the other one and back.
struct Part {
    bytes: Vec<u8>,
    first: u64,
}

impl Part {
    fn new(messages: usize, first: u64) -> Self {
        Self { bytes: vec![1; messages * MESSAGE], first }
    }

    fn seal(&mut self, key: &LessSafeKey) {
        for (message, counter) in self.bytes.chunks_exact_mut(MESSAGE).zip(self.first..) {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let (data, tag) = message[16..].split_at_mut(MESSAGE - 32);
            let nonce = Nonce::assume_unique_for_key(nonce);
            let sealed = key.seal_in_place_separate_tag(nonce, Aad::empty(), data).unwrap();
            tag.copy_from_slice(sealed.as_ref());
        }
    }
}

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).unwrap())
}

/// Receives without sleeping, or sleeps until there is something; `None` at the end.
fn receive(parts: &Receiver<Part>, is_awake: bool) -> Option<Part> {
    if !is_awake {
        return parts.recv().ok();
    }
    loop {
        match parts.try_recv() {
            Ok(part) => return Some(part),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => spin_loop(),
        }
    }
}

/// Starts the second worker; it ends when the sender is dropped.
fn helper(is_awake: bool) -> (Sender<Part>, Receiver<Part>) {
    let (to, parts) = channel();
    let (done, from) = channel();
    thread::spawn(move || {
        let key = key();
        while let Some(mut part) = receive(&parts, is_awake) {
            part.seal(&key);
            if done.send(part).is_err() {
                return;
            }
        }
    });
    (to, from)
}

fn two_workers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two workers");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes((MESSAGES * 1420) as u64));
    let key = key();
    group.bench_function("one alone", |bencher| {
        let mut whole = Part::new(MESSAGES, 0);
        bencher.iter(|| whole.seal(black_box(&key)));
    });
    for (name, is_awake) in [("awake", true), ("asleep", false)] {
        for (what, theirs) in [("half of it", MESSAGES / 2), ("nothing", 0)] {
            let (to, from) = helper(is_awake);
            let ours = if theirs == 0 { 0 } else { MESSAGES - theirs };
            let mut mine = Part::new(ours, 0);
            let mut other = Some(Part::new(theirs, ours as u64));
            group.bench_function(format!("{what} by a second one that is {name}"), |bencher| {
                bencher.iter(|| {
                    to.send(other.take().unwrap()).unwrap();
                    mine.seal(black_box(&key));
                    other = receive(&from, true);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, two_workers);
criterion_main!(benches);
