//! Lists of names: a repository's tags (end-8) and the repositories (`/v2/_catalog`).
//!
//! In byte order, in pages; a list is a read by name and says when it is stale.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use serde_json::json;
use trow_raft::{RepoName, Tag};

use crate::error::{Error, Problem};
use crate::headers;
use crate::page::Page;
use crate::query::Query;
use crate::reads::Reads;

/// GET of a repository's tags.
pub(crate) async fn list(reads: &Reads, repo: &RepoName, query: &Query) -> Result<Response, Error> {
    let page = Page::parse(query)?;
    let look = |view: &trow_raft::View| {
        if !view.repo_exists(repo)? {
            return Ok(None);
        }
        view.tags(repo, page.after, page.limit + 1).map(Some)
    };
    let found = reads.by_name(look).await?;
    let mut tags: Vec<Tag> = found.value.ok_or_else(|| {
        Error::new(Problem::NameUnknown, "there is no such repository")
            .detail(json!({ "name": repo }))
            .header(headers::LOG_ID, HeaderValue::from(found.at))
    })?;
    let more = page.cut(&mut tags);
    let mut response = Json(json!({ "name": repo, "tags": tags })).into_response();
    if more && let Some(last) = tags.last() {
        let path = format!("/v2/{repo}/tags/list");
        let limit = page.limit.to_string();
        headers::next_page(&mut response, &path, &[("n", &limit), ("last", last.as_str())]);
    }
    headers::log_id(&mut response, found.at);
    headers::warning(&mut response, found.warning);
    Ok(response)
}

/// GET of the repositories.
pub(crate) async fn catalog(reads: &Reads, query: &Query) -> Result<Response, Error> {
    let page = Page::parse(query)?;
    let found = reads.by_name(|view| view.repos(page.after, page.limit + 1).map(Some)).await?;
    let mut repos: Vec<RepoName> = found.value.unwrap_or_default();
    let more = page.cut(&mut repos);
    let mut response = Json(json!({ "repositories": repos })).into_response();
    if more && let Some(last) = repos.last() {
        let limit = page.limit.to_string();
        headers::next_page(&mut response, "/v2/_catalog", &[("n", &limit), ("last", last.as_str())]);
    }
    headers::log_id(&mut response, found.at);
    headers::warning(&mut response, found.warning);
    Ok(response)
}
