//! The order in which a node's parts are built and stopped, and nothing else.
//!
//! Built from the disk up: data directory, identity, store, peers, consensus, membership, upkeep,
//! clients. Stopped from the clients down, within [`STOP`]: not ready, leadership and open uploads
//! handed over while requests are finished, peers served to the end, checkpoint. Always holds:
//! nothing is served before what it needs is open; the process ends when a part that must not end
//! does. Never does: decide anything.

mod ready;
mod wiring;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trow_api::{Access, AdminToken, Api, Auth, HttpMetrics, Replies};
use trow_raft::command::LEVEL;
use trow_raft::{Member, MemberState, Metadata, Planted};

use crate::admin::{self, Admin};
use crate::birth::{self, Birth, BirthError};
use crate::certificate;
use crate::cluster_dir;
use crate::config::{Config, WithoutQuorum};
use crate::copies::audit::Auditor;
use crate::data_dir::DataDir;
use crate::identity::Identity;
use crate::listener;
use crate::metrics::{self, NodeMetrics};
use crate::ops::{self, Ops, Readiness};
use crate::peer::listener::{self as peer_listener, PeerRoutes};
use crate::peer::{self, PeerSettings, Peers};
use crate::peer_blobs::PeerBlobs;
use crate::repair::Repair;
use crate::replicated::{Limits, Replicated};
use crate::store::Store;
use crate::sweep::Sweeper;
use crate::traces;
use crate::users;

/// A node that was told to end has ended after this long.
const STOP: Duration = Duration::from_secs(28);

/// Clients that may wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// How long open uploads are being handed on, while clients are served and once more after.
const HAND_ON: Duration = Duration::from_secs(3);

/// How a run ended that did not fail.
enum Ended {
    /// It was told to.
    Stopped,
    /// The cluster does not know this node's id any more, and this run never was part of it.
    Removed,
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot be started, or was removed from its cluster while it ran.
pub fn run(config: Config) -> anyhow::Result<()> {
    let planted = Planted::from_env()?;
    raise_file_limit();
    loop {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
        let ended = runtime.block_on(serve(&config, planted));
        runtime.shutdown_timeout(Duration::from_secs(1));
        match ended? {
            Ended::Stopped => return Ok(()),
            // Without anybody to join it would be born as a cluster of its own, and its blobs,
            // unknown there, would be swept.
            Ended::Removed if config.cluster.join.is_empty() => anyhow::bail!(
                "this node was removed from its cluster: start it with --join to join again under a new id, \
                 or empty {} to begin anew",
                config.data_dir.display()
            ),
            Ended::Removed => {
                tracing::warn!(
                    "this node was removed from its cluster: it joins again under a new id, with its blobs"
                );
                let data = DataDir::open(&config.data_dir)?;
                birth::forget(data.path(), &data.path().join("raft")).context("forget the old identity")?;
            }
        }
    }
}

async fn serve(config: &Config, planted: Planted) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    let closing = CancellationToken::new();
    let mut tasks = JoinSet::new();

    // What is on disk, and whether it is ours.
    let data = DataDir::open(&config.data_dir)?;
    let alone = config.cluster.join.is_empty();
    let cluster_dir = if alone {
        cluster_dir::open_or_create(&config.cluster.dir)
    } else {
        cluster_dir::open(&config.cluster.dir)
    };
    let cluster_dir = Arc::new(cluster_dir?);
    data.tie(cluster_dir.ca_cert(), &config.cluster.dir)?;
    let identity = Arc::new(Identity::open(data.path())?);
    let id = identity.id();

    // All listeners, before anything that takes long: a taken port is known at once. Clients are not
    // listened to yet: whoever is refused goes elsewhere, whoever is connected waits.
    let client_socket = reserve("server.listen", config.server.listen)?;
    let peer_listener = bind("cluster.peer_listen", config.cluster.peer_listen).await?;
    let ops_listener = bind("ops.listen", config.ops_listen).await?;
    let ops_address = ops_listener.local_addr()?;
    let client_tls = config.server.tls.as_ref();
    let client_tls = client_tls.map(|tls| certificate::serve(tls, closing.clone())).transpose()?;
    let settings = api_settings(config, auth(config, &closing)?);
    let token = AdminToken::new(cluster_dir.admin_token());

