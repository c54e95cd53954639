//! This thread's CPU time: other load on the machine is not counted.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Returns the CPU time that this thread has used so far.
pub(crate) fn time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel has this clock").into()
}
