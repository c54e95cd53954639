//! A descriptor for epoll out of `tun-tap`'s interface, which offers only a number.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The descriptor of `iface`, borrowed for as long as the interface is.
pub fn descriptor(iface: &tun_tap::Iface) -> BorrowedFd<'_> {
    // SAFETY: `Iface` owns the open file and closes it only when dropped; the borrow keeps it from that.
    unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) }
}
