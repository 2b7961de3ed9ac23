//! The webhook's listener, where API servers ask which images may run.
//!
//! Always holds: it is opened and closed with that of clients, so that neither answers worse than it
//! will a moment later, and what either accepted is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trow_api::admission::{self, Admission};
use trow_api::pull::Prefixes;
use trow_raft::Metadata;

use super::clients::BACKLOG;
use super::cluster::Cluster;
use super::content::Content;
use super::disk::OnDisk;
use super::health::Counted;
use super::ready;
use crate::config::Config;
use crate::listener;
use crate::traces;
use crate::webhook::{self, Known, Settings, Trust, WebhookTls};

/// How often it is looked whether there is a certificate.
const LOOK: Duration = Duration::from_millis(20);

/// A listener that is not open yet.
pub(super) struct Webhook {
    socket: TcpSocket,
    pub(super) tls: Arc<WebhookTls>,
}

/// Begins to look after the certificate, if there is to be a webhook.
pub(super) fn open(
    config: &Config,
    socket: Option<TcpSocket>,
    disk: &OnDisk,
    cluster: &Cluster,
    closing: &CancellationToken,
) -> anyhow::Result<Option<Webhook>> {
    let Some(socket) = socket else { return Ok(None) };
    let settings = Settings {
        known: Known {
            service: config.webhook.service.clone(),
            hostnames: config.webhook.hostnames.clone(),
            me: config.cluster.name.clone(),
            listen: socket.local_addr()?.ip(),
        },
        tls: config.webhook.tls.clone(),
        client_ca: config.webhook.client_ca.clone(),
        client_names: config.webhook.client_names.clone(),
    };
    let tls = webhook::serve(settings, (&cluster.metadata).into(), disk.cluster_dir.clone(), closing)?;
    Ok(Some(Webhook { socket, tls: Arc::new(tls) }))
}

/// What it answers.
pub(super) fn router(
    config: &Config,
    prefixes: Prefixes,
    cluster: &Cluster,
    content: &Content,
    counted: &Counted,
) -> Router {
    admission::router(Admission {
        metadata: cluster.metadata.clone(),
        blobs: Arc::new(content.blobs.clone()),
        upstreams: Arc::new(content.cache.clone()),
        node: cluster.peers.me().name.clone(),
        hostnames: config.server.hostnames.clone(),
        prefixes,
        max_staleness: config.webhook.max_staleness,
        requests: counted.requests.clone(),
        metrics: counted.admission.clone(),
        adopt: traces::adopt,
    })
}

/// What callers are to trust, for administrators.
pub(super) fn trust(config: &Config, disk: &OnDisk, cluster: &Cluster) -> Trust {
    let (listens, tls) = (config.webhook.listen.is_some(), config.webhook.tls.clone());
    Trust::new((&cluster.metadata).into(), disk.cluster_dir.clone(), listens, tls)
}

impl Webhook {
    /// Listens as soon as clients are listened to, until `closing`; what is under way then is finished.
    /// `serving` says when it answers, or that it is known that there is no certificate to answer with.
    pub(super) fn serve(
        self,
        router: Router,
        metadata: Metadata,
        serving: Arc<AtomicBool>,
        closing: CancellationToken,
    ) -> JoinHandle<anyhow::Result<()>> {
        let Webhook { socket, tls } = self;
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => return Ok(()),
                () = ready::to_serve(&metadata) => {}
            }
            let listener = socket.listen(BACKLOG).context("webhook.listen: listen")?;
            let accepts = tls.accepts.clone();
            let looked = async {
                while !tls.has_looked() {
                    tokio::time::sleep(LOOK).await;
                }
                serving.store(true, Ordering::Relaxed);
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = looked => {}
                () = listener::serve(listener, router, Some(accepts), listener::Limits::default(), closing) => {}
            }
            Ok(())
        })
    }
}

/// Both listeners as one: done when both are, failed as soon as one of them is.
pub(super) fn beside(
    clients: JoinHandle<anyhow::Result<()>>,
    webhook: Option<JoinHandle<anyhow::Result<()>>>,
) -> JoinHandle<anyhow::Result<()>> {
    let Some(webhook) = webhook else { return clients };
    tokio::spawn(async move {
        tokio::try_join!(async { clients.await? }, async { webhook.await? })?;
        Ok(())
    })
}
