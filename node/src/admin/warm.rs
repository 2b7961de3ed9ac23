//! Warming the cache: `POST cache/warm`, answered line by line while it goes on.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;

use super::{Admin, AdminError};
use crate::warm::event::Request;
use crate::warm::{Image, Platform, Wanted};

/// The most that is read of a request.
const REQUEST: usize = 1 << 20;
/// The most images of a request.
const IMAGES: usize = 1000;

impl Admin {
    /// Pulls images into the cluster; the reply says how it goes, one JSON object a line, and ends with it.
    pub(super) async fn warm(&self, body: Body) -> Result<Response, AdminError> {
        let bad = AdminError::BadRequest;
        let body = axum::body::to_bytes(body, REQUEST).await;
        let body = body.map_err(|error| bad(format!("the request cannot be read: {error}")))?;
        let asked: Request = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
        if asked.images.is_empty() || asked.images.len() > IMAGES {
            return Err(bad(format!("between 1 and {IMAGES} images can be asked for at once")));
        }
        let images: Result<Vec<Image>, _> = asked.images.iter().map(|image| image.parse()).collect();
        let images = images.map_err(|error| bad(error.to_string()))?;
        let platforms: Result<Vec<Platform>, _> =
            asked.platforms.iter().map(|platform| platform.parse()).collect();
        let platforms = platforms.map_err(|error| bad(error.to_string()))?;
        let wanted = match (asked.all_platforms, platforms.is_empty()) {
            (true, true) => Wanted::All,
            (true, false) => return Err(bad("either all platforms or some".to_owned())),
            (false, true) => Wanted::For(vec![Platform::here()]),
            (false, false) => Wanted::For(platforms),
        };
        let line = |event| {
            let mut line = serde_json::to_vec(&event).unwrap_or_default();
            line.push(b'\n');
            Ok::<_, Infallible>(line)
        };
        let lines = self.warmer.warm(images, wanted).map(line);
        Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
    }
}
