//! The only unsafe code of the program: small functions over borrowed descriptors and slices that
//! neither the standard library nor `nix` offers.
#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod datagram;
#[cfg(ipsec_mb)]
pub mod ipsec_mb;
pub mod process;
pub mod socket;
pub mod trap;
pub mod tun;
pub mod wiped;
