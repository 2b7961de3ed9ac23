//! Clients: what they are answered with, and from when on.
//!
//! Always holds: nobody is listened to who would be answered worse than a moment later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trow_api::admission::Explainer;
use trow_api::pull::Upstreams;
use trow_api::{Access, AdminToken, Api};
use trow_raft::Metadata;

use super::cluster::Cluster;
use super::content::Content;
use super::disk::OnDisk;
use super::health::Counted;
use super::{ready, wiring};
use crate::admin::{self, Admin};
use crate::certificate::ServerTls;
use crate::listener;
use crate::traces;
use crate::warm::Warmer;
use crate::webhook::Trust;

/// Clients that may wait in the kernel to be accepted.
pub(super) const BACKLOG: u32 = 1024;

/// All that clients can ask for.
pub(super) fn router(
    settings: trow_api::Settings,
    disk: &OnDisk,
    cluster: &Cluster,
    content: &Content,
    counted: Counted,
    trust: Trust,
) -> Router {
    let token = AdminToken::new(disk.cluster_dir.admin_token());
    let upstreams: Arc<dyn Upstreams> = Arc::new(content.cache.clone());
    let registries = content.registries.clone();
    let admin = Admin {
        metadata: cluster.metadata.clone(),
        blobs: content.blobs.clone(),
        survey: wiring::survey(&cluster.peers, content.status.clone()),
        holds: wiring::holds(&cluster.peers, cluster.metadata.clone(), content.store.clone()),
        access: Access::new(token.clone(), &settings.auth),
        warmer: Warmer::new(Arc::clone(&upstreams)),
        trust,
        explainer: Explainer::new(
            cluster.metadata.clone(),
            Arc::new(content.blobs.clone()),
            Arc::clone(&upstreams),
            &settings.hostnames,
            &settings.prefixes,
        ),
    };
    trow_api::router(Api {
        metadata: cluster.metadata.clone(),
        blobs: Arc::new(content.blobs.clone()),
        upstreams,
        looped: Arc::new(move |headers| registries.came_back(headers)),
        node: cluster.peers.me().name.clone(),
        token,
        replies: counted.replies,
        metrics: counted.requests,
        settings,
        admin: admin::router(admin),
        adopt: traces::adopt,
    })
}

/// Listens as soon as clients can be answered as well as they will be, which `serving` says from
/// then on, until `closing`. What is under way then is finished.
pub(super) fn serve(
    socket: TcpSocket,
    router: Router,
    tls: Option<ServerTls>,
    metadata: Metadata,
    serving: Arc<AtomicBool>,
    closing: CancellationToken,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move {
        tokio::select! {
            () = closing.cancelled() => return Ok(()),
            () = ready::to_serve(&metadata) => {}
        }
        let listener = socket.listen(BACKLOG).context("server.listen: listen")?;
        serving.store(true, Ordering::Relaxed);
        let (tls, limits) = (tls.map(|tls| tls.config.into()), listener::Limits::default());
        listener::serve(listener, router, tls, limits, closing).await;
        Ok(())
    })
}
