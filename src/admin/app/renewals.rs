//! Limits on new keys that owners of peers make: each is a change of the server's file, and pushes
//! an earlier one out of the log of changes.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::OwnerName;
use wontun_proto::time::Instant;

/// Renewals of an owner: as many at once, and one more at each interval.
const BURST: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(360);

/// The renewals so far, of owners who have made some lately.
#[derive(Debug, Default)]
pub(super) struct Renewals(HashMap<OwnerName, Instant>);

impl Renewals {
    /// Counts a renewal. Returns the time to wait, if there are too many.
    pub(super) fn begin(&mut self, owner: &OwnerName, now: Instant) -> Result<(), Duration> {
        // each owner has the time until which the renewals so far would take at one an interval
        self.0.retain(|_, end| now < *end);
        let end = self.0.get(owner).map_or(now, |end| *end) + INTERVAL;
        match end.since(now).checked_sub(INTERVAL * BURST).filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => {
                self.0.insert(owner.clone(), end);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_at_once_and_ten_an_hour() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let (anna, ben) = ("anna".parse().unwrap(), "ben".parse().unwrap());
        let mut renewals = Renewals::default();
        let made = (0..20).filter(|_| renewals.begin(&anna, at(100)).is_ok()).count();
        assert_eq!((made, renewals.begin(&anna, at(160))), (10, Err(Duration::from_secs(300))));
        assert_eq!(renewals.begin(&ben, at(160)), Ok(()));
        let later = (0..20).filter(|_| renewals.begin(&anna, at(100 + 3600)).is_ok()).count();
        assert_eq!((later, renewals.0.len()), (10, 1));
    }
}
