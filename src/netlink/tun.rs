//! TUN devices as described by rtnetlink: their owner, and the number of queues held by processes.

use netlink_packet_core::{parse_string, parse_u32};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::libc::{IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO};

use super::error::LinkError;
use super::message::{self, LINK_HEADER, attribute, attribute_u32, link_header};
use super::request_error::RequestError;
use super::socket::NetlinkSocket;

/// Attribute types in `IFLA_INFO_DATA`, from linux/if_link.h.
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_GROUP: u16 = 2;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PI: u16 = 4;
const IFLA_TUN_VNET_HDR: u16 = 5;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFLA_TUN_NUM_QUEUES: u16 = 8;
const IFLA_TUN_NUM_DISABLED_QUEUES: u16 = 9;
/// `IFF_TUN` of linux/if_tun.h as a byte.
const IFF_TUN: u8 = 1;

/// The existing link with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingLink {
    /// No device: the name is free.
    Absent,
    /// A device of another kind, including tap devices.
    Other,
    /// A tun device of a kernel that does not describe them (before Linux 4.17).
    Undescribed {
        /// Index of the device.
        index: u32,
    },
    /// A tun device.
    Tun(TunState),
}

/// The kernel's description of a tun device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunState {
    /// Index of the device.
    pub index: u32,
    /// The user that may attach without CAP_NET_ADMIN (`TUNSETOWNER`). With neither owner nor group
    /// every user may.
    pub owner: Option<u32>,
    /// The group whose members may attach (`TUNSETGROUP`).
    pub group: Option<u32>,
    /// True if a `struct tun_pi` precedes packets.
    pub packet_info: bool,
    /// True if a virtio-net header precedes packets (`IFF_VNET_HDR`).
    pub virtio_header: bool,
    /// True if the device was created with `IFF_MULTI_QUEUE`: each process that attaches has to
    /// request the same.
    pub multi_queue: bool,
    /// True if the device stays when no process holds it (`TUNSETPERSIST`, `ip tuntap add`).
    pub persistent: bool,
    /// Number of queues held by processes, attached or detached (`IFF_DETACH_QUEUE`). The kernel
    /// reports it for multi-queue devices only.
    pub queues: Option<u32>,
}

impl TunState {
    /// Returns true if a process is known to hold the device. A persistent device with a single
    /// queue may be held nevertheless: the kernel refuses a second process with EBUSY then. It does
    /// not for a multi-queue device.
    pub fn is_attached(&self) -> bool {
        !self.persistent || self.queues.is_some_and(|queues| queues > 0)
    }
}

/// Returns the device called `name` in this thread's network namespace.
///
/// # Errors
/// Netlink is unavailable.
pub(crate) fn existing_link(name: &str) -> Result<ExistingLink, LinkError> {
    let action = || format!("find out whether {name} is taken");
    match request(message::get_link_by_name(name), action)? {
        Ok(Some(body)) => Ok(parse(&body)),
        Ok(None) => Err(LinkError::NoReply { action: action() }),
        Err(RequestError::Refused { errno: Errno::ENODEV, .. }) => Ok(ExistingLink::Absent),
        Err(failure) => Err(LinkError::new(action(), failure, "give a name of 1 to 15 bytes")),
    }
}

/// Renames the device `index`, which must be down. Returns false if another device has that name.
///
/// # Errors
/// The privilege or the device is missing, or netlink fails.
pub(crate) fn rename(index: u32, name: &str) -> Result<bool, LinkError> {
    let action = || format!("give a new tun device the name {name}");
    match request(message::rename(index, name), action)? {
        Ok(_) => Ok(true),
        Err(RequestError::Refused { errno: Errno::EEXIST, .. }) => Ok(false),
        Err(failure) => Err(LinkError::new(action(), failure, "choose another name with --tun")),
    }
}

/// Deletes the device `index`, even if a process holds it.
///
/// # Errors
/// The privilege or the device is missing, or netlink fails.
pub(crate) fn delete(index: u32) -> Result<(), LinkError> {
    let action = || format!("delete the tun device {index}");
    let outcome = request(message::delete_link(index), action)?;
    outcome.map(drop).map_err(|failure| LinkError::new(action(), failure, ""))
}

/// Sends one request by a new socket. The outer error is that of opening the socket.
fn request(
    message: RouteNetlinkMessage,
    action: impl FnOnce() -> String,
) -> Result<Result<Option<Vec<u8>>, RequestError>, LinkError> {
    let mut netlink =
        NetlinkSocket::open().map_err(|source| LinkError::Socket { action: action(), source })?;
    Ok(netlink.request(message, 0))
}

