//! The ownership marker of a routing table: a route of type throw without effect, whose metric is
//! derived from the tunnel's name.
//!
//! It outlives the device and a killed run, so that the next run with the same name, and no other,
//! finds the rules left behind. `ip route show table all proto 119 type throw` lists the markers.

/// The last bit of the metric: set if `src_valid_mark` was 0 before wontun changed it.
const RESTORES_SETTING: u32 = 1;

/// The ownership marker of one tunnel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnershipMarker {
    pub(super) table: u32,
    pub(super) metric: u32,
}

impl OwnershipMarker {
    /// Creates the marker of the tunnel called `name`; `needs_restore` is true if `src_valid_mark`
    /// has to be restored.
    pub(super) fn new(table: u32, name: &str, needs_restore: bool) -> Self {
        Self { table, metric: metric(name) | u32::from(needs_restore) }
    }

    pub(super) fn belongs_to(self, name: &str) -> bool {
        self.metric & !RESTORES_SETTING == metric(name)
    }

    pub(super) const fn needs_restore(self) -> bool {
        self.metric & RESTORES_SETTING != 0
    }
}

/// Returns a hash of the name (FNV-1a, 32 bits) with the last bit cleared; never 0, which means no
/// metric.
fn metric(name: &str) -> u32 {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    (name.bytes().fold(0x811c_9dc5, hash) & !RESTORES_SETTING).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_belongs_to_one_name() {
        let marker = OwnershipMarker::new(51_820, "tun0", true);
        assert!(marker.belongs_to("tun0") && marker.needs_restore());
        assert!(!marker.belongs_to("tun1") && !marker.belongs_to(""));
        let without = OwnershipMarker::new(51_820, "tun0", false);
        assert!(without.belongs_to("tun0") && !without.needs_restore());
        assert_ne!(without, marker);
    }
}
