//! State of the TUN device on the host, its queue length and the size of its super-packets.

use std::time::Duration;

use tracing::{debug, warn};

use super::error::{SupervisorError, system};
use super::identity::DeviceIdentity;
use crate::config::TunName;
use crate::logging::RateLimit;
use crate::messages;
use crate::net::send_batch::{MAX_MESSAGE, MAX_SEGMENTS_OF_MESSAGE};
use crate::netlink::{self, Configured, ExistingLink, Link, LinkError, LinkMonitor, LinkState};
use wontun_packet::ip;

/// State of the TUN device on the host.
#[derive(Debug)]
pub(super) struct LinkWatch {
    pub(super) link: Link,
    pub(super) monitor: LinkMonitor,
    pub(super) index: u32,
    /// True if wontun manages its addresses, MTU and state.
    pub(super) is_managed: bool,
    /// MTU in bytes, as set or found.
    pub(super) mtu: u32,
    /// MTU in the configuration.
    pub(super) wanted_mtu: Option<u32>,
    /// Owner and queues at the start.
    pub(super) tun_at_start: Option<ExistingLink>,
    /// Overhead of a datagram in bytes, if super-packets are to be fitted to messages.
    pub(super) datagram_overhead: Option<u32>,
    /// True if the host has, or had, a device that sends packets in UDP datagrams.
    has_udp_tunnel: bool,
    pub(super) up: bool,
    /// True if it was moved to another network namespace, where it cannot be managed.
    pub(super) is_in_other_netns: bool,
    pub(super) pending_events: PendingLinkEvents,
    pub(super) identity: DeviceIdentity,
    /// True once the warning that it is down was logged, until it is up again.
    pub(super) reported_down: bool,
    /// True if IPv6 addresses are missing that could not be restored, since IPv6 was disabled.
    pub(super) lacks_ipv6: bool,
    /// True once the warning about disabled IPv6 was logged.
    pub(super) reported_ipv6_disabled: bool,
    /// Rate limit of the log lines about it.
    pub(super) log_limit: RateLimit,
}

/// Pending events: all that were read since they were last handled.
#[derive(Debug, Default)]
pub(super) struct PendingLinkEvents {
    /// True if there were any.
    pub(super) is_pending: bool,
    /// Set if the device was moved to another network namespace, to its index there.
    pub(super) moved: Option<Option<u32>>,
    /// True if the device was down at one of them.
    pub(super) went_down: bool,
    /// True if its MTU was less than [`ip::IPV6_MIN_MTU`] at one of them.
    pub(super) lost_ipv6: bool,
}

impl PendingLinkEvents {
    pub(super) const fn push_state(&mut self, state: LinkState) {
        self.is_pending = true;
        self.went_down |= !state.up;
        self.lost_ipv6 |= state.mtu < ip::IPV6_MIN_MTU;
    }
}

/// Length of the device's queue in packets, the driver's default. While a socket is full, packets
/// are kept here, and a burst of some hundred must fit.
const GSO_QUEUE: u32 = 500;
/// Queue length without super-packets. A single worker reads them then, while all write: answers to
/// what they write arrive faster than they are read, and with 500 a burst of a thousand answers
/// lost some. Other devices have this length; twice of it doubles the ping under load.
const PLAIN_QUEUE: u32 = 1_000;
/// Bytes that TCP leaves free of the maximum size (`MAX_TCP_HEADER` and one).
const TCP_RESERVE: u32 = 321;
/// Bytes of the usual headers of an inner segment: IPv4, TCP with timestamps.
const SEGMENT_HEADERS: u32 = 52;
/// Limit of the kernel (`GSO_LEGACY_MAX_SIZE`).
const MAX_SUPER_PACKET: u32 = 65_536;

/// Returns the size of a super-packet with as many segments, each with `overhead`, as fit one
/// message.
fn gso_size(mtu: u32, overhead: u32) -> u32 {
    let segments = u32::try_from(MAX_MESSAGE).unwrap_or(u32::MAX) / (mtu + overhead).max(1);
    let segments = segments.clamp(1, u32::try_from(MAX_SEGMENTS_OF_MESSAGE).unwrap_or(1));
    (segments * mtu.saturating_sub(SEGMENT_HEADERS) + TCP_RESERVE).min(MAX_SUPER_PACKET)
}

/// Returns true if this host forwards packets of either family that are received from the device
/// called `name`.
fn forwards(name: &str) -> bool {
    let own_v4 = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
    let own_v6 = format!("/proc/sys/net/ipv6/conf/{name}/force_forwarding");
    let all_v4 = "/proc/sys/net/ipv4/ip_forward";
    [all_v4, "/proc/sys/net/ipv6/conf/all/forwarding", &own_v4, &own_v6]
        .into_iter()
        // if the IPv4 setting cannot be read, assume that it does
        .any(|path| std::fs::read_to_string(path).map_or(path == all_v4, |text| text.trim() != "0"))
}

