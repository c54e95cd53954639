//! The message to who sent a packet that does not fit: ICMP "fragmentation needed" (RFC 792, RFC 1191), ICMPv6 "packet
//! too big" (RFC 4443 section 3.2). Path MTU discovery lives on it.

use std::net::IpAddr;

use super::checksum;
use super::field::{set, u16_at};
use super::ip::{self, IPV4_HEADER, IPV6_HEADER, Version};

/// The room that [`reply`] needs, in bytes: no ICMPv6 error is longer (RFC 4443 section 2.4 c).
pub const MAX_REPLY: usize = 1280;
/// No ICMP error is longer (RFC 1812 section 4.3.2.3).
const MAX_REPLY_V4: usize = 576;

/// No IPv4 link takes less (RFC 791), and no IPv6 link (RFC 8200).
const MIN_MTU_V4: usize = 68;
const MIN_MTU_V6: usize = 1280;

/// Bytes in front of the quoted packet.
const ICMP_HEADER: usize = 8;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const DESTINATION_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
const REDIRECT_V6: u8 = 137;
/// The last ICMP type that is known not to be reserved, experimental or an error yet to come: address mask reply.
const LAST_KNOWN: u8 = 18;

/// IPv4: don't fragment, beside the fragment's offset.
const DONT_FRAGMENT: u16 = 0x4000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// IPv6 extension headers (RFC 8200 section 4, RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers looked behind; a longer chain is not what a host sends.
const MAX_EXTENSIONS: usize = 8;

/// Writes into `out` the answer to `packet`, which is longer than the `mtu` bytes that fit, and gives its length.
///
/// `None` where there must be no answer (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e): `packet` is not one whole
/// packet; is itself an ICMP error or a redirect, or may be one; is a fragment other than the first; comes from or goes to
/// an address that is not one host's (multicast too, though RFC 4443 allows it: the answer would have no source).
/// Neither is there one that would help nobody: an IPv4 packet without DF, which may be fragmented instead, and a packet
/// that fits what the answer would tell, which is 68 at least, over IPv6 1280.
///
/// The answer's source is where `packet` was going: a tunnel need not have an address of its own, and from there its
/// sender expects packets out of the tunnel, so that no reverse path filter stops it. It is addressed to where `packet`
/// came from, so it goes back the way that `packet` came. How often one may be sent is the caller's to bound (RFC 4443
/// section 2.4 f).
pub fn reply(packet: &[u8], mtu: usize, out: &mut [u8; MAX_REPLY]) -> Option<usize> {
    let version = ip::well_formed(packet)?;
    let (source, destination) = ip::addresses(packet)?;
    (is_host(source) && is_host(destination)).then_some(())?;
    match version {
        Version::V4 => reply_v4(packet, mtu.max(MIN_MTU_V4), out),
        Version::V6 => reply_v6(packet, mtu.max(MIN_MTU_V6), out),
    }
}

fn reply_v4(packet: &[u8], mtu: usize, out: &mut [u8; MAX_REPLY]) -> Option<usize> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let [source @ .., _, _, _, _] = header.last_chunk::<8>()?;
    let destination = header.last_chunk::<4>()?;
    if packet.len() <= mtu || fragment & DONT_FRAGMENT == 0 || fragment & FRAGMENT_OFFSET != 0 {
        return None;
    }
    if header[9] == ICMP && is_error_v4(*packet.get(usize::from(header[0] & 0x0f) * 4)?) {
        return None;
    }
    let quoted = packet.get(..packet.len().min(MAX_REPLY_V4 - IPV4_HEADER - ICMP_HEADER))?;
    let len = IPV4_HEADER + ICMP_HEADER + quoted.len();
    let reply = out.get_mut(..len)?;
    reply.fill(0);
    // precedence: internetwork control (RFC 1812 section 4.3.2.5)
    set(reply, 0, [0x45, 0xc0])?;
    set(reply, 2, u16::try_from(len).ok()?.to_be_bytes())?;
    set(reply, 6, DONT_FRAGMENT.to_be_bytes())?;
    set(reply, 8, [HOPS, ICMP])?;
    set(reply, 12, *destination)?;
    set(reply, 16, *source)?;
    let checksum = checksum::checksum(reply.get(..IPV4_HEADER)?);
    set(reply, 10, checksum.to_be_bytes())?;

    let message = reply.get_mut(IPV4_HEADER..)?;
    set(message, 0, [DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED])?;
    set(message, 6, u16::try_from(mtu).ok()?.to_be_bytes())?;
    message.get_mut(ICMP_HEADER..)?.copy_from_slice(quoted);
    let checksum = checksum::checksum(message);
    set(message, 2, checksum.to_be_bytes())?;
    Some(len)
}

fn reply_v6(packet: &[u8], mtu: usize, out: &mut [u8; MAX_REPLY]) -> Option<usize> {
    let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
    let [source @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = header.last_chunk::<32>()?;
    let destination = header.last_chunk::<16>()?;
    if packet.len() <= mtu || !may_be_answered_v6(packet)? {
        return None;
    }
    let quoted = packet.get(..packet.len().min(MAX_REPLY - IPV6_HEADER - ICMP_HEADER))?;
    let len = IPV6_HEADER + ICMP_HEADER + quoted.len();
    let reply = out.get_mut(..len)?;
    reply.fill(0);
    let payload = u16::try_from(ICMP_HEADER + quoted.len()).ok()?;
    set(reply, 0, [0x60])?;
    set(reply, 4, payload.to_be_bytes())?;
    set(reply, 6, [ICMPV6, HOPS])?;
    set(reply, 8, *destination)?;
    set(reply, 24, *source)?;

    let (header, message) = reply.split_at_mut_checked(IPV6_HEADER)?;
    set(message, 0, [PACKET_TOO_BIG])?;
    set(message, 4, u32::try_from(mtu).ok()?.to_be_bytes())?;
    message.get_mut(ICMP_HEADER..)?.copy_from_slice(quoted);
    let pseudo_header = checksum::pseudo_header(header.get(8..)?, ICMPV6, payload);
    let checksum = pseudo_header.add_bytes(message).checksum();
    set(message, 2, checksum.to_be_bytes())?;
    Some(len)
}
