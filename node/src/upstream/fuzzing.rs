//! Challenges of upstream registries for [`crate::fuzzing`].

use super::challenge::{Challenge, parse};

/// The text of a `WWW-Authenticate`: what is understood, written again, is understood alike.
pub(crate) fn challenge(text: &str) -> bool {
    let Some(found) = parse(text) else { return false };
    let written = found.iter().map(written).collect::<Vec<_>>().join(", ");
    // Escapes make it longer, and too long is not read.
    if let Some(again) = parse(&written) {
        assert_eq!(again, found, "{written}");
    } else {
        assert!(written.len() > text.len(), "{written}");
    }
    !found.is_empty()
}

fn written(challenge: &Challenge) -> String {
    let Challenge::Bearer { realm, service, scope } = challenge else { return "Basic".to_owned() };
    let optional = [("service", service), ("scope", scope)];
    let given = optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let parameters = std::iter::once(("realm", realm)).chain(given).map(|(name, value)| {
        let escaped: String = value.chars().flat_map(escape).collect();
        format!("{name}=\"{escaped}\"")
    });
    format!("Bearer {}", parameters.collect::<Vec<_>>().join(", "))
}

fn escape(character: char) -> impl Iterator<Item = char> {
    matches!(character, '"' | '\\').then_some('\\').into_iter().chain([character])
}