    // Health from the beginning.
    let readiness = Readiness::starting();
    let mut registry = Registry::default();
    metrics::register_process(&mut registry);
    let registry = Arc::new(Mutex::new(registry));
    let name: Arc<str> = config.cluster.name.as_str().into();
    let ops = Ops { name, id, readiness: readiness.clone(), registry: registry.clone() };
    let ops_server = axum::serve(ops_listener, ops::router(ops));
    tasks.spawn(async move {
        if let Err(error) = ops_server.await {
            tracing::error!(cause = %error, "the ops listener failed: no health and no metrics until the node is started again");
        }
    });

    // Blobs here, then the others, then what is agreed with them.
    let (dir, store_planted) = (data.path().to_owned(), planted);
    let store = tokio::task::spawn_blocking(move || Store::open(&dir, store_planted)).await??;
    let me = me(config, id, peer_listener.local_addr()?, client_socket.local_addr()?, &store);
    let (data_dir, ops_at) = (data.path().display(), ops_address);
    tracing::info!(node = %id, name = me.name, client = me.client, peer = me.peer, ops = %ops_at, data = %data_dir, "starting");
    let peers = Peers::new(PeerSettings {
        identity,
        cluster_dir: cluster_dir.clone(),
        me: me.clone(),
        join: config.cluster.join.clone(),
        dial: config.cluster.dial.clone(),
        cluster: None,
    })?;
    let metadata = Metadata::open(trow_raft::Settings {
        id,
        dir: data.path().join("raft"),
        heartbeat: config.raft.heartbeat,
        election: config.raft.election.clone(),
        grace: config.repair_grace,
        tick: tick(config),
        log_limit: config.raft.log_limit.0,
        planted,
        connect: peers.connect(),
        silence: peers.silence_fn(),
        annotate: Arc::new(peer::annotate),
    })
    .await?;

    let agreed = wiring::agreed(&metadata);
    let auditor = Auditor::new(store.clone(), agreed.clone());
    let peer_blobs = PeerBlobs::over(&peers);
    let limits = Limits {
        expiry: config.uploads.expiry,
        max_sessions: usize::try_from(config.uploads.max_sessions).unwrap_or(usize::MAX),
        max_bytes: config.uploads.max_bytes.0,
    };
    let secret = cluster_dir.derive("uploads");
    let blobs =
        Replicated::new(id, store.clone(), (&metadata).into(), peer_blobs.clone(), &secret, limits, planted);
    let status = wiring::status(me.clone(), metadata.clone(), store.clone(), auditor.clone(), blobs.clone());
    peers.attach(&metadata, status.clone());

    // The peer port: from here on the others reach this node.
    let routes =
        PeerRoutes { raft: tonic::service::Routes::new(metadata.service()), blobs: blobs.peer_router() };
    let peers_closing = CancellationToken::new();
    let peer_server =
        tokio::spawn(peer_listener::serve(peer_listener, peers.clone(), routes, peers_closing.clone()));

    // Upkeep, which begins once this node is on its way to be a member.
    let others = wiring::others(&peer_blobs);
    let repair = Repair::new(store.clone(), agreed.clone(), others.clone(), config.repair_rate.0);

