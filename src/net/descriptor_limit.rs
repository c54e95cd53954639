//! The limit on open file descriptors.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Descriptors besides those of workers and connections: files, netlink, timers, the log, and as
/// many again.
const OTHERS: rlim_t = 128;
/// Descriptors of a worker: its epoll instance, its wake eventfd, its queue and a socket for each
/// address family, and as many again.
const OF_WORKER: rlim_t = 10;

/// Raises the limit on open files (`RLIMIT_NOFILE`) to what this number of workers needs, up to the
/// hard limit; the usual 1,024 are enough for 89.
pub fn raise(workers: usize) {
    let workers = rlim_t::try_from(workers).unwrap_or(rlim_t::MAX);
    let wanted = OF_WORKER.saturating_mul(workers).saturating_add(OTHERS);
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        // if that is not enough, opening a descriptor beyond the limit reports the error
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_for_many_and_never_lowered() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise(1);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (before.max(138.min(hard)), hard));
        raise(256);
        let (after, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(after >= 2688.min(hard) && after >= before);
    }
}
