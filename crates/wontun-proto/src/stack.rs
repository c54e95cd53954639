//! Keeps keys off a thread's stack once they are no longer in use.
//!
//! Moving a value copies it, and a cipher keeps its key in its own frame while it works: a
//! destructor reaches neither. So handshakes run in [`isolate`], and a caller of a function that is
//! not inlined and worked with keys of a session calls [`clear`] once the session is over.

use std::hint::black_box;

/// Bytes that are overwritten: more than a handshake uses, even without optimisation.
const DEPTH: usize = 32 * 1024;

/// Overwrites the 32 KiB of stack below the caller's frame, in less than a microsecond.
#[inline(never)]
pub fn clear() {
    let mut below = [0_u8; DEPTH];
    // the compiler must assume that it is read
    black_box(&mut below);
}

/// Runs `work` on a stack that holds nothing of earlier calls, and overwrites what it leaves there.
/// The stack must be clean before because values with unused bytes, such as a smaller variant of an
/// enum, copy the contents of these bytes to the heap.
pub fn isolate<R>(work: impl FnOnce() -> R) -> R {
    #[inline(never)]
    fn call<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    clear();
    let result = call(work);
    clear();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves copies of `bytes` on the stack.
    #[inline(never)]
    fn leave(bytes: &[u8; 32]) {
        let mut copies = [[0_u8; 32]; 512];
        copies.fill(*bytes);
        black_box(&mut copies);
    }

    /// Counts the copies of `bytes` in the memory of this thread's stack below this function's
    /// frame.
    #[inline(never)]
    fn left(bytes: &[u8; 32]) -> usize {
        use std::os::unix::fs::FileExt as _;
        let here = 0_u8;
        let end = &raw const here as u64 & !0xfff;
        let mut below = vec![0; DEPTH];
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut below, end - DEPTH as u64).unwrap();
        below.windows(bytes.len()).filter(|window| window == bytes).count()
    }

    #[test]
    fn what_a_call_left_is_overwritten() {
        let bytes = std::array::from_fn(|at| at.to_le_bytes()[0] ^ 0xa5);
        leave(&bytes);
        assert!(left(&bytes) > 256, "nothing to overwrite");
        clear();
        assert_eq!(left(&bytes), 0);
        isolate(|| leave(&bytes));
        assert_eq!(left(&bytes), 0);
    }
}