    // Clients.
    let uploads = blobs.clone();
    let admin = Admin {
        metadata: metadata.clone(),
        blobs: blobs.clone(),
        survey: wiring::survey(&peers, status),
        access: Access::new(token.clone(), &settings.auth),
    };
    let router = {
        let mut registry = registry.lock().map_err(|_| anyhow::anyhow!("the registry of metrics is lost"))?;
        let metrics = HttpMetrics::register(&mut registry);
        let replies = Replies::default();
        let figures = NodeMetrics {
            metadata: metadata.clone(),
            store: store.clone(),
            auditor,
            peers: peers.clone(),
            blobs: blobs.clone(),
            limits,
            replies: replies.clone(),
        };
        registry.register_collector(Box::new(figures));
        metadata.register(&mut registry);
        repair.meter().register(&mut registry);
        if let Some(tls) = &client_tls {
            tls.register(&mut registry);
        }
        trow_api::router(Api {
            metadata: metadata.clone(),
            blobs: Arc::new(blobs),
            node: me.name.clone(),
            token,
            replies,
            metrics,
            settings,
            admin: admin::router(admin),
            adopt: traces::adopt,
        })
    };
    let confirmed = ready::confirmed(&metadata, &mut tasks);
    let serving = Arc::new(AtomicBool::new(false));
    readiness.check_with(ready::check(&metadata, &confirmed, &serving));
    let mut client_server = {
        let (metadata, closing) = (metadata.clone(), closing.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => return Ok(()),
                () = ready::to_serve(&metadata) => {}
            }
            let client_listener = client_socket.listen(BACKLOG).context("server.listen: listen")?;
            serving.store(true, Ordering::Relaxed);
            let (tls, limits) = (client_tls.map(|tls| tls.config), listener::Limits::default());
            listener::serve(client_listener, router, tls, limits, closing).await;
            anyhow::Ok(())
        })
    };

    // Membership, and the upkeep that it brings.
    let expect = config.cluster.bootstrap_expect.and_then(|n| usize::try_from(n).ok()).or(alone.then_some(1));
    let birth = Birth { data_dir: data.path().to_owned(), expect, rf: config.factor, planted };
    let mut member = {
        let (peers, metadata) = (peers.clone(), metadata.clone());
        tokio::spawn(async move { birth::run(&peers, &metadata, birth).await })
    };
    tasks.spawn(repair.run());
    tasks.spawn(Sweeper::new(store, agreed, others, planted).run());

    let mut removed = peers.removed();
    let mut belonged = false;
    let outcome = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(Ended::Stopped),
            _ = interrupt.recv() => break Ok(Ended::Stopped),
            joined = &mut member, if !belonged => match joined {
                Ok(Ok(cluster)) => {
                    belonged = true;
                    tracing::info!(%cluster, "member of the cluster");
                }
                Ok(Err(BirthError::Removed { .. })) => break Ok(Ended::Removed),
                Ok(Err(error)) => break Err(anyhow::Error::from(error)),
                Err(error) => break Err(anyhow::Error::from(error)),
            },
            _ = removed.wait_for(|removed| *removed) => {
                break ready::after_removal(&confirmed);
            }
            served = &mut client_server => match served {
                Ok(Ok(())) => break Err(anyhow::anyhow!("the client listener ended")),
                Ok(Err(error)) => break Err(error),
                Err(error) => break Err(anyhow::Error::from(error)),
            },
        }
    };

    // From the clients down.
    tracing::info!("stopping");
    readiness.stop();
    let watchdog = tokio::spawn(give_up_after(STOP));
    closing.cancel();
    let served = async {
        if !client_server.is_finished() {
            let _ = client_server.await;
        }
    };
    let (resigned, (), ()) = tokio::join!(metadata.transfer_leadership(), uploads.leave(HAND_ON), served);
    // What came while clients were still served: the last uploads that began, an office that fell
    // to this node again. Where nobody took it before, nobody would now.
    let again = async {
        if resigned {
            metadata.transfer_leadership().await;
        }
    };
    tokio::join!(again, uploads.leave(HAND_ON));
    tasks.shutdown().await;
    metadata.shutdown().await;
    peers_closing.cancel();
    let _ = peer_server.await;
    peers.close();
    watchdog.abort();
    tracing::info!("stopped");
    outcome
}

/// Connections and open blobs are files: take as many as the system grants, not the modest default.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(cause = %error, "the limit of open files stays as it is");
    }
}

/// Takes a port that is not listened on yet.
fn reserve(setting: &'static str, address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, std::io::Error>(socket)
    };
    socket().with_context(|| {
        format!(
            "{setting}: listen on {address}; where it is in use, end what listens there or choose another"
        )
    })
}

async fn bind(setting: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{setting}: listen on {address}; where it is in use, end what listens there or choose another"
        )
    })
}

/// Whatever hangs, the process ends in time; everything acknowledged is on disk already.
async fn give_up_after(limit: Duration) {
    tokio::time::sleep(limit).await;
    tracing::warn!(
        seconds = limit.as_secs(),
        "stopping took too long: ending without a checkpoint; nothing acknowledged is lost, the next start takes longer"
    );
    std::process::exit(0);
}

/// This node as it presents itself to the others.
fn me(config: &Config, id: trow_raft::NodeId, peer: SocketAddr, client: SocketAddr, store: &Store) -> Member {
    let peer = config.cluster.peer_advertise.clone().unwrap_or_else(|| peer.to_string());
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
fn tick(config: &Config) -> Duration {
    (config.gc_grace / 8).clamp(Duration::from_secs(1), trow_raft::Settings::TICK)
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

fn api_settings(config: &Config, auth: Auth) -> trow_api::Settings {
    trow_api::Settings {
        hostnames: config.server.hostnames.clone(),
        without_quorum: match config.without_quorum {
            WithoutQuorum::Stale => trow_api::WithoutQuorum::Stale,
            WithoutQuorum::Refuse => trow_api::WithoutQuorum::Refuse,
        },
        sparse: config.registry.sparse,
        delete: config.registry.delete,
        gc_grace: config.gc_grace,
        auth,
    }
}
