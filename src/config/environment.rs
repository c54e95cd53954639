//! Detects unknown environment variables with wontun's prefix, mostly misspelled options.

use std::fmt;

const PREFIX: &str = "WONTUN_";

/// Prefixes of the variables that Kubernetes sets for a service named `wontun`.
const INJECTED: [&str; 2] = ["WONTUN_SERVICE_", "WONTUN_PORT"];

/// Minimum Jaro-Winkler similarity of a suggested name, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.7;

/// A variable with wontun's prefix that no option reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownVariable {
    /// Name of the variable.
    pub name: String,
    /// The most similar variable of an option; `None` if none is similar.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment variable {} is not known", self.name.escape_debug())?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => f.write_str("; see wontun --help for those that are"),
        }
    }
}

/// Returns the names in `set` that have wontun's prefix and are not in `known`. Variables that
/// Kubernetes sets are skipped.
pub(crate) fn unknown_variables(
    set: impl IntoIterator<Item = String>,
    known: &[String],
) -> Vec<UnknownVariable> {
    set.into_iter()
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .filter(|name| !INJECTED.iter().any(|injected| name.starts_with(injected)))
        .map(|name| {
            // without the common prefix, which would make all names similar
            let own = |text: &str| text.strip_prefix(PREFIX).unwrap_or(text).to_owned();
            let similarity = |candidate: &&String| strsim::jaro_winkler(&own(candidate), &own(&name));
            let nearest = known
                .iter()
                .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
                .filter(|candidate| similarity(candidate) >= MIN_SIMILARITY)
                .cloned();
            UnknownVariable { name, nearest }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(set: &[&str]) -> Vec<String> {
        let known = ["WONTUN_PEER", "WONTUN_MTU", "WONTUN_LISTEN", "WONTUN_LISTEN_PORT"].map(str::to_owned);
        let set = set.iter().map(|&name| name.to_owned());
        unknown_variables(set, &known).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_nearest_option_is_named() {
        assert_eq!(said(&["WONTUN_PEER", "WONTUN_LISTEN_PORT", "HOME", "WONTUNPEER"]), [] as [&str; 0]);
        assert!(said(&["WONTUN_MTUU"])[0].ends_with("did you mean WONTUN_MTU?"));
        assert!(said(&["WONTUN_LISTENPORT"])[0].ends_with("did you mean WONTUN_LISTEN_PORT?"));
        assert!(said(&["WONTUN_XYZZY"])[0].ends_with("see wontun --help for those that are"));
    }

    #[test]
    fn what_kubernetes_injects_is_ignored() {
        let injected =
            ["WONTUN_SERVICE_HOST", "WONTUN_SERVICE_PORT_VPN", "WONTUN_PORT", "WONTUN_PORT_19988_UDP_ADDR"];
        assert_eq!(said(&injected), [] as [&str; 0]);
    }
}
