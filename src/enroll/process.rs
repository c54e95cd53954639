//! The process `enroll`: start, confinement, and messages of the supervisor.

use std::net::UdpSocket;
use std::os::fd::{AsFd as _, OwnedFd};

use super::ROLE;
use super::messages::{FromResponder, ToResponder};
use super::responder::Responder;
use crate::process::{self, Channel, ChannelError, format_error_chain};
use crate::resolver::messages::ErrorMessage;
use crate::sandbox::Sandbox;

/// The process's end of the channel.
type HelperChannel = Channel<ToResponder, FromResponder>;

/// Main function of the process: answers devices until the other end of `socket` is closed. Returns
/// the exit code.
pub fn main(socket: OwnedFd) -> u8 {
    let prepared = process::prepare_helper(ROLE).map_err(|error| format_error_chain(&error));
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let (is_sandboxed, sockets) = match channel.receive_until(None) {
        Ok(Some((ToResponder::Start { is_sandboxed }, sockets))) => (is_sandboxed, sockets),
        // its parent has ended
        Err(ChannelError::Closed) => return 0,
        _ => return 1,
    };
    let opened = prepared.and_then(|()| {
        let sockets: Vec<_> = sockets.into_iter().map(UdpSocket::from).collect();
        let nonblocking = sockets.iter().try_for_each(|socket| socket.set_nonblocking(true));
        nonblocking.map_err(|error| error.to_string())?;
        if is_sandboxed {
            Sandbox::for_enroll()
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        Ok(Responder::new(sockets))
    });
    let (answer, responder) = match opened {
        Ok(responder) => (FromResponder::Ready, Some(responder)),
        Err(text) => (FromResponder::NotReady(ErrorMessage::cut(text)), None),
    };
    if channel.send_blocking(&answer, Vec::new()).is_err() {
        return 1;
    }
    responder.map_or(1, |responder| serve(&mut channel, responder))
}

/// Answers devices until the other end is closed. Returns the exit code.
fn serve(channel: &mut HelperChannel, mut responder: Responder) -> u8 {
    loop {
        match responder.turn(channel.as_fd()) {
            Ok(requests) => {
                for request in requests {
                    if channel.send_blocking(&request, Vec::new()).is_err() {
                        return 1;
                    }
                }
            }
            Err(_) => return 1,
        }
        loop {
            match channel.receive() {
                Ok(Some((ToResponder::Settings { number, result }, _))) => {
                    responder.handle_settings(number, result);
                }
                Ok(Some((ToResponder::Enrolled { number, result }, _))) => {
                    responder.handle_enrolled(number, result);
                }
                Ok(None) => break,
                Err(ChannelError::Closed) => return 0,
                Ok(Some((ToResponder::Start { .. }, _))) | Err(_) => return 1,
            }
        }
    }
}
