//! Selection of the socket in a `SO_REUSEPORT` group that receives a WireGuard message: a program
//! that the kernel runs for each datagram that arrives for the group.
//!
//! The first socket of the group receives everything except data messages; the others receive the
//! data messages, selected by receiver index: the kernel numbers sockets in the order in which they
//! were bound. Closing a socket changes the order, and for a number without a socket the kernel
//! uses a hash over all of them, so the group is closed as a whole.

use nix::libc::sock_filter;

use wontun_sys::bpf;

/// Type of a data message, its first byte.
const DATA: u32 = 4;
/// Offset of the receiver index in a data message.
const RECEIVER: u32 = 4;

/// Instructions of a program.
pub type Program = [sock_filter; 7];

/// Returns the program of a group of one socket and `receivers` more, at least one.
pub const fn program(receivers: u32) -> Program {
    // a load beyond the datagram's end returns 0, which is the first socket
    [
        instruction(bpf::LOAD_BYTE, 0, 0, 0),
        instruction(bpf::JUMP_IF_EQUAL, DATA, 0, 4),
        instruction(bpf::LOAD_WORD, RECEIVER, 0, 0),
        instruction(bpf::MODULO, receivers, 0, 0),
        instruction(bpf::ADD, 1, 0, 0),
        instruction(bpf::RETURN_ACCUMULATOR, 0, 0, 0),
        instruction(bpf::RETURN, 0, 0, 0),
    ]
}

const fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
