//! The order in which a node's parts are built and stopped, and nothing else.
//!
//! Built from the disk up: data directory, identity, store, peers, consensus, clients, membership,
//! upkeep. Stopped from the clients down, as [`stop`] says. Always holds: nothing is served before
//! what it needs is open; the process ends when a part that must not end does. Never does: decide
//! anything.

mod disk;
mod ports;
mod settings;

mod health;

mod cluster;
mod content;
mod upstreams;
mod wiring;

mod clients;
mod ready;
mod webhook;

mod end;
mod stop;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trow_raft::Planted;

use crate::birth::{self, Birth};
use crate::config::{Config, Sources};
use crate::forget;
use end::{Ended, Signals};
use stop::Running;

/// Runs a node until SIGTERM or SIGINT. `sources` are those that `config` was read from.
///
/// # Errors
/// It cannot be started, or was removed from its cluster while it ran.
pub fn run(config: Config, sources: &Sources) -> anyhow::Result<()> {
    let planted = Planted::from_env()?;
    ports::raise_file_limit();
    loop {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
        let ended = runtime.block_on(serve(&config, sources, planted));
        runtime.shutdown_timeout(Duration::from_secs(1));
        match ended? {
            Ended::Stopped => return Ok(()),
            Ended::Removed => end::prepare_to_join_again(&config)?,
        }
    }
}

async fn serve(config: &Config, sources: &Sources, planted: Planted) -> anyhow::Result<Ended> {
    let signals = Signals::catch()?;
    let closing = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let disk = disk::open(config)?;
    let ports = ports::take(config).await?;
    let addresses = ports.addresses()?;
    let tls = settings::tls(config, &closing)?;
    let mut api = settings::api(config, &closing)?;
    let health = health::serve(config, disk.identity.id(), ports.ops, &mut tasks);

    // Blobs here, then the others, then what is agreed with them.
    let store = disk.store(planted).await?;
    let me = settings::me(config, disk.identity.id(), &addresses, &store);
    tracing::info!(node = %me.id, name = me.name, client = me.client, peer = me.peer, ops = %addresses.ops, webhook = addresses.webhook.map(tracing::field::display), data = %disk.data.path().display(), "starting");
    let cluster = cluster::open(config, &disk, me, planted).await?;
    let registries = upstreams::open(config, sources, &closing, &mut tasks);
    api.prefixes = registries.prefixes();
    let (content, upkeep) = content::build(config, &disk, &cluster, store, registries, planted);
    let peers = cluster::serve(ports.peers, &cluster, &content);

    let webhook = webhook::open(config, ports.webhook, &disk, &cluster, &closing)?;
    let counted = health.show(config, (tls.as_ref(), webhook.as_ref()), &cluster, &content, &upkeep)?;
    let trust = webhook::trust(config, &disk, &cluster);
    let reviews = webhook
        .is_some()
        .then(|| webhook::router(config, api.prefixes.clone(), &cluster, &content, &counted));
    let router = clients::router(api, &disk, &cluster, &content, counted, trust);
    let confirmed = ready::confirmed(&cluster.metadata, &mut tasks);
    let serving = [webhook.is_none(), false].map(|without| Arc::new(AtomicBool::new(without)));
    health.readiness.check_with(ready::check(&cluster.metadata, &confirmed, &serving, &content.registries));
    let [reviewing, serving] = serving;
    let metadata = cluster.metadata.clone();
    let webhook = webhook
        .zip(reviews)
        .map(|(webhook, reviews)| webhook.serve(reviews, metadata.clone(), reviewing, closing.clone()));
    let clients = clients::serve(ports.clients, router, tls, metadata, serving, closing.clone());
    let mut clients = webhook::beside(clients, webhook);

    // Membership, and the upkeep that it brings.
    let (expect, data_dir) = (settings::expect(config), disk.data.path().to_owned());
    let birth = Birth { data_dir, expect, rf: config.factor, planted };
    let member = {
        let (peers, metadata) = (cluster.peers.clone(), cluster.metadata.clone());
        tokio::spawn(async move { birth::run(&peers, &metadata, birth).await })
    };
    tasks.spawn(upkeep.repair.run());
    tasks.spawn(upkeep.sweeper.run());
    tasks.spawn(upkeep.evictor.run());
    tasks.spawn(forget::run(cluster.metadata.clone()));
    tasks.spawn(content.cache.manifests.clone().share_logins());

    let outcome = end::reached(signals, member, &mut clients, &cluster.peers, &confirmed).await;
    Running { health, closing, clients, uploads: content.blobs, tasks, cluster, peers }.stop().await;
    outcome
}
