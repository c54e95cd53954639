//! Super-packets in a UDP tunnel.

use super::super::field::set;
use super::super::sample::{Sample, payload, samples};
use super::super::virtio::{Header, PartialChecksum, Tunnel};
use super::tests::{header, segments, write_all};
use super::{Split, SplitError};
use proptest::prelude::*;

/// Returns `inner` in a UDP tunnel such as VXLAN, and the offsets of the outer UDP header and of
/// `inner`. `field`: the outer UDP checksum.
fn in_tunnel(six: bool, identification: u16, field: Option<u16>, inner: &[u8]) -> (Vec<u8>, usize, usize) {
    let mut frame = vec![8, 0, 0, 0, 0, 0, 7, 0];
    frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    let start = frame.len();
    frame.extend(inner);
    let sample = Sample { six, tcp: false, identification, payload: frame, ..Sample::default() };
    let mut packet = sample.packet();
    if let Some(field) = field {
        set(&mut packet, sample.checksum_field(), field.to_be_bytes()).unwrap();
    }
    (packet, sample.offset(), sample.headers_len() + start)
}

fn tunnel_header(inner: &Header, transport: usize, network: usize, has_checksum: bool) -> Header {
    let network = u16::try_from(network).unwrap();
    Header {
        tunnel: Some(Tunnel {
            outer_transport: u16::try_from(transport).unwrap(),
            inner_network: network,
            has_checksum,
        }),
        checksum: inner.checksum.map(|it| PartialChecksum { start: it.start + network, ..it }),
        ..*inner
    }
}

#[test]
fn a_header_that_describes_another_tunnel_is_refused() {
    let sample = Sample { payload: payload(300, 1), ..Sample::default() };
    let inner = header(&sample, 100, true);
    let (packet, transport, network) = in_tunnel(false, 1, Some(0), &sample.partial());
    assert_eq!(
        Split::new(&tunnel_header(&inner, transport, network, false), &packet).unwrap().remaining(),
        3
    );
    for (transport, network) in [(transport + 2, network), (transport, 24), (transport, packet.len() + 1)] {
        let header = tunnel_header(&inner, transport, network, false);
        assert_eq!(Split::new(&header, &packet).err(), Some(SplitError::OtherTunnel));
    }
    let header = tunnel_header(&inner, transport, network - 2, false);
    assert_eq!(Split::new(&header, &packet).err(), Some(SplitError::Malformed));
    // the checksum of the outer header instead of the inner one
    let header = Header { checksum: inner.checksum, ..tunnel_header(&inner, transport, network, false) };
    assert_eq!(Split::new(&header, &packet).err(), Some(SplitError::OtherChecksum));
    // the outer header is no UDP
    let header = tunnel_header(&inner, sample.offset(), network, false);
    assert_eq!(Split::new(&header, &sample.partial()).err(), Some(SplitError::OtherTunnel));
}

proptest! {
    #[test]
    fn segments_in_a_tunnel_have_its_headers(
        sample in samples(0),
        len in 0_usize..4000,
        size in 1_u16..1500,
        six: bool,
        has_checksum: bool,
        identification: u16,
    ) {
        let size = size.max(u16::try_from(len / 60).unwrap()).max(1);
        let sample = Sample { payload: payload(len, 3), ..sample };
        // the kernel puts the sum of the pseudo header into a field that is to be completed
        let field = if has_checksum { 0x1234 } else { 0 };
        let (packet, transport, network) = in_tunnel(six, identification, Some(field), &sample.partial());
        let header = tunnel_header(&header(&sample, size, true), transport, network, has_checksum);
        let written = write_all(&header, &packet);
        let inner = segments(&sample, size);
        let field = (!has_checksum).then_some(0);
        let expected = (0_u16..).zip(&inner).map(|(number, inner)| {
            in_tunnel(six, identification.wrapping_add(number), field, inner).0
        });
        prop_assert_eq!(written, expected.collect::<Vec<_>>());
    }
}
