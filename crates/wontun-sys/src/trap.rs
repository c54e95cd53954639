//! Termination of a process that makes a system call which its seccomp filter forbids
//! (`SECCOMP_RET_TRAP`).

use std::io;

use nix::libc::{self, c_int, c_void};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The exit code, which is a shell's for a death by `SIGSYS`: 128 and the signal's number.
pub const EXIT_FORBIDDEN: i32 = 128 + libc::SIGSYS;

/// Makes a forbidden call end this process with [`EXIT_FORBIDDEN`], and with a line on standard
/// error that includes the call's number. Without it the kernel kills the process by `SIGSYS`
/// without a message. This applies to all threads; the signal is unblocked for the calling thread
/// and those that it starts.
///
/// # Errors
/// Errors of the kernel.
pub fn report_forbidden_calls() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigAction(handle), SaFlags::SA_SIGINFO, SigSet::all());
    // SAFETY: the handler only accesses its arguments and its stack, and calls nothing but write
    // and _exit, both of which signal-safety(7) allows. Nothing else in this program handles
    // SIGSYS.
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    let mut sigsys = SigSet::empty();
    sigsys.add(Signal::SIGSYS);
    Ok(sigsys.thread_unblock()?)
}

/// The beginning of the kernel's `siginfo_t` for `SIGSYS`, which `libc` does not define
/// (`include/uapi/asm-generic/siginfo.h`).
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    /// Address of the call; its alignment is that of the union that it is in.
    address: *const c_void,
    call: c_int,
    /// `AUDIT_ARCH_*`.
    architecture: libc::c_uint,
}

extern "C" fn handle(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a siginfo_t of 128 bytes, more than is
    // read here; for SIGSYS its fields are those of `Info`. One that another process sent has other
    // values there, but the same size.
    let call = unsafe { (*info.cast::<Info>()).call };
    let mut line = Line { bytes: [0; LINE], length: 0 };
    line.put(b"wontun: the sandbox forbids system call ");
    line.put_number(call.unsigned_abs());
    line.put(b" (");
    line.put(std::env::consts::ARCH.as_bytes());
    line.put(b"), which ends this process: an attack, or a fault in wontun: please report it; --no-sandbox does without\n");
    // SAFETY: the first `length` bytes are the buffer's; a failed write cannot be handled.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.length) };
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(EXIT_FORBIDDEN) }
}

/// Maximum bytes of the line.
const LINE: usize = 192;

/// Text on the stack: a signal handler must not allocate.
struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl Line {
    /// Appends `text`; bytes that do not fit are left out.
    fn put(&mut self, text: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(text) {
            *slot = *byte;
            self.length += 1;
        }
    }

    fn put_number(&mut self, number: u32) {
        let mut divisor = 1;
        while number / divisor >= 10 {
            divisor *= 10;
        }
        while divisor > 0 {
            let digit = u8::try_from(number / divisor % 10).unwrap_or(0);
            self.put(&[b'0' + digit]);
            divisor /= 10;
        }
    }
}

/// Makes any system call, as an attacker in control of the process could.
#[cfg(any(test, feature = "testing"))]
pub fn raw_call(number: libc::c_long, arguments: [libc::c_long; 6]) -> io::Result<libc::c_long> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the tests make calls that a filter stops, or that get no address but null.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u32) -> String {
        let mut line = Line { bytes: [0; LINE], length: 0 };
        line.put_number(number);
        String::from_utf8(line.bytes[..line.length].to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 59, 100, 435, u32::MAX] {
            assert_eq!(written(number), number.to_string());
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut line = Line { bytes: [0; LINE], length: 0 };
        line.put(&[b'x'; LINE - 1]);
        line.put(b"yz");
        assert_eq!((line.length, &line.bytes[LINE - 2..]), (LINE, &b"xy"[..]));
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let (three_numbers, address) = (12_usize.next_multiple_of(size_of::<usize>()), size_of::<usize>());
        assert_eq!(std::mem::offset_of!(Info, call), three_numbers + address);
        assert!(size_of::<Info>() <= size_of::<libc::siginfo_t>());
    }
}