impl LinkWatch {
    /// Finds the device and starts monitoring its changes.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub(super) fn open(name: &TunName) -> Result<Self, LinkError> {
        let link = Link::open(name.as_str())?;
        let index = link.index();
        Ok(Self {
            link,
            monitor: LinkMonitor::open(index)?,
            index,
            is_managed: false,
            mtu: 0,
            wanted_mtu: None,
            tun_at_start: None,
            datagram_overhead: None,
            // a failed list costs throughput only
            has_udp_tunnel: netlink::has_udp_tunnel().unwrap_or_default(),
            up: false,
            is_in_other_netns: false,
            pending_events: PendingLinkEvents::default(),
            identity: DeviceIdentity::default(),
            reported_down: false,
            lacks_ipv6: false,
            reported_ipv6_disabled: false,
            log_limit: RateLimit::new(Duration::from_secs(1)),
        })
    }

    /// Records the current state of the device, and discards the events of changes made by this
    /// process.
    ///
    /// # Errors
    /// The device is gone, or netlink fails.
    pub(super) fn record_state(&mut self) -> Result<(), SupervisorError> {
        while self.monitor.poll_event().map_err(system("reading link changes"))?.is_some() {}
        let state = self.link.state()?;
        self.link.record_fingerprint()?;
        (self.mtu, self.up) = (state.mtu, state.up);
        Ok(())
    }

    /// Makes the kernel build super-packets as large as one message of datagrams, each `overhead`
    /// bytes longer than its packet, and sets the device's queue length accordingly.
    pub(super) fn set_gso_queue(&mut self, overhead: usize) {
        self.datagram_overhead = u32::try_from(overhead).ok();
        self.set_queue_len(GSO_QUEUE);
        self.adapt_gso_size();
    }

    /// Sets the queue length of a device without super-packets.
    pub(super) fn set_plain_queue(&mut self) {
        self.set_queue_len(PLAIN_QUEUE);
    }

    fn set_queue_len(&mut self, packets: u32) {
        if let Err(error) = self.link.set_queue_len(packets) {
            debug!(%error, "cannot set the length of the transmit queue");
        }
    }

    /// Fits the size of super-packets to the MTU. A host that forwards keeps the kernel's limit:
    /// packets coalesced by its other devices are often larger, and would be split before they
    /// arrive here. So does one with a tunnel of its own (VXLAN) whose packets may cross this one:
    /// TCP fills its super-packets up to the limit of that device.
    pub(super) fn adapt_gso_size(&mut self) {
        let Some(overhead) = self
            .datagram_overhead
            .filter(|_| !self.is_in_other_netns && !self.has_udp_tunnel && !forwards(self.link.name()))
        else {
            return;
        };
        let fitted = self.link.set_gso_max_size(gso_size(self.mtu, overhead));
        debug!(?fitted, "adapted the maximum GSO size to the MTU");
    }

    /// Gives super-packets the kernel's limit: a device has appeared whose packets may be larger
    /// than those of TCP on this one.
    pub(super) fn handle_udp_tunnel(&mut self) {
        let had_one = std::mem::replace(&mut self.has_udp_tunnel, true);
        if !had_one && self.datagram_overhead.is_some() && !self.is_in_other_netns {
            let done = self.link.set_gso_max_size(MAX_SUPER_PACKET);
            debug!(?done, "reset the maximum GSO size, since a tunnel over UDP was created");
        }
    }

    /// Warns once about addresses that could not be set.
    pub(super) fn warn_ipv6_disabled(&mut self, configured: &Configured) {
        let Some(first) = configured.ipv6_disabled.first() else { return };
        if std::mem::replace(&mut self.reported_ipv6_disabled, true) {
            return;
        }
        let tun = self.link.name();
        warn!(
            tun,
            address = %first,
            "IPv6 is disabled on {tun}, so its IPv6 addresses are not set, and IPv4 continues without them; \
             in Docker add --sysctl net.ipv6.conf.all.disable_ipv6=0, \
             elsewhere run sysctl -w net.ipv6.conf.default.disable_ipv6=0 before starting"
        );
    }

    /// Returns the state as a message for the tunnel process.
    pub(super) const fn message(&self) -> messages::DeviceState {
        messages::DeviceState { mtu: self.mtu, is_up: self.up, is_in_other_netns: self.is_in_other_netns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_super_packet_fills_one_message() {
        // 45 segments of 1,368 bytes, 44 of 1,420
        assert_eq!(gso_size(1420, 32), 45 * 1368 + 321);
        assert_eq!(gso_size(1472, 0), 44 * 1420 + 321);
        // the kernel's limit of 64 segments; jumbo frames; the largest and the smallest possible
        // MTU
        assert_eq!(gso_size(576, 32), 64 * 524 + 321);
        assert_eq!(gso_size(9000, 32), 7 * 8948 + 321);
        assert_eq!([gso_size(65_475, 32), gso_size(65_507, 0)], [MAX_SUPER_PACKET; 2]);
        assert_eq!(gso_size(68, 0), 64 * 16 + 321);
        for mtu in 576..=65_475 {
            let payload = gso_size(mtu, 32) - TCP_RESERVE;
            // with timestamps and without; over IPv6 one more segment may go in a second message
            for headers in [52, 40] {
                let size = mtu - headers;
                let datagrams = payload / size * (mtu + 32);
                assert!(
                    payload / size <= 64 && datagrams <= 65_507 || payload < size,
                    "MTU {mtu}, {headers}"
                );
            }
        }
    }
}
