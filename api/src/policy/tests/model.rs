//! What a policy decides, found by looking at every rule as the guide describes it: written apart from what it judges.

use super::random::{Image, Known, Model, Rule};

/// The mode, whether the image is allowed, and what decides.
pub fn decide(model: &Model, namespace: &str, image: &Image, known: &Known) -> (&'static str, bool, String) {
    let mut overrides = model.overrides.iter().enumerate();
    let over = overrides.find(|(_, (names, _))| names.iter().any(|name| like(name, namespace)));
    let over = over.map(|(at, (_, part))| (format!("namespaces[{at}]."), part));
    let parts: Vec<_> = over.into_iter().chain([(String::new(), &model.top)]).collect();
    let denies = !parts.iter().find_map(|(_, part)| part.allows).unwrap_or(false);
    // By default, unless a rule does better, as every one that matches does.
    let none = Rule::default();
    let mut best: ((Vec<usize>, _, _), _, _) =
        ((vec![], 0, usize::from(denies)), &none, "default".to_owned());
    for (denies, list) in ["allow", "deny"].into_iter().enumerate() {
        let stated = parts.iter().find_map(|(at, part)| Some((at, part.lists[denies].as_ref()?)));
        let Some((at, rules)) = stated else { continue };
        for (index, rule) in rules.iter().enumerate().rev() {
            let rank = (rule.path.iter().map(|one| weight(one)).collect(), weight(rule.tag), denies);
            let tagged = rule.tag.is_empty() || image.tag.is_some_and(|tag| like(rule.tag, tag));
            if rank >= best.0 && tagged && below(&rule.path, &image.name) {
                best = (rank, rule, format!("{at}{list}[{index}] {:?}", rule.pattern()));
            }
        }
    }
    let ((.., denies), rule, by) = best;
    let mode = parts.iter().find_map(|(_, part)| part.mode).unwrap_or("enforce");
    let forbidden = parts.iter().find_map(|(_, part)| part.forbidden.as_ref());
    let forbidden = forbidden.into_iter().flatten().find(|tag| image.tag.is_some_and(|is| like(tag, is)));
    let digest = rule.digest.or_else(|| parts.iter().find_map(|(_, part)| part.digest)).unwrap_or(false);
    let stands = || known.tag.flatten().is_some_and(|is| image.digest.is_none_or(|written| written == is));
    let is_met = |need: &&str| match *need {
        "exists" => known.exists == Some(true),
        "replicated" => known.copies == Some(true),
        _ => image.tag.is_none() || stands(),
    };
    let mut signers = known.signers.iter().flatten();
    let signed = rule.signed_by.is_empty() || signers.any(|key| rule.signed_by.contains(key));
    match forbidden {
        _ if denies == 1 => (mode, false, by),
        Some(tag) => (mode, false, format!("forbidTags {tag:?}")),
        None if digest && image.digest.is_none() => (mode, false, "requireDigest".to_owned()),
        None => (mode, signed && rule.require.iter().all(is_met), by),
    }
}

fn weight(part: &str) -> usize {
    match part {
        "" => 0,
        "**" => 1,
        _ if part.contains('*') => 2 + part.replace('*', "").len(),
        _ => usize::MAX,
    }
}

fn below(path: &[&str], name: &[&str]) -> bool {
    match path {
        [] => name.is_empty(),
        ["**"] => !name.is_empty(),
        ["**", rest @ ..] => (0..=name.len()).any(|skipped| below(rest, &name[skipped..])),
        [one, rest @ ..] => !name.is_empty() && like(one, name[0]) && below(rest, &name[1..]),
    }
}

fn like(glob: &str, text: &str) -> bool {
    let Some((begin, rest)) = glob.split_once('*') else { return glob == text };
    text.strip_prefix(begin).is_some_and(|text| (0..=text.len()).any(|taken| like(rest, &text[taken..])))
}
