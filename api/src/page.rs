//! Paging of lists: `n` and `last`, the distribution-spec's "Listing Tags".

use serde_json::json;

use crate::error::{Error, Problem};
use crate::query::Query;

/// Most entries in one reply; more is asked for in pages.
pub(crate) const PAGE_MAX: usize = 10_000;

/// What part of a list a client wants.
pub(crate) struct Page<'a> {
    /// Entries in the reply, at most [`PAGE_MAX`].
    pub(crate) limit: usize,
    /// Only what comes after this; need not be in the list.
    pub(crate) after: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// Reads `n` and `last`.
    ///
    /// # Errors
    /// `PaginationInvalid` when `n` is not a number of digits.
    pub(crate) fn parse(query: &'a Query) -> Result<Self, Error> {
        let limit = match query.get("n") {
            None => PAGE_MAX,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse::<usize>().unwrap_or(PAGE_MAX).min(PAGE_MAX)
            }
            Some(text) => {
                let why = "n must be a number of entries, 0 or more";
                let shown = crate::route::shown(text);
                return Err(Error::new(Problem::PaginationInvalid, why).detail(json!({ "n": shown })));
            }
        };
        Ok(Page { limit, after: query.get("last").filter(|last| !last.is_empty()) })
    }

    /// Cuts `found`, of which up to `limit + 1` were read, to the page: whether there is more.
    pub(crate) fn cut<T>(&self, found: &mut Vec<T>) -> bool {
        let more = self.limit > 0 && found.len() > self.limit;
        found.truncate(self.limit);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n_is_clamped_or_refused() {
        let limit = |text: &str| {
            let query = Query::parse(Some(text)).unwrap();
            Page::parse(&query).map(|page| page.limit).map_err(|error| error.problem())
        };
        assert_eq!(limit(""), Ok(PAGE_MAX));
        assert_eq!(limit("n=0"), Ok(0));
        assert_eq!(limit("n=7&n=8"), Ok(7));
        assert_eq!(limit("n=10001"), Ok(PAGE_MAX));
        assert_eq!(limit("n=9223372036854775808"), Ok(PAGE_MAX));
        assert_eq!(limit("n=99999999999999999999999"), Ok(PAGE_MAX));
        for bad in ["n=-1", "n=x", "n=", "n=1.5", "n=%2b1"] {
            assert_eq!(limit(bad), Err(Problem::PaginationInvalid), "{bad}");
        }
    }
}
