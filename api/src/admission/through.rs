//! Rules that allow nothing, because they call another registry's content by our name.
//!
//! Content that passes through this registry is judged under its own name, so such a rule is never asked. Only who
//! knows our names can tell; the policy by itself warns about the rest. Always holds: what is said is so. Never does:
//! find rules with a star where the registry is named.

use super::names::{Names, Whose};
use crate::policy::Policy;
use crate::pull::ImageName;

/// How many of them are named.
const SAID_MAX: usize = 100;

/// A sentence for each such rule of `allow`; `others` are names of ours that the settings do not have.
pub(super) fn warnings(names: &Names, policy: &Policy, others: &[String]) -> Vec<String> {
    let said = policy.allowing().filter_map(|listed| {
        let sample = sample(&listed.pattern)?;
        let meant = names.meant(&sample, others).ok()?;
        let through = matches!(meant.whose, Whose::Upstream(_)) && meant.judged.host != sample.host;
        through.then(|| {
            format!(
                "{listed} allows nothing and requires nothing: what passes through this registry is judged by its own \
                 name, so begin the rule with {}/",
                meant.judged.host
            )
        })
    });
    said.take(SAID_MAX).collect()
}

/// An image that the pattern matches, without its tag; none where the registry is not named.
fn sample(pattern: &str) -> Option<ImageName> {
    let (host, path) = pattern.split_once('/')?;
    if host.contains('*') {
        return None;
    }
    let path = path.split_once('@').map_or(path, |(path, _)| path);
    let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
    let last = last.split_once(':').map_or(last, |(last, _)| last);
    let path = if parents.is_empty() { last.to_owned() } else { format!("{parents}/{last}") };
    format!("{host}/{}", path.replace("**", "x").replace('*', "x")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::Prefixes;

    #[test]
    fn a_rule_that_allows_what_passes_through_us_by_our_name_is_told() {
        let policy = Policy::parse(
            "version: 1\nallow:\n- image: trow.test/f/ghcr.io/acme/**\n- image: trow.test/hub/nginx:1.*\n- image: \
             trow.test/**\n- image: trow.test/f/**\n- image: trow.test/acme/*\n- image: ghcr.io/acme/**\ndeny:\n- image: \
             trow.test/f/quay.io/**\nnamespaces:\n- match: [a]\n  allow: [{image: trow.test/f/quay.io/a}]\n- match: \
             [b]\n  mode: warn\n",
        )
        .unwrap();
        let prefixes = Prefixes::from([("hub".parse().unwrap(), "docker.io".parse().unwrap())]);
        let said = warnings(&Names::new(&["trow.test".to_owned()], &prefixes), &policy, &[]);
        let begins: Vec<&str> =
            said.iter().filter_map(|said| said.split_once(' ')).map(|(at, _)| at).collect();
        assert_eq!(begins, ["allow[0]", "allow[1]", "namespaces[0].allow[0]"], "{said:?}");
        assert!(said[1].ends_with("begin the rule with docker.io/"), "{}", said[1]);
        assert!(warnings(&Names::new(&[], &prefixes), &policy, &[]).is_empty());
    }
}
