//! Selection of the socket in a `SO_REUSEPORT` group that receives a WireGuard message: a program
//! that the kernel runs for each datagram that arrives for the group.
//!
//! The first socket of the group receives everything except data messages. Behind it are a socket
//! for each receiver's data messages, and another for each receiver's small ones, selected by
//! receiver index: the kernel numbers sockets in the order in which they were bound. A small
//! message so does not wait for bulk traffic that arrived before it, and the kernel counts a
//! super-packet, or messages that it has coalesced, as one. Closing a socket changes the order, and
//! for a number without a socket the kernel uses a hash over all of them, so the group is closed as
//! a whole.

use nix::libc::sock_filter;

use wontun_sys::bpf;

/// Type of a data message, its first byte.
const DATA: u32 = 4;
/// Offset of the receiver index in a data message.
const RECEIVER: u32 = 4;

/// Length in bytes up to which a message is small: one with a DNS answer of 512 bytes is.
pub const SMALL: usize = 576;
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
const SMALL_U32: u32 = SMALL as u32;

/// Instructions of a program.
pub type Program = [sock_filter; 13];

/// Returns the program of a group of one socket, and two for each of `receivers`, at least one.
pub const fn program(receivers: u32) -> Program {
    // a load beyond the datagram's end returns 0, which is the first socket
    [
        instruction(bpf::LOAD_BYTE, 0, 0, 0),
        instruction(bpf::JUMP_IF_EQUAL, DATA, 0, 10),
        instruction(bpf::LOAD_LENGTH, 0, 0, 0),
        instruction(bpf::JUMP_IF_GREATER, SMALL_U32, 0, 4),
        instruction(bpf::LOAD_WORD, RECEIVER, 0, 0),
        instruction(bpf::MODULO, receivers, 0, 0),
        instruction(bpf::ADD, 1, 0, 0),
        instruction(bpf::RETURN_ACCUMULATOR, 0, 0, 0),
        instruction(bpf::LOAD_WORD, RECEIVER, 0, 0),
        instruction(bpf::MODULO, receivers, 0, 0),
        instruction(bpf::ADD, receivers + 1, 0, 0),
        instruction(bpf::RETURN_ACCUMULATOR, 0, 0, 0),
        instruction(bpf::RETURN, 0, 0, 0),
    ]
}

const fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
