//! Packets that a host's devices received or sent, counted by nft(8).

use super::site::Site;

/// Named counters of one host, each for the packets that a rule of nft matches.
#[derive(Debug)]
pub(crate) struct Tally<'site> {
    site: &'site Site,
}

impl<'site> Tally<'site> {
    /// Starts counting packets at `hook`, such as `prerouting`. A packet is counted by the first of
    /// `rules` that it matches; each is a counter's name and the condition, which may be empty.
    pub(crate) fn start(site: &'site Site, hook: &str, rules: &[(&str, &str)]) -> Self {
        let mut script = String::from("table inet tally {\n");
        for (name, _) in rules {
            script += &format!("counter {name} {{}}\n");
        }
        script += &format!("chain {hook} {{ type filter hook {hook} priority -400;\n");
        for (name, condition) in rules {
            script += &format!("{condition} counter name {name} return\n");
        }
        script += "}\n}\n";
        let file = site.write("tally.nft", &script);
        site.shell(&format!("nft -f {}", file.display()));
        Self { site }
    }

    /// Returns the packets that the counter `name` has seen.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let text = self.site.shell(&format!("nft list counter inet tally {name}"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).unwrap_or_else(|| panic!("no packets in {text}")).parse().unwrap()
    }

    /// Sets all counters to 0.
    pub(crate) fn reset(&self) {
        self.site.shell("nft reset counters table inet tally");
    }
}
