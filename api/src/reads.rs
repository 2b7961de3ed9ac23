//! When an answer may come from what this node has applied, and when a quorum must confirm it.
//!
//! A hit by digest is content and cannot be stale. A name, a list and every miss can, so those are
//! confirmed by a quorum; without one a name is answered as stale, if the settings allow, and a
//! miss not at all. Never answers 404 from an unconfirmed view.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trow_raft::{Metadata, NoQuorum, StateError, View};

use crate::error::{Error, Problem};
use crate::server::WithoutQuorum;

/// How long a read by name waits to be confirmed before it is answered as stale.
const NAME_WAIT: Duration = Duration::from_secs(2);
/// How long a miss waits to be confirmed before it is 503.
const MISS_WAIT: Duration = Duration::from_secs(5);

/// Reads of the agreed metadata on behalf of clients.
#[derive(Clone)]
pub(crate) struct Reads {
    metadata: Metadata,
    without_quorum: WithoutQuorum,
}

/// What a read gave, and how far it can be trusted.
pub(crate) struct Found<T> {
    /// The rows; `None` is a confirmed miss.
    pub(crate) value: Option<T>,
    /// The log index of the view it was read from.
    pub(crate) at: u64,
    /// The value of `Warning`, when no quorum confirmed it.
    pub(crate) warning: Option<HeaderValue>,
}

impl<T> Found<T> {
    fn confirmed(view: &View, look: impl Fn(&View) -> Result<Option<T>, StateError>) -> Result<Self, Error> {
        Ok(Found { value: look(view)?, at: view.applied()?, warning: None })
    }
}

impl Reads {
    pub(crate) fn new(metadata: Metadata, without_quorum: WithoutQuorum) -> Self {
        Reads { metadata, without_quorum }
    }

    /// Looks up what a name stands for.
    pub(crate) async fn by_name<T>(
        &self,
        look: impl Fn(&View) -> Result<Option<T>, StateError>,
    ) -> Result<Found<T>, Error> {
        self.by_name_or(|| None, look).await
    }

    /// As [`Self::by_name`]; what `kept` gives is as good as a look at what is applied when it is
    /// asked, and spares one.
    pub(crate) async fn by_name_or<T>(
        &self,
        kept: impl Fn() -> Option<Found<T>>,
        look: impl Fn(&View) -> Result<Option<T>, StateError>,
    ) -> Result<Found<T>, Error> {
        let since = match self.metadata.confirm(NAME_WAIT).await {
            Ok(()) => {
                return match kept() {
                    Some(found) => Ok(found),
                    None => Found::confirmed(&self.metadata.local(), look),
                };
            }
            Err(NoQuorum { since }) => since,
        };
        if self.without_quorum == WithoutQuorum::Refuse {
            return Err(no_quorum());
        }
        if let Some(found) = kept() {
            return Ok(Found { warning: Some(stale_since(since)), ..found });
        }
        if let Some(found) = self.applied_here(&look, Some(stale_since(since)))? {
            return Ok(found);
        }
        self.confirm(MISS_WAIT - NAME_WAIT, look).await
    }

    /// Looks up content by its digest.
    pub(crate) async fn by_digest<T>(
        &self,
        look: impl Fn(&View) -> Result<Option<T>, StateError>,
    ) -> Result<Found<T>, Error> {
        self.by_digest_or(|| None, look).await
    }

    /// As [`Self::by_digest`], with `kept` as in [`Self::by_name_or`].
    pub(crate) async fn by_digest_or<T>(
        &self,
        kept: impl Fn() -> Option<Found<T>>,
        look: impl Fn(&View) -> Result<Option<T>, StateError>,
    ) -> Result<Found<T>, Error> {
        self.metadata.started().await;
        if let Some(found) = kept() {
            return Ok(found);
        }
        {
            let view = self.metadata.local();
            let value = look(&view)?;
            if value.is_some() {
                return Ok(Found { value, at: view.applied()?, warning: None });
            }
        }
        self.confirm(MISS_WAIT, look).await
    }

    /// Looks in a view that sees everything acknowledged before this call.
    pub(crate) async fn confirm<T>(
        &self,
        wait: Duration,
        look: impl Fn(&View) -> Result<Option<T>, StateError>,
    ) -> Result<Found<T>, Error> {
        let view = self.metadata.read(wait).await.map_err(|NoQuorum { .. }| no_quorum())?;
        Found::confirmed(&view, look)
    }

    /// The log index of what is applied here.
    pub(crate) fn applied(&self) -> Result<u64, Error> {
        Ok(self.metadata.local().applied()?)
    }

    /// A hit in what is applied here, which may be behind.
    pub(crate) fn applied_here<T>(
        &self,
        look: impl Fn(&View) -> Result<Option<T>, StateError>,
        warning: Option<HeaderValue>,
    ) -> Result<Option<Found<T>>, Error> {
        let view = self.metadata.local();
        let value = look(&view)?;
        if value.is_none() {
            return Ok(None);
        }
        Ok(Some(Found { value, at: view.applied()?, warning }))
    }
}

fn no_quorum() -> Error {
    Error::new(
        Problem::Unavailable,
        "no quorum of the cluster's nodes can be reached to confirm this; try again",
    )
}

fn stale_since(since: SystemTime) -> HeaderValue {
    let since = OffsetDateTime::from(since).replace_nanosecond(0).ok();
    let since = since.and_then(|since| since.format(&Rfc3339).ok()).unwrap_or_else(|| "unknown".to_owned());
    HeaderValue::from_str(&format!("299 - \"stale: no quorum since {since}\""))
        .unwrap_or(HeaderValue::from_static("299 - \"stale: no quorum\""))
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        Error::internal(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_has_the_documented_form() {
        let value = stale_since(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        assert_eq!(value, "299 - \"stale: no quorum since 1970-01-01T00:00:01Z\"");
    }
}
