//! Numbers of ioctl(2) requests (`asm-generic/ioctls.h`, `linux/sockios.h`), for which libc and
//! musl declare different types, and of fcntl(2) commands.

#[cfg(target_pointer_width = "64")]
use nix::libc;
use nix::libc::{c_int, c_long};

/// Defines the number of a call; -1 on 32-bit processors, since libc lacks some of these there, and
/// no filter is built of them.
macro_rules! number {
    ($name:ident = $number:expr) => {
        #[cfg(target_pointer_width = "64")]
        pub(super) const $name: c_long = $number;
        #[cfg(not(target_pointer_width = "64"))]
        pub(super) const $name: c_long = -1;
    };
}

number!(ACCEPT = libc::SYS_accept);
number!(MMAP = libc::SYS_mmap);
number!(NEWFSTATAT = libc::SYS_newfstatat);
number!(NO_CALL = 0xffff_ffff);
number!(RSEQ = libc::SYS_rseq);

pub(super) const TCGETS: c_int = 0x5401;
pub(super) const TIOCSTI: c_int = 0x5412;
pub(super) const TIOCGWINSZ: c_int = 0x5413;
pub(super) const FIONREAD: c_int = 0x541b;
pub(super) const TIOCLINUX: c_int = 0x541c;
pub(super) const FIONBIO: c_int = 0x5421;
pub(super) const FIOSETOWN: c_int = 0x8901;
pub(super) const SIOCSPGRP: c_int = 0x8902;
pub(super) const SIOCGIFNAME: c_int = 0x8910;
pub(super) const SIOCGIFINDEX: c_int = 0x8933;
// from `asm-generic/fcntl.h`
pub(super) const F_SETSIG: c_int = 10;
pub(super) const F_SETOWN_EX: c_int = 15;
