//! Lists of upstreams: a repository's tags (end-8) and what refers to a manifest (end-12), as they
//! make them, page by page.

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use trow_raft::Digest;

use super::port::Relayed;
use super::serve::Pull;
use crate::error::{Error, Problem};
use crate::headers;
use crate::manifest::media_type::INDEX;
use crate::page::Page;

/// GET of the tags.
pub(super) async fn tags(pull: &Pull<'_>) -> Result<Response, Error> {
    let page = Page::parse(pull.query)?;
    let n = pull.query.get("n").map(|_| page.limit);
    let relayed = pull.upstreams.tags(pull.name, n, page.after).await;
    let relayed = relayed.map_err(|error| pull.refused_name(error, Problem::NameUnknown, "tags"))?;
    let limit = n.map(|n| n.to_string());
    let mut next: Vec<(&str, &str)> = limit.iter().map(|limit| ("n", limit.as_str())).collect();
    if let Some(last) = &relayed.next {
        next.push(("last", last));
        // The next page is of the same registry.
        next.extend(pull.query.get("ns").map(|ns| ("ns", ns)));
    } else {
        next.clear();
    }
    answer(pull, &relayed, "application/json", &next)
}

/// GET of the referrers. An upstream that does not know of referrers is told from one that has none
/// by its 404, as clients expect that look for the list under the fallback tag then.
pub(super) async fn referrers(pull: &Pull<'_>, subject: &Digest) -> Result<Response, Error> {
    let wanted = pull.query.get("artifactType").filter(|text| !text.is_empty());
    let relayed = pull.upstreams.referrers(pull.name, subject, wanted).await;
    let unknown = Problem::ManifestUnknown;
    let relayed = relayed.map_err(|error| pull.refused_name(error, unknown, &subject.to_string()))?;
    let mut response = answer(pull, &relayed, INDEX, &[])?;
    if wanted.is_some() && relayed.filtered {
        headers::put(&mut response, headers::FILTERS, "artifactType");
    }
    Ok(response)
}

fn answer(
    pull: &Pull<'_>,
    relayed: &Relayed,
    content_type: &'static str,
    next: &[(&str, &str)],
) -> Result<Response, Error> {
    let mut response = relayed.json.clone().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if !next.is_empty() {
        headers::next_page(&mut response, pull.path, next);
    }
    headers::log_id(&mut response, pull.reads.applied()?);
    headers::stale(&mut response, relayed.stale.as_deref());
    Ok(response)
}
