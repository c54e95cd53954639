//! The MSS of TCP SYNs that pass through the tunnel.

use std::net::IpAddr;
use std::sync::Arc;

use crate::lab::Lab;
use crate::tunnel::{CLIENT_V4, CLIENT_V6, DEVICE, Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};
use crate::wireguard::capture::Capture;

/// MSS that the hosts themselves send without the tunnel: their network has larger packets.
const OWN: u16 = 8000;

/// A SYN, or a SYN and ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Syn {
    is_answer: bool,
    mss: Option<u16>,
}

fn parse(packet: &[u8]) -> Option<Syn> {
    const TCP: u8 = 6;
    let segment = match packet.first()? >> 4 {
        4 if *packet.get(9)? == TCP => packet.get(usize::from(packet[0] & 15) * 4..)?,
        6 if *packet.get(6)? == TCP => packet.get(40..)?,
        _ => return None,
    };
    let (syn, ack) = (segment.get(13)? & 2 != 0, segment.get(13)? & 16 != 0);
    if !syn {
        return None;
    }
    let mut options = segment.get(20..usize::from(segment.get(12)? >> 4) * 4)?;
    let mut mss = None;
    while let [kind, rest @ ..] = options {
        options = match (kind, rest) {
            (0, _) => break,
            (1, rest) => rest,
            (kind, [length, value @ ..]) => {
                if *kind == 2 {
                    mss = Some(u16::from_be_bytes(*value.first_chunk()?));
                }
                value.get(usize::from(*length) - 2..)?
            }
            _ => break,
        };
    }
    Some(Syn { is_answer: ack, mss })
}

/// Returns the MSS of the SYN where it leaves the tunnel at the server, and of its answer where it
/// leaves at the client.
fn received_mss(tunnel: &Tunnel, inner: IpAddr) -> [u16; 2] {
    let [at_server, at_client] =
        [&tunnel.server_site, &tunnel.client_site].map(|site| Capture::of(site, parse));
    tunnel.connect(inner).say_hello();
    let (at_server, at_client) = (at_server.stop(), at_client.stop());
    let find = |seen: &[Syn], is_answer: bool| {
        let syn = seen.iter().find(|syn| syn.is_answer == is_answer);
        syn.and_then(|syn| syn.mss).unwrap_or_else(|| panic!("no SYN with an MSS in {seen:?}"))
    };
    // the MSS at the tunnel's entrance is the hosts' own
    assert_eq!([find(&at_client, false), find(&at_server, true)], [OWN, OWN]);
    [find(&at_server, false), find(&at_client, true)]
}

fn clamps(mode: Mode, server: &str, client: &str, expected: [u16; 2]) {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(mode);
    let (at_server, at_client) = (plan.server.clone().args(server), plan.client.clone().args(client));
    let tunnel = Plan { server: at_server, client: at_client, ..plan }.start_on(&lab);
    let mss = OWN.to_string();
    for (site, v4, v6) in [
        (&tunnel.server_site, format!("{CLIENT_V4}/32"), format!("{CLIENT_V6}/128")),
        (&tunnel.client_site, format!("{SERVER_V4}/32"), format!("{SERVER_V6}/128")),
    ] {
        site.ip(&["route", "replace", &v4, "dev", DEVICE, "advmss", &mss]);
        site.ip(&["-6", "route", "replace", &v6, "dev", DEVICE, "advmss", &mss]);
    }
    for (inner, expected) in [IpAddr::from(SERVER_V4), SERVER_V6.into()].into_iter().zip(expected) {
        assert_eq!(
            received_mss(&tunnel, inner),
            [expected; 2],
            "{mode:?}, server '{server}', client '{client}'"
        );
    }
}

/// 1420 less 40 over IPv4, less 60 over IPv6.
const FITS: [u16; 2] = [1380, 1360];

#[test]
fn wireguard_lowers_the_mss_both_ways() {
    clamps(Mode::WireGuard, "", "", FITS);
    clamps(Mode::WireGuard, "--offload off", "--offload off", FITS);
}

/// One end suffices, as the other may be a kernel that does not clamp.
#[test]
fn one_end_of_wireguard_lowers_the_mss_for_both() {
    clamps(Mode::WireGuard, "--clamp-mss on", "--clamp-mss off", FITS);
    clamps(Mode::WireGuard, "--clamp-mss off", "", FITS);
}

#[test]
fn who_does_not_want_it_keeps_the_mss() {
    clamps(Mode::WireGuard, "--clamp-mss off", "--clamp-mss off", [OWN; 2]);
    clamps(Mode::Plain, "", "", [OWN; 2]);
}

#[test]
fn plain_mode_lowers_the_mss_when_told_to() {
    clamps(Mode::Plain, "--clamp-mss on", "", [1432, 1412]);
}
