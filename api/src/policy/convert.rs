//! The `image_validation` block of Trow before version 1, turned into a policy.
//!
//! It had a `default` and lists of prefixes, of which the longest decided. Always holds: what was decided by a prefix
//! that ends at the end of a host, a segment or a name is decided so still; a prefix that ends within a host means
//! that host alone now. Never does: keep anything else of the old configuration.

use super::Invalid;
use super::pattern::ImagePattern;
use super::read::{Place, Reader};
use super::tree::{Node, Value};
use crate::pull::Host;

const BLOCK: &str = "image_validation";
const FIELDS: &[&str] = &["default", "allow", "deny"];

/// The text of a policy that says the same, if the document is an old one.
///
/// # Errors
/// It is an old one, and these places of it are wrong.
pub(super) fn converted(root: &Node) -> Option<Result<String, Vec<Invalid>>> {
    let place = block(root)?;
    let mut reader = Reader::default();
    let text = policy(&mut reader, &place);
    Some(reader.end(text))
}

/// The block: that of a configuration, or the document itself when it is nothing else.
fn block(root: &Node) -> Option<Place<'_>> {
    let Value::Fields(fields) = &root.value else { return None };
    if let Some(field) = fields.iter().find(|field| field.key == BLOCK) {
        return Some(Place::of(BLOCK, &field.node));
    }
    // The words of the old form are written with a capital, and it has no version.
    let default = fields.iter().find(|field| field.key == "default")?;
    let old = matches!(&default.node.value, Value::Text(word) if word == "Allow" || word == "Deny");
    let only = fields.iter().all(|field| FIELDS.contains(&field.key.as_str()));
    (old && only).then(|| Place::of("", root))
}

fn policy(reader: &mut Reader, place: &Place<'_>) -> String {
    let Some(fields) = reader.fields(place, FIELDS) else { return String::new() };
    if fields.get("default").is_none() {
        reader.say(&fields.named("default"), place.node.at, "is missing: it was Allow or Deny");
    }
    let default = reader.word(fields.get("default"), &[("Allow", "allow"), ("Deny", "deny")]);
    let mut text = format!("# Converted from {BLOCK}.\nversion: 1\ndefault: {}\n", default.unwrap_or("deny"));
    for list in ["allow", "deny"] {
        let patterns = reader.items(fields.get(list), prefix);
        let rules: Vec<String> =
            patterns.iter().flatten().map(|pattern| format!("  - image: {pattern:?}\n")).collect();
        if !rules.is_empty() {
            text.push_str(&format!("{list}:\n{}", rules.concat()));
        }
    }
    text
}

/// The patterns that match what begins so.
fn prefix(reader: &mut Reader, place: Place<'_>) -> Option<Vec<String>> {
    let text = reader.text(&place)?;
    if text.contains('*') {
        let why = "had no wildcards: * stood for itself there, which no image's name has, and would stand for any \
                   part now; take it out";
        reader.say(&place.field, place.node.at, why);
        return None;
    }
    let (host, rest) = match text.split_once('/') {
        Some((host, rest)) => (host, Some(rest)),
        None => (text, None),
    };
    let host = host.parse::<Host>().map_or_else(|_| host.to_owned(), |host| host.to_string());
    let patterns = match rest {
        _ if text.is_empty() => vec!["**".to_owned()],
        None | Some("") => vec![format!("{host}/**")],
        Some(rest) if rest.ends_with('/') => vec![format!("{host}/{rest}**")],
        // A tag begins where a colon is, and nothing follows it.
        Some(rest) if rest.contains(':') => vec![format!("{host}/{rest}*")],
        Some(rest) => vec![format!("{host}/{rest}*"), format!("{host}/{rest}*/**")],
    };
    match patterns.iter().try_for_each(|pattern| pattern.parse::<ImagePattern>().map(drop)) {
        Ok(()) => Some(patterns),
        Err(why) => {
            reader.say(&place.field, place.node.at, why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, Policy, convert};

    const OLD: &str = "\
image_validation:
  default: Deny
  allow:
    - registry-1.docker.io/library/
    - quay.io
    - ghcr.io/acme/app
    - ghcr.io/acme/tool:1.
  deny:
    - registry-1.docker.io/library/old
    - quay.io/secret/
";

    #[test]
    fn the_old_block_becomes_a_policy_that_says_the_same() {
        let text = convert(OLD).unwrap().expect("an old one");
        assert_eq!(
            text,
            "\
# Converted from image_validation.
version: 1
default: deny
allow:
  - image: \"docker.io/library/**\"
  - image: \"quay.io/**\"
  - image: \"ghcr.io/acme/app*\"
  - image: \"ghcr.io/acme/app*/**\"
  - image: \"ghcr.io/acme/tool:1.*\"
deny:
  - image: \"docker.io/library/old*\"
  - image: \"docker.io/library/old*/**\"
  - image: \"quay.io/secret/**\"
"
        );
        let (new, old) = (Policy::parse(&text).unwrap(), Policy::parse(OLD).unwrap());
        for (image, allowed) in [
            ("nginx", true),
            ("old-thing:1", false),
            ("acme/x", false),
            ("quay.io/a/b", true),
            ("quay.io/secret/b", false),
            ("quay.io.evil.example/a", false),
            ("ghcr.io/acme/application/x:2", true),
            ("ghcr.io/acme/tool:1.2", true),
            ("ghcr.io/acme/tool:2.1", false),
        ] {
            for policy in [&new, &old] {
                let decision = policy.decide(&image.parse().unwrap(), "default", &Facts::default());
                assert_eq!(decision.verdict == super::super::Verdict::Allow, allowed, "{image}");
            }
        }
        assert_eq!(convert(&text).unwrap(), None, "it is a new one now");
    }

    #[test]
    fn the_block_alone_and_a_whole_configuration_are_understood() {
        let alone = "default: Allow\nallow: []\ndeny: [quay.io/a/]\n";
        assert!(convert(alone).unwrap().unwrap().contains("default: allow\ndeny:\n"));
        let whole = format!("registry_proxies:\n  offline: false\n{OLD}");
        assert_eq!(convert(&whole).unwrap(), convert(OLD).unwrap());
        assert!(convert("version: 1\ndefault: deny\n").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_with_the_old_block_is_named() {
        let wrong = "image_validation:\n  default: Sometimes\n  allow:\n    - A/b/\n    - 7\n    - quay.io/a*\n  denied: []\n";
        let invalid = convert(wrong).unwrap_err();
        let fields: Vec<(&str, u64)> =
            invalid.iter().map(|wrong| (wrong.field.as_str(), wrong.line)).collect();
        assert_eq!(
            fields,
            [
                ("image_validation.default", 2),
                ("image_validation.allow[1]", 5),
                ("image_validation.allow[2]", 6),
                ("image_validation.denied", 7),
            ]
        );
    }
}
