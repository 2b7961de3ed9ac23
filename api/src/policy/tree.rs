//! YAML, or JSON, as a tree that knows where each of its nodes is written.
//!
//! Always holds: reading takes time and memory of the text's length, whatever is in it. Never does: say what a node
//! means.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location, Options, Spanned};

/// How deep a policy is nested at most; that of the language is 4.
const DEPTH_MAX: usize = 16;
/// How many nodes there are at most.
const NODES_MAX: usize = 200_000;
/// How often what is written once is repeated by aliases, and how many nodes that makes.
const ALIASES_MAX: usize = 100;
const REPEATED_MAX: usize = 10_000;

/// Where something is written, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A part of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What it is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order written; a key may be there twice.
    Fields(Vec<Field>),
}

/// A key and what it has.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

impl Value {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Nothing => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Fields(_) => "fields",
        }
    }
}

/// Reads one document.
///
/// # Errors
/// It is no YAML, or more than is read; where, and why.
pub(super) fn read(text: &str) -> Result<Node, (Position, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_total_scalar_bytes: super::LENGTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATED_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    parse(text, options).map_err(|error| {
        let at = error.location().map(Position::from).unwrap_or_default();
        tab(text, at, &error).unwrap_or_else(|| (at, plain(&error)))
    })
}

/// What is wrong, without the place, which is said beside it.
fn plain(error: &Error) -> String {
    let repeated = || format!("aliases repeat more than {REPEATED_MAX} parts: write out what they stand for");
    let deep = || format!("it is nested deeper than {DEPTH_MAX} levels");
    match error.without_snippet() {
        Error::AliasError { error, .. } => plain(error),
        Error::MultipleDocuments { .. } => ONE.to_owned(),
        Error::UnknownAnchor { .. } => {
            "the alias stands for nothing: no anchor before it has its name".to_owned()
        }
        Error::MergeKeyNotAllowed { .. } => "<< is not read: write out what it stands for".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "the alias stands for what it is in".to_owned(),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => repeated(),
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => ONE.to_owned(),
            BudgetBreach::Depth { .. } => deep(),
            BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
                format!("it has more than {NODES_MAX} parts")
            }
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                format!("it has more than {ALIASES_MAX} aliases or anchors: write out what they stand for")
            }
            BudgetBreach::AliasAnchorRatio { .. } => repeated(),
            _ => "it is larger than a policy is".to_owned(),
        },
        other => {
            let text = other.to_string();
            if text.contains("recursion limit") {
                return deep();
            }
            let placed = text.rfind(" at line ").filter(|at| text[*at..].contains(", column "));
            text[..placed.unwrap_or(text.len())].to_owned()
        }
    }
}

const ONE: &str = "there is more than one document";

/// A line that begins with a tab, where YAML has none, is what is wrong where the parser stumbles over it.
fn tab(text: &str, at: Position, error: &Error) -> Option<(Position, String)> {
    let blank = |line: &str| line.bytes().take_while(|b| b" \t".contains(b)).position(|b| b == b'\t');
    let met = usize::try_from(at.line).ok()?;
    let flow = text.trim_start().starts_with(['{', '[']);
    let told = error.without_snippet().to_string().contains("tab");
    // The parser names the line itself, or one beside it.
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let near = lines.filter(|(number, _)| *number == met || told && number.abs_diff(met) == 1);
    let (line, column) =
        near.filter(|_| told || !flow).find_map(|(number, line)| Some((number, blank(line)? + 1)))?;
    let at = Position { line: line as u64, column: column as u64 };
    Some((at, "the line begins with a tab: indent with spaces".to_owned()))
}

fn parse(text: &str, options: Options) -> Result<Node, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, options)
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Position { line: location.line(), column: location.column() }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { at: spanned.referenced.into(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a policy")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let node = entries.next_value()?;
            fields.push(Field { at: key.referenced.into(), key: key.value, node });
        }
        Ok(Value::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(node: &Node) -> &[Field] {
        let Value::Fields(fields) = &node.value else { panic!("{node:?}") };
        fields
    }

    #[test]
    fn nodes_know_where_they_are_written() {
        for text in ["a: 1\nb:\n  - true\n  - c: x\n", "{\"a\": 1,\n\"b\":\n [true,\n  {\"c\": \"x\"}]}"] {
            let root = read(text).unwrap();
            let top = fields(&root);
            assert!(top[0].key == "a" && matches!(top[0].node.value, Value::Number(_)));
            let Value::List(items) = &top[1].node.value else { panic!() };
            assert!(matches!(items[0].value, Value::Bool(true)));
            let inner = &fields(&items[1])[0];
            assert!((inner.at.line, inner.node.at.line) == (4, 4), "{inner:?}");
            assert!(inner.node.at.column > inner.at.column);
        }
    }

    #[test]
    fn a_key_written_twice_is_there_twice() {
        let root = read("a: 1\na: 2\n").unwrap();
        assert_eq!(fields(&root).iter().map(|field| field.at.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_more_than_a_policy_is_refused() {
        let bomb = (1..12).fold("l0: &l0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let below = vec![format!("*l{}", level - 1); 9].join(", ");
            format!("{text}l{level}: &l{level} [{below}]\n")
        });
        let deep = "[".repeat(100_000);
        let merged = "a: &a {x: 1}\nb:\n  <<: *a\n";
        for bad in
            [&*bomb, &deep, merged, "a: 1\n---\nb: 2\n", "a: [", "a: !!binary x", "a: *b", "? [a]\n: b"]
        {
            let shown: String = bad.chars().take(40).collect();
            assert!(read(bad).is_err(), "{shown}");
        }
        let nested = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for (bad, line, why) in [
            (&*bomb, 0, "aliases"),
            (&deep, 1, "it is nested deeper than 16 levels"),
            (merged, 3, "<< is not read"),
            ("a: 1\n---\nb: 2\n", 2, "there is more than one document"),
            ("a: 1\nb: *b", 2, "the alias stands for nothing"),
            ("a:\n\t- b: 1\n", 2, "the line begins with a tab: indent with spaces"),
            ("a:\n  - b: 1\n\t  c: 2\n", 3, "the line begins with a tab: indent with spaces"),
            ("a:\n  b: 1\n\tc: 2\n", 3, "the line begins with a tab: indent with spaces"),
            ("a:\n  b: |\n\tc\n", 3, "the line begins with a tab: indent with spaces"),
            (&nested, 1, "it is nested deeper than 16 levels"),
            ("{\"a\": [1,\n\t2,\n\t]]}", 0, "mismatched bracket"),
            ("a: &a [*a]", 1, ""),
        ] {
            let (at, said) = read(bad).unwrap_err();
            let shown: String = bad.chars().take(40).collect();
            assert!(said.starts_with(why) && !said.contains(" at line "), "{shown}: {said}");
            assert!(line == 0 || at.line == line, "{shown}: {at:?} {said}");
        }
        let (at, why) = read("a: 1\nb: [1,\n").unwrap_err();
        assert!(at.line >= 2 && !why.is_empty() && !why.contains('\n'), "{at:?} {why}");
    }
}
