//! On whose behalf a peer is asked: the id of the request goes along, whatever the transport.
//!
//! Blob requests carry it as their HTTP header, calls over gRPC as metadata of the same name. The
//! listener opens a span under it, so that what a peer logs for a request bears the request's id.
//! Calls that nobody waits for (heartbeats, polls) carry none and open no span.

use http::HeaderMap;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;
use trow_api::request_id::{self, RequestId};
use trow_raft::NodeId;

use super::Kind;
use crate::traces;

/// [`request_id::HEADER`], as metadata names it.
const KEY: &str = "x-request-id";

/// Adds the id of the request that this task works for, if it works for one, and its trace.
pub fn annotate(metadata: &mut MetadataMap) {
    let Some(id) = request_id::current() else { return };
    traces::name_in_call(metadata);
    if let Ok(value) = MetadataValue::try_from(id.to_string()) {
        metadata.insert(KEY, value);
    }
}

/// The span of a peer's call, when it comes on behalf of a request.
pub(super) fn span(headers: &HeaderMap, peer: NodeId, kind: Kind, path: &str) -> Option<Span> {
    headers.contains_key(request_id::HEADER).then(|| {
        let id = RequestId::accept(headers);
        let span = tracing::info_span!("peer request", request_id = %id, %peer, kind = kind.as_str(), path);
        traces::adopt(&span, headers);
        span
    })
}
