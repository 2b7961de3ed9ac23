//! Reading a policy: every wrong place of it at once, each with its field, line and column.
//!
//! Always holds: what is not understood is an error, never passed over. Never does: judge whether rules make sense
//! together; `warn` does.

use std::collections::HashSet;

use super::decision::{Listed, Mode, Verdict};
use super::pattern::{Glob, ImagePattern, in_tag};
use super::rules::{Required, Ruling};
use super::tree::{Field, Node, Position, Value};
use super::{Invalid, Mutate};
use crate::signature::PublicKey;

/// The fields of each part, as the published schema has them.
pub(super) const TOP: &[&str] = &[
    "version",
    "mode",
    "default",
    "forbidTags",
    "requireDigest",
    "allow",
    "deny",
    "keys",
    "namespaces",
    "mutate",
];
pub(super) const OVERRIDE: &[&str] =
    &["match", "mode", "default", "forbidTags", "requireDigest", "allow", "deny"];
pub(super) const ALLOW: &[&str] = &["image", "requireDigest", "require", "signedBy"];
pub(super) const DENY: &[&str] = &["image"];
pub(super) const MUTATE: &[&str] = &["tagToDigest", "mirror"];
pub(super) const REQUIRE: &[&str] = &["exists", "replicated", "resolves"];

/// How many wrong places are named.
const NAMED_MAX: usize = 100;
/// How many keys there are at most, and how long their names are.
const KEYS_MAX: usize = 100;
const KEY_NAME_MAX: usize = 64;

/// What a policy says, each part read by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) top: Stated,
    pub(super) overrides: Vec<Override>,
    pub(super) keys: Vec<(String, PublicKey)>,
    pub(super) mutate: Mutate,
}

/// What may be stated for all namespaces, and for some.
#[derive(Clone, Debug, Default)]
pub(super) struct Stated {
    pub(super) mode: Option<Mode>,
    pub(super) default: Option<Verdict>,
    pub(super) forbid_tags: Option<Vec<Glob>>,
    pub(super) require_digest: Option<bool>,
    pub(super) allow: Option<Vec<Ruling>>,
    pub(super) deny: Option<Vec<Ruling>>,
}

impl Stated {
    pub(super) fn is_empty(&self) -> bool {
        matches!(
            self,
            Stated {
                mode: None,
                default: None,
                forbid_tags: None,
                require_digest: None,
                allow: None,
                deny: None,
            }
        )
    }
}

/// What is stated for the namespaces of these names.
#[derive(Clone, Debug, Default)]
pub(super) struct Override {
    pub(super) names: Vec<Glob>,
    pub(super) stated: Stated,
}

/// Reads a document.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn document(root: &Node) -> Result<Document, Vec<Invalid>> {
    let mut reader = Reader::default();
    let document = reader.document(root);
    reader.end(document)
}

/// Where a value is: the names on the way to it.
pub(super) struct Place<'n> {
    pub(super) field: String,
    pub(super) node: &'n Node,
}

impl<'n> Place<'n> {
    pub(super) fn of(field: &str, node: &'n Node) -> Place<'n> {
        Place { field: field.to_owned(), node }
    }

    fn item(&self, index: usize, node: &'n Node) -> Place<'n> {
        Place { field: format!("{}[{index}]", self.field), node }
    }
}

/// The fields of a part that are stated.
pub(super) struct Fields<'n> {
    within: String,
    at: Position,
    stated: Vec<&'n Field>,
}

impl<'n> Fields<'n> {
    pub(super) fn named(&self, key: &str) -> String {
        if self.within.is_empty() { key.to_owned() } else { format!("{}.{key}", self.within) }
    }

    /// A field; none when it is not there, or has nothing.
    pub(super) fn get(&self, key: &str) -> Option<Place<'n>> {
        let field = self.stated.iter().find(|field| field.key == key)?;
        let empty = matches!(field.node.value, Value::Nothing);
        (!empty).then(|| Place { field: self.named(key), node: &field.node })
    }
}

#[derive(Default)]
pub(super) struct Reader {
    invalid: Vec<Invalid>,
    /// The names that `signedBy` mentions, with where they do.
    mentioned: Vec<(String, Position, String)>,
}

impl Reader {
    pub(super) fn end<T>(mut self, read: T) -> Result<T, Vec<Invalid>> {
        if self.invalid.is_empty() {
            return Ok(read);
        }
        self.invalid.sort_by_key(|invalid| (invalid.line, invalid.column));
        self.invalid.truncate(NAMED_MAX);
        Err(self.invalid)
    }

    pub(super) fn say(&mut self, field: &str, at: Position, why: impl ToString) {
        let Position { line, column } = at;
        self.invalid.push(Invalid { field: field.to_owned(), line, column, why: why.to_string() });
    }

