//! Which settings have no effect in this version.
//!
//! Always holds: a setting that is accepted and ignored is said to be ignored when it is set.

/// Sections and keys of capabilities that this version does not have.
const LATER: &[&str] = &[
    "webhook.",
    "gc.",
    "scrub.",
    "cache.",
    "upstream.",
    "prefixes.",
    "auth.htpasswd",
    "auth.anonymous_pull",
    "server.hostnames",
];

/// Those of the keys that were `set` which have no effect.
pub(super) fn without(set: &std::collections::BTreeSet<String>) -> Vec<String> {
    set.iter().filter(|key| LATER.iter().any(|later| key.starts_with(later))).cloned().collect()
}
