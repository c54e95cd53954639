//! All metrics: their names, types, and the values that they take from a [`Sample`].
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units, `_total` for counters.

use super::lines::{Lines, Number};
use super::sample::{PeerSample, Sample, WorkerSample};
use crate::traffic::Traffic;
use wontun_packet::DropReason;

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, except for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// Returns the name used in `# TYPE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Family {
    /// Name of the metric.
    pub name: &'static str,
    /// Type of the metric.
    pub kind: Kind,
    /// Description in one line.
    pub help: &'static str,
    pub(super) values: Values,
}

/// Source of a metric's values.
#[derive(Debug)]
pub(super) enum Values {
    /// One value of the tunnel; `None` if it does not apply.
    One(fn(&Sample) -> Option<Number>),
    /// One value per worker.
    Workers(fn(&WorkerSample) -> u64),
    /// One value per peer; `None` for peers that it does not apply to.
    Peers(fn(&PeerSample) -> Option<Number>),
    /// Any other set of lines.
    Lines(fn(&Sample, &mut Lines<'_>)),
}

const fn counter(name: &'static str, help: &'static str, values: Values) -> Family {
    Family { name, kind: Kind::Counter, help, values }
}

const fn gauge(name: &'static str, help: &'static str, values: Values) -> Family {
    Family { name, kind: Kind::Gauge, help, values }
}

fn some(number: impl Into<Number>) -> Option<Number> {
    Some(number.into())
}

fn drops(sample: &Sample, lines: &mut Lines<'_>) {
    for reason in DropReason::ALL {
        lines.push(&[("reason", reason.name())], sample.totals.drops(reason).into());
    }
}

fn repairs(sample: &Sample, lines: &mut Lines<'_>) {
    for (what, count) in sample.host.repairs.counts() {
        lines.push(&[("what", what)], count.into());
    }
}

fn problems(sample: &Sample, lines: &mut Lines<'_>) {
    let missing = u64::from(sample.host.failure.is_some());
    for (kind, count) in [("missing", missing), ("unmet", sample.host.warnings.len() as u64)] {
        lines.push(&[("kind", kind)], count.into());
    }
}

fn staged(sample: &Sample) -> Option<Number> {
    sample.queues?;
    some(sample.peers.iter().map(|peer| peer.staged).sum::<usize>())
}

/// Returns the traffic of a peer that has carried something.
fn carried(peer: &PeerSample) -> Option<Traffic> {
    peer.traffic.filter(|traffic| *traffic != Traffic::NONE)
}

/// All metrics, in the order in which they are served.
pub static FAMILIES: &[Family] = &[
    gauge(
        "wontun_build_info",
        "Version of wontun; always 1.",
        Values::Lines(|_, lines| lines.push(&[("version", env!("CARGO_PKG_VERSION"))], true.into())),
    ),
    gauge(
        "wontun_tunnel_info",
        "The TUN device, and the mode: plain or wireguard; always 1.",
        Values::Lines(|sample, lines| {
            lines.push(&[("device", &sample.tun), ("mode", sample.mode)], true.into());
        }),
    ),
    gauge("wontun_device_up", "1 if the TUN device is up, else 0.", Values::One(|sample| some(sample.is_up))),
    gauge(
        "wontun_device_mtu_bytes",
        "MTU of the TUN device.",
        Values::One(|sample| some(u64::from(sample.mtu))),
    ),
    counter(
        "wontun_device_queue_drops_total",
        "Packets to the tunnel that the kernel dropped because the TUN device's queue was full.",
        Values::One(|sample| sample.process.queue_drops.map(Number::Whole)),
    ),
    gauge("wontun_workers", "Worker threads.", Values::One(|sample| some(sample.workers.len()))),
    counter(
        "wontun_transmit_bytes_total",
        "Bytes of inner packets from the TUN device to peers.",
        Values::One(|sample| some(sample.totals.tx.bytes)),
    ),
    counter(
        "wontun_transmit_packets_total",
        "Inner packets from the TUN device to peers.",
        Values::One(|sample| some(sample.totals.tx.packets)),
    ),
    counter(
        "wontun_receive_bytes_total",
        "Bytes of inner packets from peers to the TUN device.",
        Values::One(|sample| some(sample.totals.rx.bytes)),
    ),
    counter(
        "wontun_receive_packets_total",
        "Inner packets from peers to the TUN device.",
        Values::One(|sample| some(sample.totals.rx.packets)),
    ),
    counter("wontun_drops_total", "Dropped packets and datagrams, by reason.", Values::Lines(drops)),
    gauge(
        "wontun_socket_receive_queue_bytes",
        "Kernel memory of received datagrams not read yet, in all UDP sockets of a worker.",
        Values::Workers(|worker| worker.receive_queue),
    ),
    gauge(
        "wontun_socket_receive_buffer_bytes",
        "Receive buffer size of all UDP sockets of a worker.",
        Values::Workers(|worker| worker.receive_buffer),
    ),
    gauge(
        "wontun_socket_send_queue_bytes",
        "Kernel memory of datagrams not sent yet, in all UDP sockets of a worker.",
        Values::Workers(|worker| worker.send_queue),
    ),
    gauge(
        "wontun_socket_send_buffer_bytes",
        "Send buffer size of all UDP sockets of a worker.",
        Values::Workers(|worker| worker.send_buffer),
    ),
    counter(
        "wontun_socket_receive_drops_total",
        "Datagrams that the kernel dropped because the receive buffer of a worker's UDP socket was full.",
        Values::Workers(|worker| worker.receive_drops),
    ),
    gauge(
        "wontun_handshake_queue_messages",
        "Handshake messages that are processed next.",
        Values::One(|sample| some(sample.queues?.handshakes)),
    ),
    gauge(
        "wontun_handshake_backlog_messages",
        "Handshake messages beyond the rate limit of their source, processed later.",
        Values::One(|sample| some(sample.queues?.backlog)),
    ),
    gauge("wontun_staged_packets", "Packets that wait for a handshake with their peer.", Values::One(staged)),
    gauge(
        "wontun_peers",
        "Configured peers; in plain mode 1 once the peer is known.",
        Values::One(|sample| some(sample.peer_count)),
    ),
    gauge(
        "wontun_plain_peer_silence_seconds",
        "Time since the last datagram from the peer (plain mode).",
        Values::One(|sample| sample.silence.map(Number::Time)),
    ),
    gauge(
        "wontun_peer_has_session",
        "1 if there is a session with the peer, so that packets can be sent now, else 0.",
        Values::Peers(|peer| some(peer.has_session)),
    ),
    gauge(
        "wontun_peer_handshake_age_seconds",
        "Time since the last completed handshake with the peer; absent if there was none.",
        Values::Peers(|peer| peer.handshake_age.map(Number::Time)),
    ),
    counter(
        "wontun_peer_receive_bytes_total",
        "Bytes of the peer's authentic messages, handshakes and headers included.",
        Values::Peers(|peer| some(peer.rx_bytes)),
    ),
    counter(
        "wontun_peer_transmit_bytes_total",
        "Bytes of messages to the peer, handshakes and headers included.",
        Values::Peers(|peer| some(peer.tx_bytes)),
    ),
    counter(
        "wontun_peer_receive_packets_total",
        "Authentic packets from the peer.",
        Values::Peers(|peer| some(peer.rx_packets)),
    ),
    counter(
        "wontun_peer_transmit_packets_total",
        "Packets to the peer.",
        Values::Peers(|peer| some(peer.tx_packets)),
    ),
    gauge(
        "wontun_peer_month_receive_bytes",
        "Bytes received from the peer in this month (UTC), as wontun_peer_receive_bytes_total counts them; absent without any traffic.",
        Values::Peers(|peer| some(carried(peer)?.month.current.received)),
    ),
    gauge(
        "wontun_peer_month_transmit_bytes",
        "Bytes sent to the peer in this month (UTC), as wontun_peer_transmit_bytes_total counts them; absent without any traffic.",
        Values::Peers(|peer| some(carried(peer)?.month.current.sent)),
    ),
    gauge(
        "wontun_peer_day_receive_bytes",
        "Bytes received from the peer today (UTC), as wontun_peer_receive_bytes_total counts them; absent without any traffic.",
        Values::Peers(|peer| some(carried(peer)?.day.current.received)),
    ),
    gauge(
        "wontun_peer_day_transmit_bytes",
        "Bytes sent to the peer today (UTC), as wontun_peer_transmit_bytes_total counts them; absent without any traffic.",
        Values::Peers(|peer| some(carried(peer)?.day.current.sent)),
    ),
    counter(
        "wontun_peer_all_runs_receive_bytes_total",
        "Bytes received from the peer in all runs, as kept in the state file; absent without any traffic.",
        Values::Peers(|peer| some(carried(peer)?.total.received)),
    ),
    counter(
        "wontun_peer_all_runs_transmit_bytes_total",
        "Bytes sent to the peer in all runs, as kept in the state file; absent without any traffic.",
        Values::Peers(|peer| some(carried(peer)?.total.sent)),
    ),
    gauge(
        "wontun_peer_over_quota",
        "1 if the peer's quota is used up, else 0; absent for a peer without a quota.",
        Values::Peers(|peer| peer.is_over_quota.map(Number::from)),
    ),
    counter(
        "wontun_denied_packets_total",
        "Packets of new connections that the rules of peers denied; absent without rules.",
        Values::One(|sample| sample.host.denied.map(Number::Whole)),
    ),
    counter(
        "wontun_repairs_total",
        "State of the host that other programs removed or changed and that was restored.",
        Values::Lines(repairs),
    ),
    gauge(
        "wontun_host_problems",
        "State of the host that is missing and cannot be restored, and unmet conditions.",
        Values::Lines(problems),
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory of the tunnel process.",
        Values::One(|sample| sample.process.resident.map(Number::Whole)),
    ),
    counter(
        "process_cpu_seconds_total",
        "Time of the tunnel process on a CPU, user and system.",
        Values::One(|sample| sample.process.cpu.map(Number::Time)),
    ),
    gauge(
        "process_start_time_seconds",
        "Start time of the process, since 1970.",
        Values::One(|sample| some(sample.process.started)),
    ),
];
