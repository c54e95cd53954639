//! A thread's capability sets, read as the kernel's own bit masks.
//!
//! The `caps` crate knows the capabilities that existed when it was released; a newer kernel has
//! more. So sets that must be complete are read, and the bounding set is reduced, by number. All
//! functions act on the calling thread.

use std::io;

use nix::libc::{self, c_int, c_ulong};

/// One past the highest number that fits the kernel's masks.
const NUMBERS: u8 = 64;

/// The three sets that `capget` returns; bit n is the capability with the number n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySets {
    /// Capabilities that the kernel checks.
    pub effective: u64,
    /// Capabilities that may be made effective.
    pub permitted: u64,
    /// Capabilities that a program with matching file capabilities receives through `execve`.
    pub inheritable: u64,
}

/// Reads the effective, permitted and inheritable sets.
///
/// # Errors
/// Errors of `capget`; a sandbox may forbid it.
pub fn sets() -> io::Result<CapabilitySets> {
    /// `_LINUX_CAPABILITY_VERSION_3`: masks of 64 bits, in two halves.
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: for version 3 the kernel reads one header and writes exactly two halves; both live on
    // this stack, are laid out as in linux/capability.h, and are not kept.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let [low, high] = halves;
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok(CapabilitySets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// Reads the bounding set.
///
/// # Errors
/// Errors of `prctl`.
pub fn bounding() -> io::Result<u64> {
    mask(|number| prctl(libc::PR_CAPBSET_READ, number.into(), 0))
}

/// Reads the ambient set; empty on a kernel without one (before 4.3).
///
/// # Errors
/// Errors of `prctl`.
pub fn ambient() -> io::Result<u64> {
    let is_set = libc::PR_CAP_AMBIENT_IS_SET as c_ulong;
    mask(|number| prctl(libc::PR_CAP_AMBIENT, is_set, number.into()))
}

/// Removes one capability from the bounding set.
///
/// # Errors
/// Errors of `prctl`: `EPERM` without `CAP_SETPCAP`, `EINVAL` for a number that the kernel does not
/// know.
pub fn drop_from_bounding(number: u8) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, number.into(), 0).map(drop)
}

/// Queries every number up to the first that the kernel does not know.
fn mask(holds: impl Fn(u8) -> io::Result<bool>) -> io::Result<u64> {
    let mut mask = 0;
    for number in 0..NUMBERS {
        match holds(number) {
            Ok(held) => mask |= u64::from(held) << number,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(mask)
}

fn prctl(option: c_int, second: c_ulong, third: c_ulong) -> io::Result<bool> {
    const UNUSED: c_ulong = 0;
    // SAFETY: the three options used here take numbers only, in full-width arguments, and access no
    // memory.
    let result = unsafe { libc::prctl(option, second, third, UNUSED, UNUSED) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result == 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_proc_shows() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let shown = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let sets = sets().unwrap();
        assert_eq!(sets.effective, shown("CapEff:"));
        assert_eq!(sets.permitted, shown("CapPrm:"));
        assert_eq!(sets.inheritable, shown("CapInh:"));
        assert_eq!(bounding().unwrap(), shown("CapBnd:"));
        assert_eq!(ambient().unwrap(), shown("CapAmb:"));
        assert!(drop_from_bounding(63).is_err(), "no kernel knows the number, or we may not");
    }
}