/// Parses an `RTM_NEWLINK`.
pub(super) fn parse(body: &[u8]) -> ExistingLink {
    let info = body.get(LINK_HEADER..).and_then(|attributes| attribute(attributes, IFLA_LINKINFO));
    let info = info.unwrap_or_default();
    let kind = attribute(&info, IFLA_INFO_KIND).and_then(|kind| parse_string(&kind).ok());
    let Some(header) = link_header(body).filter(|_| kind.as_deref() == Some("tun")) else {
        return ExistingLink::Other;
    };
    let data = attribute(&info, IFLA_INFO_DATA).unwrap_or_default();
    let byte = |kind| attribute(&data, kind).and_then(|value| value.first().copied());
    let is_set = |kind| byte(kind).is_some_and(|set| set != 0);
    match byte(IFLA_TUN_TYPE) {
        None => return ExistingLink::Undescribed { index: header.index },
        Some(IFF_TUN) => {}
        Some(_) => return ExistingLink::Other,
    }
    let user = |kind| parse_u32(&attribute(&data, kind)?).ok();
    let detached = attribute_u32(&data, IFLA_TUN_NUM_DISABLED_QUEUES).unwrap_or_default();
    ExistingLink::Tun(TunState {
        index: header.index,
        owner: user(IFLA_TUN_OWNER),
        group: user(IFLA_TUN_GROUP),
        packet_info: is_set(IFLA_TUN_PI),
        virtio_header: is_set(IFLA_TUN_VNET_HDR),
        multi_queue: is_set(IFLA_TUN_MULTI_QUEUE),
        persistent: is_set(IFLA_TUN_PERSIST),
        queues: attribute_u32(&data, IFLA_TUN_NUM_QUEUES).map(|held| held.saturating_add(detached)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::tests::{link, nla};
    use super::*;

    const DEVICE: TunState = TunState {
        index: 3,
        owner: None,
        group: None,
        packet_info: false,
        virtio_header: false,
        multi_queue: false,
        persistent: false,
        queues: None,
    };

    fn device(kind: &[u8], data: &[Vec<u8>]) -> ExistingLink {
        let info = [nla(IFLA_INFO_KIND, kind), nla(IFLA_INFO_DATA, &data.concat())].concat();
        parse(&link(0, 3, 0, &[nla(4, &[0; 4]), nla(IFLA_LINKINFO, &info)].concat()))
    }

    fn flags(kind: u8, persist: u8, multi: u8) -> Vec<u8> {
        [nla(IFLA_TUN_TYPE, &[kind]), nla(IFLA_TUN_PERSIST, &[persist]), nla(IFLA_TUN_MULTI_QUEUE, &[multi])]
            .concat()
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        nla(kind, &value.to_ne_bytes())
    }

    #[test]
    fn tun_devices_are_recognized() {
        assert_eq!(device(b"tun\0", &[flags(1, 0, 0)]), ExistingLink::Tun(DEVICE));
        assert_eq!(device(b"tun\0", &[]), ExistingLink::Undescribed { index: 3 });
        assert_eq!(device(b"tun\0", &[flags(2, 0, 0)]), ExistingLink::Other, "a tap");
        assert_eq!(device(b"veth\0", &[flags(1, 0, 0)]), ExistingLink::Other);
        assert_eq!(parse(&link(0, 3, 0, &[])), ExistingLink::Other, "such as lo");
        assert_eq!(parse(&[]), ExistingLink::Other);
    }

    #[test]
    fn owners_headers_and_queues_are_read() {
        let data = [
            number(IFLA_TUN_OWNER, 0),
            number(IFLA_TUN_GROUP, 7),
            flags(1, 1, 1),
            nla(IFLA_TUN_PI, &[0]),
            nla(IFLA_TUN_VNET_HDR, &[1]),
            number(IFLA_TUN_NUM_QUEUES, 2),
            number(IFLA_TUN_NUM_DISABLED_QUEUES, 1),
        ];
        let expected = TunState {
            owner: Some(0),
            group: Some(7),
            virtio_header: true,
            multi_queue: true,
            persistent: true,
            queues: Some(3),
            ..DEVICE
        };
        assert_eq!(device(b"tun\0", &data), ExistingLink::Tun(expected));
        let many =
            [flags(1, 0, 1), number(IFLA_TUN_NUM_QUEUES, u32::MAX), number(IFLA_TUN_NUM_DISABLED_QUEUES, 1)];
        let expected = TunState { multi_queue: true, queues: Some(u32::MAX), ..DEVICE };
        assert_eq!(device(b"tun\0", &many), ExistingLink::Tun(expected));
    }

    #[test]
    fn holders_are_known_from_their_queues() {
        for (persistent, queues, held) in [
            (false, None, true),
            (true, None, false),
            (true, Some(0), false),
            (true, Some(1), true),
            (false, Some(1), true),
        ] {
            let state = TunState { persistent, queues, ..DEVICE };
            assert_eq!(state.is_attached(), held, "{state:?}");
        }
    }

    /// Needs no privilege.
    #[test]
    fn a_name_is_free_or_taken() {
        assert_eq!(existing_link("no-such-link").unwrap(), ExistingLink::Absent);
        assert_eq!(existing_link("lo").unwrap(), ExistingLink::Other);
        let error = existing_link("a-name-of-more-than-15-bytes").unwrap_err();
        assert!(error.to_string().contains("a-name-of-more-than-15-bytes is taken"), "{error}");
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }
    }
}