    fn document(&mut self, root: &Node) -> Document {
        let top = self.fields(&Place::of("", root), TOP);
        if let Some(top) = &top {
            self.version(top);
        }
        let Some(top) = top else { return Document::default() };
        let keys = self.keys(&top);
        let stated = self.stated(&top);
        let overrides = self.items(top.get("namespaces"), Self::over);
        let mutate = self.mutate(&top);
        let known: HashSet<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
        for (field, at, name) in std::mem::take(&mut self.mentioned) {
            if !known.contains(name.as_str()) {
                self.say(&field, at, format!("there is no key {name:?} among keys"));
            }
        }
        let keys = keys.into_iter().filter_map(|(name, key)| Some((name, key?))).collect();
        Document { top: stated, overrides, keys, mutate }
    }

    fn version(&mut self, top: &Fields<'_>) {
        match top.get("version") {
            Some(Place { node: Node { value: Value::Number(1.0), .. }, .. }) => {}
            Some(place) => self.say(&place.field, place.node.at, "the version of the language is 1"),
            None => self.say("version", top.at, "is missing: write version: 1"),
        }
    }

    /// The fields of a part that has fields; those it does not know are wrong, and those that are there twice.
    pub(super) fn fields<'n>(&mut self, place: &Place<'n>, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Fields(all) = &place.node.value else {
            self.say(
                &place.field,
                place.node.at,
                format!("{} where fields are expected: {}", place.node.value.kind(), known.join(", ")),
            );
            return None;
        };
        let mut fields = Fields { within: place.field.clone(), at: place.node.at, stated: Vec::new() };
        for field in all {
            let name = fields.named(&field.key);
            if !known.is_empty() && !known.contains(&field.key.as_str()) {
                self.say(&name, field.at, format!("there is no such field; there are {}", known.join(", ")));
            } else if let Some(first) = fields.stated.iter().find(|first| first.key == field.key) {
                self.say(&name, field.at, format!("is there twice, first in line {}", first.at.line));
            } else {
                fields.stated.push(field);
            }
        }
        Some(fields)
    }

    /// A field that has something in it where it is stated: it looks as if it asked for something, and an empty one
    /// would not.
    fn filled<'n>(&mut self, fields: &Fields<'n>, key: &str, why: &str) -> Option<Place<'n>> {
        let field = fields.stated.iter().find(|field| field.key == key)?;
        let empty = match &field.node.value {
            Value::Nothing => true,
            Value::List(items) => items.is_empty(),
            _ => false,
        };
        if empty {
            self.say(&fields.named(key), field.node.at, why);
        }
        (!empty).then(|| Place { field: fields.named(key), node: &field.node })
    }

    /// The items of a list, each read by `read`.
    pub(super) fn items<'n, T>(
        &mut self,
        list: Option<Place<'n>>,
        read: impl Fn(&mut Self, Place<'n>) -> Option<T>,
    ) -> Vec<T> {
        let Some(place) = list else { return Vec::new() };
        let Value::List(items) = &place.node.value else {
            self.say(
                &place.field,
                place.node.at,
                format!("{} where a list is expected", place.node.value.kind()),
            );
            return Vec::new();
        };
        items.iter().enumerate().filter_map(|(at, node)| read(self, place.item(at, node))).collect()
    }

    pub(super) fn text<'n>(&mut self, place: &Place<'n>) -> Option<&'n str> {
        match &place.node.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                let why = format!("{} where text is expected: put it in quotes", place.node.value.kind());
                self.say(&place.field, place.node.at, why);
                None
            }
            other => {
                self.say(&place.field, place.node.at, format!("{} where text is expected", other.kind()));
                None
            }
        }
    }

    fn flag(&mut self, place: Option<Place<'_>>) -> Option<bool> {
        let place = place?;
        match place.node.value {
            Value::Bool(flag) => Some(flag),
            _ => {
                self.say(&place.field, place.node.at, "is true or false");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, place: Option<Place<'_>>, words: &[(&str, T)]) -> Option<T> {
        let place = place?;
        let text = self.text(&place)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.say(&place.field, place.node.at, format!("{text:?} is none of {}", words.join(", ")));
        }
        found
    }

    fn stated(&mut self, fields: &Fields<'_>) -> Stated {
        let modes = [Mode::Enforce, Mode::Warn, Mode::Audit].map(|mode| (mode.as_str(), mode));
        let verdicts = [Verdict::Allow, Verdict::Deny].map(|verdict| (verdict.as_str(), verdict));
        Stated {
            mode: self.word(fields.get("mode"), &modes),
            default: self.word(fields.get("default"), &verdicts),
            forbid_tags: fields.get("forbidTags").map(|tags| self.items(Some(tags), Self::tag)),
            require_digest: self.flag(fields.get("requireDigest")),
            allow: self.rules(fields, "allow", Verdict::Allow),
            deny: self.rules(fields, "deny", Verdict::Deny),
        }
    }

    fn tag(&mut self, place: Place<'_>) -> Option<Glob> {
        let text = self.text(&place)?;
        let glob = Glob::new(text, in_tag);
        if glob.is_none() {
            self.say(&place.field, place.node.at, "is a tag, in which * stands for any part");
        }
        glob
    }

    fn rules(&mut self, fields: &Fields<'_>, list: &str, verdict: Verdict) -> Option<Vec<Ruling>> {
        let place = fields.get(list)?;
        let name: std::sync::Arc<str> = place.field.as_str().into();
        let mut rules = self.items(Some(place), |reader, place| Some(reader.rule(&place, verdict)));
        // One that is wrong keeps the place of those after it, though nothing comes of either.
        for (index, rule) in rules.iter_mut().enumerate() {
            if let Some(rule) = rule {
                rule.listed.list = name.clone();
                rule.listed.index = index;
            }
        }
        Some(rules.into_iter().flatten().collect())
    }

    fn rule(&mut self, place: &Place<'_>, verdict: Verdict) -> Option<Ruling> {
        let known = if verdict == Verdict::Allow { ALLOW } else { DENY };
        let fields = self.fields(place, known)?;
        let signed_by = self.filled(&fields, "signedBy", "names no key: name one, or leave the field out");
        let required = Required {
            digest: self.flag(fields.get("requireDigest")),
            signed_by: self.items(signed_by, Self::key_mentioned),
            ..self.required(&fields)
        };
        let Some(image) = fields.get("image") else {
            self.say(&fields.named("image"), place.node.at, "is missing: a rule is for images");
            return None;
        };
        let pattern: ImagePattern = match self.text(&image)?.parse() {
            Ok(pattern) => pattern,
            Err(why) => {
                self.say(&image.field, image.node.at, why);
                return None;
            }
        };
        let listed = Listed { list: "".into(), index: 0, pattern: pattern.text().clone() };
        Some(Ruling { pattern, verdict, listed, required })
    }

    fn required(&mut self, fields: &Fields<'_>) -> Required {
        let words: Vec<(&str, usize)> = REQUIRE.iter().copied().zip(0..).collect();
        let why = format!("requires nothing: name any of {}, or leave the field out", REQUIRE.join(", "));
        let require = self.filled(fields, "require", &why);
        let words = self.items(require, |reader, place| reader.word(Some(place), &words));
        let [exists, replicated, resolves] = [0, 1, 2].map(|word| words.contains(&word));
        Required { exists, replicated, resolves, ..Required::default() }
    }

    fn key_mentioned(&mut self, place: Place<'_>) -> Option<String> {
        let name = self.text(&place)?.to_owned();
        self.mentioned.push((place.field, place.node.at, name.clone()));
        Some(name)
    }

    /// The keys by name; one that cannot be read is known by its name all the same.
    fn keys(&mut self, top: &Fields<'_>) -> Vec<(String, Option<PublicKey>)> {
        let Some(place) = top.get("keys") else { return Vec::new() };
        if let Value::Fields(all) = &place.node.value
            && all.len() > KEYS_MAX
        {
            self.say(&place.field, place.node.at, format!("there are at most {KEYS_MAX} keys"));
            return all.iter().map(|field| (field.key.clone(), None)).collect();
        }
        let Some(fields) = self.fields(&place, &[]) else { return Vec::new() };
        let keys = fields.stated.iter().map(|field| {
            let named =
                field.key.bytes().all(in_tag) && !field.key.is_empty() && field.key.len() <= KEY_NAME_MAX;
            let place = Place { field: fields.named(&field.key), node: &field.node };
            if !named {
                let why =
                    format!("the name of a key has 1 to {KEY_NAME_MAX} letters, digits, '.', '_' and '-'");
                self.say(&place.field, field.at, why);
            }
            let key = self
                .text(&place)
                .map(PublicKey::from_pem)
                .and_then(|key| key.map_err(|why| self.say(&place.field, field.node.at, why)).ok());
            (field.key.clone(), key)
        });
        keys.collect()
    }

    fn over(&mut self, place: Place<'_>) -> Option<Override> {
        let fields = self.fields(&place, OVERRIDE)?;
        let stated = self.stated(&fields);
        let names = match fields.get("match") {
            Some(names) => self.items(Some(names), Self::namespace),
            None => {
                self.say(
                    &fields.named("match"),
                    place.node.at,
                    "is missing: write which namespaces, as [dev-*]",
                );
                Vec::new()
            }
        };
        Some(Override { names, stated })
    }

    fn namespace(&mut self, place: Place<'_>) -> Option<Glob> {
        let text = self.text(&place)?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let glob = Glob::new(text, plain);
        if glob.is_none() {
            let why = "is the name of a namespace: lower-case letters, digits, '-', and * for any part";
            self.say(&place.field, place.node.at, why);
        }
        glob
    }

    fn mutate(&mut self, top: &Fields<'_>) -> Mutate {
        let fields = top.get("mutate").and_then(|place| self.fields(&place, MUTATE));
        let Some(fields) = fields else { return Mutate::default() };
        let tag_to_digest = self.flag(fields.get("tagToDigest")).unwrap_or(false);
        let mirror = fields.get("mirror").and_then(|place| {
            let text = self.text(&place).filter(|text| !text.is_empty())?;
            text.parse().map_err(|why| self.say(&place.field, place.node.at, why)).ok()
        });
        Mutate { tag_to_digest, mirror }
    }
}
