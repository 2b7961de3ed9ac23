//! Health and metrics, answered from before the state is open until the node's requests are finished.
//!
//! Always holds: the node is alive to whoever asks while it starts, however long that takes, and not
//! ready; each metric is shown once its part is open. Never does: judge whether the node is ready,
//! which `ready` does.

use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trow_api::admission::AdmissionMetrics;
use trow_api::{HttpMetrics, Replies};
use trow_raft::NodeId;

use super::cluster::Cluster;
use super::content::{Content, Upkeep};
use super::settings;
use super::webhook::Webhook;
use crate::certificate::ServerTls;
use crate::config::Config;
use crate::metrics::{self, NodeMetrics};
use crate::ops::{self, Ops, Readiness};

/// What the parts that come later report to.
pub(super) struct Health {
    pub readiness: Readiness,
    registry: Arc<Mutex<Registry>>,
}

/// What the API counts in.
pub(super) struct Counted {
    pub requests: HttpMetrics,
    pub replies: Replies,
    pub admission: AdmissionMetrics,
}

/// Serves the ops port in `tasks`.
pub(super) fn serve(config: &Config, id: NodeId, listener: TcpListener, tasks: &mut JoinSet<()>) -> Health {
    let readiness = Readiness::starting();
    let mut registry = Registry::default();
    metrics::register_process(&mut registry);
    let registry = Arc::new(Mutex::new(registry));
    let name: Arc<str> = config.cluster.name.as_str().into();
    let ops = Ops { name, id, readiness: readiness.clone(), registry: registry.clone() };
    let server = axum::serve(listener, ops::router(ops));
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(cause = %error, "the ops listener failed: no health and no metrics until the node is started again");
        }
    });
    Health { readiness, registry }
}

impl Health {
    /// From now on the metrics show these parts.
    pub(super) fn show(
        &self,
        config: &Config,
        (tls, webhook): (Option<&ServerTls>, Option<&Webhook>),
        cluster: &Cluster,
        content: &Content,
        upkeep: &Upkeep,
    ) -> anyhow::Result<Counted> {
        let mut registry =
            self.registry.lock().map_err(|_| anyhow::anyhow!("the registry of metrics is lost"))?;
        let requests = HttpMetrics::register(&mut registry);
        let admission = AdmissionMetrics::register(&mut registry);
        let replies = Replies::default();
        registry.register_collector(Box::new(NodeMetrics {
            metadata: cluster.metadata.clone(),
            store: content.store.clone(),
            auditor: content.auditor.clone(),
            peers: cluster.peers.clone(),
            blobs: content.blobs.clone(),
            replies: replies.clone(),
            limits: settings::limits(config),
        }));
        cluster.metadata.register(&mut registry);
        upkeep.repair.meter().register(&mut registry);
        content.cache.register(&mut registry);
        upkeep.evictor.meter().register(&mut registry);
        if let Some(tls) = tls {
            tls.register(&mut registry);
        }
        if let Some(webhook) = webhook {
            webhook.tls.register(&mut registry);
        }
        Ok(Counted { requests, replies, admission })
    }
}
