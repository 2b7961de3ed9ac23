//! The decision: a rule by the name, and then what it requires.
//!
//! Always holds: it depends on its arguments alone; what is required and not known denies. The order of what denies
//! is fixed, so that the same image is always told the same reason.

use super::decision::{Decision, Rule, Verdict};
use super::facts::{Copies, Facts, Needs};
use super::rules::{Required, Ruling, Scope};
use crate::pull::ImageName;

/// What the name alone says.
enum ByName<'s> {
    /// Nothing that could be found out changes it.
    Denied(Rule, String),
    /// By this rule, or by default; the rule may require more.
    Allowed(Option<&'s Ruling>),
}

/// Decides as far as the name goes.
fn by_name<'s>(scope: &'s Scope, image: &ImageName) -> ByName<'s> {
    let ruling = scope.ruling(image);
    let bare = || format!("{}/{}", image.host, image.path);
    match (ruling, scope.default) {
        (Some(ruling), _) if ruling.verdict == Verdict::Deny => {
            let why =
                "the policy forbids it: use another image, or have whoever keeps the policy change this rule";
            return ByName::Denied(ruling.rule(), why.to_owned());
        }
        (None, Verdict::Deny) => {
            let why = format!(
                "no rule allows it: use an image that one does, or have one added that matches {}",
                bare()
            );
            return ByName::Denied(Rule::Default, why);
        }
        _ => {}
    }
    let tag = image.tag.as_ref().map(|tag| tag.as_str());
    let forbidden = tag.and_then(|tag| scope.forbid_tags.what.iter().find(|glob| glob.matches(tag)));
    if let Some(glob) = forbidden {
        let bare = bare();
        let by = scope.forbid_tags.by.map(|at| format!(" (namespaces[{at}] forbids this tag)"));
        let by = by.unwrap_or_default();
        let why =
            format!("name the version that you mean, as {bare}:<version> or {bare}@sha256:<digest>{by}");
        return ByName::Denied(Rule::ForbidTags(glob.as_str().into()), why);
    }
    let own = ruling.filter(|ruling| ruling.required.digest.is_some());
    let require_digest = own.and_then(|ruling| ruling.required.digest).unwrap_or(scope.require_digest.what);
    if require_digest && image.digest.is_none() {
        let by = match (own, scope.require_digest.by) {
            (Some(ruling), _) => format!(" ({} requires it)", ruling.listed),
            (None, Some(at)) => format!(" (namespaces[{at}] requires it)"),
            (None, None) => String::new(),
        };
        let why = format!("name it by its digest, as {image}@sha256:<digest>{by}");
        return ByName::Denied(Rule::RequireDigest(own.map(|ruling| ruling.listed.clone())), why);
    }
    ByName::Allowed(ruling)
}

/// What `ruling` needs to know of the image beyond its name.
fn needs(ruling: &Ruling, image: &ImageName) -> Needs {
    let Required { exists, replicated, resolves, signed_by, .. } = &ruling.required;
    let digest = *resolves && image.tag.is_some();
    Needs { exists: *exists, replicated: *replicated, digest, signed_by: signed_by.clone() }
}

/// What is wrong with what `ruling` requires, and what to do about it; none when all is as required.
fn unmet(ruling: &Ruling, image: &ImageName, facts: &Facts) -> Option<String> {
    let Required { exists, replicated, resolves, signed_by, .. } = &ruling.required;
    let unknown = |what: &str, why: &str| Some(format!("{what} could not be found out: {why}"));
    if *exists {
        match facts.exists.known() {
            Ok(true) => {}
            Ok(false) => {
                return Some("there is no such image: correct its name, or push it first".to_owned());
            }
            Err(why) => return unknown("whether it exists", why),
        }
    }
    if *resolves && let Some(tag) = &image.tag {
        match facts.digest.known() {
            Ok(None) => return Some(format!("its tag {tag} is not there: correct it, or push it first")),
            Ok(Some(digest)) if image.digest.is_some_and(|written| written != *digest) => {
                return Some(format!(
                    "its tag {tag} stands for {digest} now: name that one, or leave the tag out"
                ));
            }
            Ok(Some(_)) => {}
            Err(why) => return unknown("what its tag resolves to", why),
        }
    }
    if *replicated {
        match facts.replicated.known() {
            Ok(Copies::Enough) => {}
            Ok(Copies::Missing(why)) => return Some(why.clone()),
            Err(why) => return unknown("whether it is replicated", why),
        }
    }
    if !signed_by.is_empty() {
        match facts.signed_by.known() {
            Ok(signed) if signed.iter().any(|name| signed_by.contains(name)) => {}
            Ok(_) => {
                let keys = signed_by.join(" or ");
                return Some(format!(
                    "it has no signature by {keys}: sign it with that key, and push the signature"
                ));
            }
            Err(why) => return unknown("whether it is signed", why),
        }
    }
    None
}

/// The decision of a scope.
pub(super) fn decide(scope: &Scope, image: &ImageName, facts: &Facts) -> Decision {
    let (verdict, rule, why) = match by_name(scope, image) {
        ByName::Denied(rule, why) => (Verdict::Deny, rule, why),
        ByName::Allowed(None) => (Verdict::Allow, Rule::Default, "no rule matches it".to_owned()),
        ByName::Allowed(Some(ruling)) => match unmet(ruling, image, facts) {
            Some(why) => (Verdict::Deny, ruling.rule(), why),
            None => (Verdict::Allow, ruling.rule(), met(ruling, image)),
        },
    };
    Decision { image: image.to_string(), verdict, mode: scope.mode, rule, why }
}

/// The decision of a scope when everything that the rule requires is so.
pub(super) fn granted(scope: &Scope, image: &ImageName) -> (Decision, Needs) {
    let (verdict, rule, why, needs) = match by_name(scope, image) {
        ByName::Denied(rule, why) => (Verdict::Deny, rule, why, Needs::default()),
        ByName::Allowed(None) => {
            (Verdict::Allow, Rule::Default, "no rule matches it".to_owned(), Needs::default())
        }
        ByName::Allowed(Some(ruling)) => {
            (Verdict::Allow, ruling.rule(), met(ruling, image), needs(ruling, image))
        }
    };
    (Decision { image: image.to_string(), verdict, mode: scope.mode, rule, why }, needs)
}

fn met(ruling: &Ruling, image: &ImageName) -> String {
    let needs = needs(ruling, image);
    match needs.is_empty() {
        true => "it is the most specific rule that matches".to_owned(),
        false => format!("it is as the rule requires: {}", needs.words().join(", ")),
    }
}
