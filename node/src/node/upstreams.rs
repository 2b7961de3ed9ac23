//! The upstream registries while a node runs.
//!
//! Never does: ask one.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Sources};
use crate::follow;
use crate::upstream::{Marker, Registries};

/// As they are configured; in `tasks` their settings, and the files that these name, are followed until `closing`.
pub(super) fn open(
    config: &Config,
    sources: &Sources,
    closing: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Registries {
    let registries = Registries::new(config.upstream.clone());
    registries.remember_in(&config.data_dir);
    // Every node of a cluster has this file, and no other cluster does.
    match follow::read(&config.cluster.dir.join("ca.crt")) {
        Ok(authority) => registries.mark(Marker::of(&hex::encode(authority))),
        Err(why) => {
            tracing::warn!(cause = why, "requests to upstreams are not marked as this cluster's: ca.crt")
        }
    }
    tasks.spawn(registries.clone().follow(sources.clone(), config.clone(), closing.clone()));
    registries
}
