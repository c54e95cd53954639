//! Which socket of a group (SO_REUSEPORT) a WireGuard message goes to: a program that the kernel
//! runs for each datagram that comes to the group.
//!
//! The first socket of the group has all but data messages, the others have the data messages by
//! their receiver index: the kernel counts sockets in the order in which they were bound. A socket
//! that is closed changes the order, and an index that no socket has is replaced by a hash over all
//! of them, so the group is closed as a whole.

use nix::libc::{self, sock_filter};

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
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, DATA, 0, 4),
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, RECEIVER, 0, 0),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, receivers, 0, 0),
        instruction(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 1, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

#[allow(clippy::cast_possible_truncation, reason = "an operation has 16 bits")]
const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
