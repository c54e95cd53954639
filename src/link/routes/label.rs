//! The label of a routing table: a route of type throw, which has no effect but to be seen, whose metric is made from
//! the device's name.
//!
//! It outlives the device and a killed run, so that the rules that stay behind are found again by the next run of the
//! same name, and by no other. `ip route show table all proto 119 type throw` lists them.

/// The last bit of the metric: `src_valid_mark` was 0 before tunnels of ours changed it.
const OWED: u32 = 1;

/// The label of one tunnel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) table: u32,
    pub(super) metric: u32,
}

impl Label {
    /// The label of the device called `name`, and whether `src_valid_mark` has to be put back.
    pub(super) fn new(table: u32, name: &str, owed: bool) -> Self {
        Self { table, metric: metric(name) | u32::from(owed) }
    }

    pub(super) fn belongs_to(self, name: &str) -> bool {
        self.metric & !OWED == metric(name)
    }

    pub(super) const fn is_owed(self) -> bool {
        self.metric & OWED != 0
    }
}

/// A hash of the name (FNV-1a, 32 bits) whose last bit is free; not 0, which is no metric.
fn metric(name: &str) -> u32 {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    (name.bytes().fold(0x811c_9dc5, hash) & !OWED).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_belongs_to_one_name() {
        let label = Label::new(51_820, "tun0", true);
        assert!(label.belongs_to("tun0") && label.is_owed());
        assert!(!label.belongs_to("tun1") && !label.belongs_to(""));
        let paid = Label::new(51_820, "tun0", false);
        assert!(paid.belongs_to("tun0") && !paid.is_owed());
        assert_ne!(paid, label);
    }
}
