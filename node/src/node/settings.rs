//! What the parts are told of the configuration, in their own terms.
//!
//! Never does: read or check settings, which is the configuration's.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trow_api::Auth;
use trow_api::pull::Prefixes;
use trow_raft::command::LEVEL;
use trow_raft::{Member, MemberState, NodeId};

use super::ports::Addresses;
use crate::certificate::{self, ServerTls};
use crate::config::{Config, WithoutQuorum};
use crate::evict::Watermarks;
use crate::replicated::Limits;
use crate::store::Store;
use crate::users;

/// This node as it presents itself to the others.
pub(super) fn me(config: &Config, id: NodeId, listening: &Addresses, store: &Store) -> Member {
    let client = listening.clients;
    let peer = config.cluster.peer_advertise.clone().unwrap_or_else(|| listening.peers.to_string());
    let client = match (client.ip().is_unspecified(), peer.rsplit_once(':')) {
        (true, Some((host, _))) => format!("{host}:{}", client.port()),
        _ => client.to_string(),
    };
    Member {
        id,
        name: config.cluster.name.clone(),
        zone: config.cluster.zone.clone(),
        state: MemberState::Joining,
        // What this store says counts from the moment that it is a member.
        generation: store.generation(),
        max_level: LEVEL,
        weight: u32::try_from(store.disk().total >> 30).unwrap_or(u32::MAX).max(1),
        client,
        peer,
    }
}

/// State time is late by at most a tick, which must be little of what is counted in it.
pub(super) fn tick(config: &Config) -> Duration {
    (config.gc_grace / 8).clamp(Duration::from_secs(1), trow_raft::Settings::TICK)
}

/// How many nodes a cluster is born of; alone, a node is one.
pub(super) fn expect(config: &Config) -> Option<usize> {
    let expect = config.cluster.bootstrap_expect.and_then(|n| usize::try_from(n).ok());
    expect.or(config.cluster.join.is_empty().then_some(1))
}

/// Of uploads.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        expiry: config.uploads.expiry,
        max_sessions: usize::try_from(config.uploads.max_sessions).unwrap_or(usize::MAX),
        max_bytes: config.uploads.max_bytes.0,
    }
}

/// Between which the cache keeps the disk.
pub(super) fn watermarks(config: &Config) -> Watermarks {
    Watermarks { high: config.cache.high.0, low: config.cache.low.0 }
}

/// How clients are served with TLS, if they are; the certificate is followed until `closing`.
pub(super) fn tls(config: &Config, closing: &CancellationToken) -> anyhow::Result<Option<ServerTls>> {
    let tls = config.server.tls.as_ref();
    Ok(tls.map(|tls| certificate::serve(tls, closing.clone())).transpose()?)
}

/// What clients may do; the file of users is followed until `closing`. Prefixes are upstreams' to say.
pub(super) fn api(config: &Config, closing: &CancellationToken) -> anyhow::Result<trow_api::Settings> {
    Ok(trow_api::Settings {
        hostnames: config.server.hostnames.clone(),
        prefixes: Prefixes::default(),
        without_quorum: match config.without_quorum {
            WithoutQuorum::Stale => trow_api::WithoutQuorum::Stale,
            WithoutQuorum::Refuse => trow_api::WithoutQuorum::Refuse,
        },
        sparse: config.registry.sparse,
        delete: config.registry.delete,
        gc_grace: config.gc_grace,
        auth: auth(config, closing)?,
    })
}

/// Who may pull and push.
fn auth(config: &Config, closing: &CancellationToken) -> anyhow::Result<Auth> {
    let users = config.auth.htpasswd.clone().map(|file| users::serve(file, closing.clone()));
    let users =
        users.transpose().map_err(|problems| anyhow::anyhow!("auth.htpasswd: {}", problems.join("; ")))?;
    if config.server.tls.is_none() && !config.server.listen.ip().is_loopback() {
        tracing::warn!(
            "passwords and the admin token cross the network in the clear unless a proxy does TLS: set server.tls"
        );
    }
    Ok(Auth { users, anonymous_pull: config.auth.anonymous_pull, anonymous_push: config.auth.anonymous_push })
}
