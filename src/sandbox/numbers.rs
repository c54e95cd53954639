//! Numbers of ioctl(2) requests (`asm-generic/ioctls.h`, `linux/sockios.h`), for which libc and
//! musl declare different types, and of fcntl(2) commands.

use nix::libc::c_int;

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
