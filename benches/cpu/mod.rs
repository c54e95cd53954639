//! The time that this thread ran: what others do on the machine does not count.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time that this thread has run so far.
pub(crate) fn time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel has this clock").into()
}
