//! JSON that means the same to everybody who reads it.
//!
//! Parsers differ on what a repeated key means, and some match keys whatever their case; a
//! document that two readers understand differently passes one's checks and harms the other.
//! Depth is bounded by serde_json, which refuses more than 128 levels.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Fails unless `bytes` is one JSON value without a repeated key at any level.
pub(crate) fn check_unambiguous(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Unambiguous>(bytes).map(drop)
}

/// Keys of an object that nobody here knows; their values are of no interest. An object that
/// keeps them is read from an object only: serde would take a list of its values as well.
pub(crate) type Others = BTreeMap<String, de::IgnoredAny>;

/// Which of the `others` a reader takes for one of `known` that does not tell cases apart.
pub(super) fn mistaken<'o>(others: &'o Others, known: &[&str]) -> Option<&'o str> {
    let folded = |key: &str| key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
    others.keys().map(String::as_str).find(|key| {
        let key = folded(key);
        known.iter().any(|known| known.eq_ignore_ascii_case(&key))
    })
}

/// Any value, kept as nothing.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unambiguous, A::Error> {
        while items.next_element::<Unambiguous>()?.is_some() {}
        Ok(Unambiguous)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unambiguous, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if keys.contains(&key) {
                let shown: String = key.chars().take(80).collect();
                return Err(de::Error::custom(format_args!("the key {shown:?} is there twice")));
            }
            entries.next_value::<Unambiguous>()?;
            keys.insert(key);
        }
        Ok(Unambiguous)
    }
}
