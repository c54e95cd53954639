//! The `names` process: start, confinement, and messages of the supervisor.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use super::ROLE;
use super::certificate::public_authorities;
use super::messages::{FromNames, ToNames};
use super::server::{Listeners, Server};
use super::tls::Report;
use super::upstream::Upstream;
use super::zone::Zone;
use crate::config::DnsUpstreams;
use crate::net::random::SystemRandom;
use crate::process::{self, Channel, ChannelError, format_error_chain};
use crate::resolver::messages::ErrorMessage;
use crate::sandbox::Sandbox;

/// The process's end of the channel.
type HelperChannel = Channel<ToNames, FromNames>;

/// Main function of the process: answers queries until the other end of `socket` is closed.
/// Returns the exit code.
pub fn main(socket: OwnedFd) -> u8 {
    let prepared = process::prepare_helper(ROLE).map_err(|error| format_error_chain(&error));
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let (is_sandboxed, udp, upstream, sockets) = match channel.receive_until(None) {
        Ok(Some((ToNames::Start { is_sandboxed, udp, upstream }, sockets))) => {
            (is_sandboxed, udp, upstream, sockets)
        }
        // its parent has ended
        Err(ChannelError::Closed) => return 0,
        _ => return 1,
    };
    let opened = prepared.and_then(|()| {
        let random = SystemRandom::open().map_err(|error| format_error_chain(&error))?;
        let listeners = listeners(sockets, usize::from(udp)).map_err(|error| error.to_string())?;
        let tls_ports = tls_ports(&upstream);
        let upstream = Upstream::new(upstream, public_authorities).map_err(|error| error.to_string())?;
        if is_sandboxed {
            Sandbox::for_names(tls_ports.as_deref())
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        Ok(Server::new(listeners, upstream, random))
    });
    let (answer, server) = match opened {
        Ok(server) => (FromNames::Ready, Some(server)),
        Err(text) => (FromNames::NotReady(ErrorMessage::cut(text)), None),
    };
    if channel.send_blocking(&answer, Vec::new()).is_err() {
        return 1;
    }
    server.map_or(1, |server| serve(&mut channel, server))
}

/// Returns the ports of the name servers over TLS; `None` if others are asked.
fn tls_ports(upstream: &DnsUpstreams) -> Option<Vec<u16>> {
    match upstream {
        DnsUpstreams::Tls(servers) => Some(servers.iter().map(|server| server.address.port()).collect()),
        DnsUpstreams::Host | DnsUpstreams::Plain(_) => None,
    }
}

fn listeners(sockets: Vec<OwnedFd>, udp: usize) -> std::io::Result<Listeners> {
    let mut sockets = sockets.into_iter();
    let udp: Vec<UdpSocket> = sockets.by_ref().take(udp).map(UdpSocket::from).collect();
    let tcp: Vec<TcpListener> = sockets.map(TcpListener::from).collect();
    udp.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    tcp.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    Ok(Listeners { udp, tcp })
}

/// Answers queries until the other end is closed. Returns the exit code.
fn serve(channel: &mut HelperChannel, mut server: Server) -> u8 {
    let mut next: Option<Zone> = None;
    loop {
        let turn = server.turn(channel.as_fd());
        for Report { server, problem } in server.take_reports() {
            let problem = problem.map(ErrorMessage::cut);
            // a busy supervisor is not waited for
            let _ = channel.try_send(&FromNames::Upstream { server, problem }, &[]);
        }
        match turn {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return 1,
        }
        loop {
            match channel.receive() {
                Ok(Some((ToNames::Zone(settings), _))) => next = Some(settings.into_zone()),
                Ok(Some((ToNames::Peers(peers), _))) => {
                    let Some(zone) = &mut next else { return 1 };
                    for (label, addresses) in peers.into_vec() {
                        zone.add(label, addresses);
                    }
                }
                Ok(Some((ToNames::Commit, _))) => {
                    let Some(zone) = next.take() else { return 1 };
                    server.set_zone(zone);
                }
                Ok(None) => break,
                Err(ChannelError::Closed) => return 0,
                Ok(Some((ToNames::Start { .. }, _))) | Err(_) => return 1,
            }
        }
    }
}
