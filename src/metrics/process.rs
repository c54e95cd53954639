//! Metrics of this process. The files are opened at the start: the sandbox may block /proc later.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

use crate::net::timer::unix_now;

/// Size of the buffer for the list of network devices in bytes: a line has some 130.
const DEVICES: usize = 64 * 1024;
/// Column of the send drops in a line of that list: after the name there are eight receive
/// counters, then the send counters.
const SENT_DROPS: usize = 8 + 3;

/// State of the process; `None` where the kernel does not report a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessSample {
    /// Resident memory in bytes.
    pub resident: Option<u64>,
    /// CPU time used so far.
    pub cpu: Option<Duration>,
    /// Start time, since 1970.
    pub started: Duration,
    /// Packets dropped because the device's queue was full.
    pub queue_drops: Option<u64>,
}

/// Sources of a [`ProcessSample`].
#[derive(Debug)]
pub struct ProcessReader {
    /// /proc/self/statm, see proc(5): sizes in pages.
    statm: Option<File>,
    /// The list of the devices in this network namespace.
    devices: Option<File>,
    page: u64,
    started: Duration,
}

impl ProcessReader {
    /// Opens the files. Must be called at the start.
    pub fn open() -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            statm: File::open("/proc/self/statm").ok(),
            devices: File::open("/proc/self/net/dev").ok(),
            page: page.and_then(|page| page.try_into().ok()).unwrap_or(4096),
            started: unix_now(),
        }
    }

    /// Takes a sample; `tun` is the name of the device.
    pub fn sample(&self, tun: &str) -> ProcessSample {
        let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().and_then(|usage| {
            let [user, system] = [usage.user_time(), usage.system_time()].map(|time| {
                let micros = u64::try_from(time.tv_usec()).ok()?;
                Some(Duration::from_secs(u64::try_from(time.tv_sec()).ok()?) + Duration::from_micros(micros))
            });
            Some(user? + system?)
        });
        ProcessSample { resident: self.resident(), cpu, started: self.started, queue_drops: self.drops(tun) }
    }

    fn resident(&self) -> Option<u64> {
        let mut text = [0; 256];
        let length = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let pages: u64 = str::from_utf8(text.get(..length)?).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * self.page)
    }

    fn drops(&self, tun: &str) -> Option<u64> {
        let file = self.devices.as_ref()?;
        let mut text = vec![0; DEVICES];
        let mut length = 0;
        // the kernel returns one page at a time
        while let Some(room) = text.get_mut(length..).filter(|room| !room.is_empty()) {
            match file.read_at(room, length as u64).ok()? {
                0 => break,
                more => length += more,
            }
        }
        drops_of(str::from_utf8(text.get(..length)?).ok()?, tun)
    }
}

/// Returns the send drops in the line of the device `tun`.
fn drops_of(devices: &str, tun: &str) -> Option<u64> {
    let numbers = devices.lines().find_map(|line| line.trim_start().strip_prefix(tun)?.strip_prefix(':'))?;
    numbers.split_ascii_whitespace().nth(SENT_DROPS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_there_and_uses_memory() {
        let process = ProcessReader::open();
        let sample = process.sample("lo");
        let resident = sample.resident.unwrap();
        assert!((100_000..1 << 36).contains(&resident), "{resident}");
        let big = vec![1_u8; 64 << 20];
        let grown = process.sample("lo").resident.unwrap();
        assert!(grown > resident + (big.len() as u64) / 2, "{resident} {grown}");
        assert!(sample.cpu.is_some() && sample.started > Duration::from_secs(1 << 30));
        assert!(sample.queue_drops.is_some(), "every namespace has lo");
        assert_eq!(process.sample("no-such-device").queue_drops, None);
    }

    #[test]
    fn the_device_is_found_by_its_whole_name() {
        let devices = "Inter-| Receive | Transmit\n face |bytes packets errs drop\n   tun1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  tun10: 0 0 0 0 0 0 0 0 0 0 0 77 0 0 0 0\n";
        assert_eq!(drops_of(devices, "tun1"), Some(12));
        assert_eq!(drops_of(devices, "tun10"), Some(77));
        assert_eq!(drops_of(devices, "tun"), None);
    }
}
