//! Opcodes of classic BPF, the programs of socket filters: `linux/bpf_common.h`, and the kernel's
//! Documentation/networking/filter.rst.

use nix::libc;

/// Loads a byte of the packet into the accumulator.
pub const LOAD_BYTE: u16 = operation(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
/// Loads two bytes, in network byte order.
pub const LOAD_HALF: u16 = operation(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
/// Loads four bytes, in network byte order.
pub const LOAD_WORD: u16 = operation(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
/// Loads the length of the packet.
pub const LOAD_LENGTH: u16 = operation(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN);
/// Tests whether the accumulator is greater than a constant, and jumps.
pub const JUMP_IF_GREATER: u16 = operation(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K);
/// Compares the accumulator with a constant, and jumps.
pub const JUMP_IF_EQUAL: u16 = operation(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
/// Tests whether the accumulator and a constant have a bit in common, and jumps.
pub const JUMP_IF_ANY_BIT: u16 = operation(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K);
/// Takes the accumulator modulo a constant.
pub const MODULO: u16 = operation(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K);
/// Adds a constant to the accumulator.
pub const ADD: u16 = operation(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K);
/// Returns a constant.
pub const RETURN: u16 = operation(libc::BPF_RET | libc::BPF_K);
/// Returns the accumulator.
pub const RETURN_ACCUMULATOR: u16 = operation(libc::BPF_RET | libc::BPF_A);

#[allow(clippy::cast_possible_truncation, reason = "an operation has 16 bits")]
const fn operation(code: u32) -> u16 {
    code as u16
}
