//! What a node asks others about uploads: the home's part, and the mirrors'.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use serde::de::DeserializeOwned;
use trow_raft::{NodeId, RepoName};

use super::send::{LONG, QUICK};
use super::wire::{self, Claimed, Finished, Length, UploadQuery};
use super::{PeerBlobs, PeerError};

/// Which upload a request is about: its repository and its sealed ticket.
#[derive(Clone, Copy)]
pub struct Upload<'a> {
    /// The repository that it is for.
    pub repo: &'a RepoName,
    /// The sealed ticket.
    pub ticket: &'a str,
}

impl PeerBlobs {
    /// Begins a session at `node` for someone whose own word would not count.
    ///
    /// # Errors
    /// It cannot, or did not answer.
    pub async fn begin(
        &self,
        node: NodeId,
        repo: &RepoName,
        query: &UploadQuery,
    ) -> Result<Claimed, PeerError> {
        let upload = Upload { repo, ticket: "" };
        self.upload(node, QUICK * 2, Method::POST, "/upload", upload, query, Body::empty()).await
    }

    /// Asks `node` whether it is the upload's home, or tells it to become so.
    ///
    /// # Errors
    /// It is not, or did not answer.
    pub async fn claim(
        &self,
        node: NodeId,
        upload: Upload<'_>,
        query: &UploadQuery,
    ) -> Result<Claimed, PeerError> {
        let limit = if query.takeover { LONG } else { QUICK };
        self.upload(node, limit, Method::POST, "/upload/claim", upload, query, Body::empty()).await
    }

    /// Has the upload's home bring its mirrors level and say how far they all are.
    ///
    /// # Errors
    /// They are not, or it did not answer.
    pub async fn progress(&self, node: NodeId, upload: Upload<'_>) -> Result<Claimed, PeerError> {
        let query = UploadQuery::default();
        self.upload(node, LONG, Method::GET, "/upload", upload, &query, Body::empty()).await
    }

    /// Streams `body` to the upload's home.
    ///
    /// # Errors
    /// It did not take all of it, or did not answer.
    pub async fn append(
        &self,
        node: NodeId,
        upload: Upload<'_>,
        query: &UploadQuery,
        body: Body,
    ) -> Result<Claimed, PeerError> {
        self.upload(node, LONG, Method::PATCH, "/upload", upload, query, body).await
    }

    /// Streams the rest to the upload's home, which has it held there and on its mirrors.
    ///
    /// # Errors
    /// The home does not hold it, or did not answer.
    pub async fn finish(
        &self,
        node: NodeId,
        upload: Upload<'_>,
        query: &UploadQuery,
        body: Body,
    ) -> Result<Finished, PeerError> {
        self.upload(node, LONG, Method::POST, "/upload/hold", upload, query, body).await
    }

    /// Has the upload's home forget it.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn cancel(&self, node: NodeId, upload: Upload<'_>) -> Result<(), PeerError> {
        let query = UploadQuery::default();
        self.done(node, Method::DELETE, "/upload", upload, &query).await
    }

    /// Has `node` be a mirror of this node's session; says how much it has already.
    ///
    /// # Errors
    /// It cannot, or did not answer.
    pub async fn mirror_open(
        &self,
        node: NodeId,
        upload: Upload<'_>,
        query: &UploadQuery,
    ) -> Result<Length, PeerError> {
        self.upload(node, QUICK, Method::POST, "/mirror", upload, query, Body::empty()).await
    }

    /// Streams bytes to a mirror; says how much it has then.
    ///
    /// # Errors
    /// It did not take all of it, or did not answer.
    pub async fn mirror_append(
        &self,
        node: NodeId,
        upload: Upload<'_>,
        query: &UploadQuery,
        body: Body,
    ) -> Result<Length, PeerError> {
        self.upload(node, LONG, Method::PATCH, "/mirror", upload, query, body).await
    }

    /// Has a mirror verify and hold what it has.
    ///
    /// # Errors
    /// It does not hold it, or did not answer.
    pub async fn mirror_hold(
        &self,
        node: NodeId,
        upload: Upload<'_>,
        query: &UploadQuery,
    ) -> Result<Finished, PeerError> {
        self.upload(node, LONG, Method::POST, "/mirror/hold", upload, query, Body::empty()).await
    }

    /// Has a mirror forget the session.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn mirror_drop(&self, node: NodeId, upload: Upload<'_>) -> Result<(), PeerError> {
        let query = UploadQuery::default();
        self.done(node, Method::DELETE, "/mirror", upload, &query).await
    }

    #[allow(clippy::too_many_arguments, reason = "each is one part of the request")]
    async fn upload<T: DeserializeOwned>(
        &self,
        node: NodeId,
        limit: Duration,
        method: Method,
        path: &str,
        upload: Upload<'_>,
        query: &UploadQuery,
        body: Body,
    ) -> Result<T, PeerError> {
        self.ask(node, limit, upload_request(method, path, upload, query), body).await
    }

    async fn done(
        &self,
        node: NodeId,
        method: Method,
        path: &str,
        upload: Upload<'_>,
        query: &UploadQuery,
    ) -> Result<(), PeerError> {
        let request = upload_request(method, path, upload, query);
        self.send(node, QUICK, request, Body::empty()).await.map(drop)
    }
}

fn upload_request(
    method: Method,
    path: &str,
    upload: Upload<'_>,
    query: &UploadQuery,
) -> http::request::Builder {
    let query = query.encode();
    Request::builder()
        .method(method)
        .uri(format!("{path}?{query}"))
        .header(wire::TICKET, upload.ticket)
        .header(wire::REPO, upload.repo.as_str())
}
