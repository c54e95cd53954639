//! The loops' timers, and their clocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use wontun_proto::time::Instant;

/// Returns the CPU time that this thread has used, as an instant on a clock of its own.
///
/// # Errors
/// Errors of the kernel.
pub fn thread_time() -> io::Result<Instant> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Instant::from_boot(Duration::from(time)))
}

/// Returns the time on `CLOCK_BOOTTIME`.
///
/// # Errors
/// None on a kernel that this program runs on (Linux 2.6.39).
pub fn now() -> io::Result<Instant> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    Ok(Instant::from_boot(Duration::from(time)))
}

/// Returns the time on `CLOCK_BOOTTIME`, and the time for which the machine has been suspended
/// since boot. The latter is exact or too small, by the time for which this thread was preempted
/// between the two clock reads; never too large.
///
/// # Errors
/// As for [`now`].
pub fn now_and_suspended() -> io::Result<(Instant, Duration)> {
    let now = now()?;
    let awake = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?);
    Ok((now, now.since_boot().saturating_sub(awake)))
}

/// Returns the wall clock, as the time since 1970; zero for a clock set to an earlier time.
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A timerfd on `CLOCK_BOOTTIME` that is set only when it must expire earlier than it is armed for.
#[derive(Debug)]
pub struct Timer {
    fd: TimerFd,
    armed: Option<Instant>,
}

impl Timer {
    /// Creates a timer that is not armed.
    ///
    /// # Errors
    /// Errors of the kernel, such as too many open files.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { fd: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, armed: None })
    }

    /// Ensures that the descriptor becomes readable at `deadline` or earlier. An unnecessary
    /// expiration costs one wake-up; setting the timer for each packet would cost a system call
    /// each.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return Ok(()) };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        // zero would disarm it
        let time = TimeSpec::from_duration(deadline.since_boot().max(Duration::from_nanos(1)));
        self.fd.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.armed = Some(deadline);
        Ok(())
    }

    /// Acknowledges an expiration. Call it when the descriptor is readable.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn handle_expiration(&mut self) -> io::Result<()> {
        match self.fd.wait() {
            Ok(()) => self.armed = None,
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A timerfd on `CLOCK_REALTIME`, which is also readable when that clock is set.
#[derive(Debug)]
pub struct WallTimer(TimerFd);

/// A time that does not come: the year 2242.
const FAR: Duration = Duration::from_secs(1 << 33);

impl WallTimer {
    /// Creates a timer that is not armed.
    ///
    /// # Errors
    /// Errors of the kernel, such as too many open files.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?))
    }

    /// Makes the descriptor readable at `time`, since 1970, and when the clock is set before;
    /// `None` for the latter only.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn arm(&self, time: Option<Duration>) -> io::Result<()> {
        // zero would disarm it
        let time = time.map_or(FAR, |time| time.clamp(Duration::from_nanos(1), FAR));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.0.set(Expiration::OneShot(TimeSpec::from_duration(time)), flags)?)
    }

    /// Makes the descriptor readable at no time.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn disarm(&self) -> io::Result<()> {
        Ok(self.0.unset()?)
    }

    /// Acknowledges an expiration, or that the clock was set. The timer must be armed again.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn handle_expiration(&self) -> io::Result<()> {
        match self.0.wait() {
            Ok(()) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ECANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for WallTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn rings_within(timer: &impl AsFd, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(milliseconds)).unwrap() == 1
    }

    #[test]
    fn it_rings_for_the_earliest_deadline_and_once() {
        let mut timer = Timer::new().unwrap();
        timer.arm(None).unwrap();
        assert!(!rings_within(&timer, 0));
        let start = now().unwrap();
        timer.arm(Some(start + Duration::from_secs(3600))).unwrap();
        timer.arm(Some(start + Duration::from_millis(5))).unwrap();
        timer.arm(Some(start + Duration::from_secs(60))).unwrap();
        assert!(rings_within(&timer, 10_000));
        assert!(now().unwrap().since(start) >= Duration::from_millis(5));
        timer.handle_expiration().unwrap();
        timer.handle_expiration().unwrap();
        assert!(!rings_within(&timer, 20));
    }

    #[test]
    fn a_wall_timer_rings_at_its_time() {
        let timer = WallTimer::new().unwrap();
        timer.arm(None).unwrap();
        assert!(!rings_within(&timer, 0));
        let end = unix_now() + Duration::from_millis(5);
        timer.arm(Some(end)).unwrap();
        assert!(rings_within(&timer, 10_000) && unix_now() >= end);
        timer.handle_expiration().unwrap();
        timer.handle_expiration().unwrap();
        assert!(!rings_within(&timer, 20));
        timer.arm(Some(Duration::ZERO)).unwrap();
        assert!(rings_within(&timer, 10_000), "in the past");
        timer.disarm().unwrap();
        assert!(!rings_within(&timer, 0));
    }

    #[test]
    fn a_deadline_in_the_past_rings_at_once() {
        let mut timer = Timer::new().unwrap();
        timer.arm(Some(Instant::from_boot(Duration::ZERO))).unwrap();
        assert!(rings_within(&timer, 10_000));
    }
}
