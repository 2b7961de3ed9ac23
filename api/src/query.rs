//! The query part of a URI: names and values in the order they came.

use serde_json::json;

use crate::error::{Error, Problem};
use crate::route::{decode, shown};

/// A decoded query. `+` stays `+`: media types have it and nothing here has spaces.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part after the question mark.
    ///
    /// # Errors
    /// Not percent-encoded UTF-8 without control characters.
    pub fn parse(text: Option<&str>) -> Result<Query, Error> {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        decoded.collect::<Option<_>>().map(Query).ok_or_else(|| {
            let why = "the query is not percent-encoded UTF-8 without control characters";
            Error::new(Problem::QueryInvalid, why).detail(json!({ "query": text.map(shown) }))
        })
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}
