//! Several nodes in one process, each with a registry of its own, over one cluster's metadata.
//!
//! Each has a port for each other one: who connects there is that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use trow_api::Settings;
use trow_api::blobs::memory::Memory;
use trow_raft::{ConnectError, Metadata, NodeId, PeerId};

use crate::support::{BOUND, Registry, evidence, member};

pub struct Peers {
    nodes: BTreeMap<u64, Node>,
    blobs: Arc<Memory>,
    _dirs: Vec<tempfile::TempDir>,
}

struct Node {
    metadata: Metadata,
    /// Refuses what others ask of it and send it.
    deaf: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Peers {
    /// Nodes numbered from 1, born together.
    pub async fn start(count: u64) -> Peers {
        let ids: Vec<u64> = (1..=count).collect();
        let mut listeners: BTreeMap<(u64, u64), TcpListener> = BTreeMap::new();
        for to in &ids {
            for from in ids.iter().filter(|from| *from != to) {
                listeners.insert((*from, *to), TcpListener::bind("127.0.0.1:0").await.unwrap());
            }
        }
        let channels: BTreeMap<(u64, u64), _> = listeners
            .iter()
            .map(|(pair, listener)| {
                let uri = format!("http://{}", listener.local_addr().unwrap());
                (*pair, Endpoint::from_shared(uri).unwrap().connect_lazy())
            })
            .collect();
        let (mut nodes, mut dirs) = (BTreeMap::new(), Vec::new());
        for id in &ids {
            let dir = tempfile::tempdir().unwrap();
            let mut settings = trow_raft::Settings::alone(NodeId(*id), dir.path());
            let (from, channels) = (*id, channels.clone());
            settings.connect = Arc::new(move |to| {
                let channel = channels.get(&(from, to.0)).cloned();
                let unknown = ConnectError { node: to, why: "nobody".into() };
                Box::pin(async move { channel.ok_or(unknown) })
            });
            let metadata = Metadata::open(settings).await.unwrap();
            nodes.insert(*id, Node { metadata, deaf: Arc::default(), servers: Vec::new() });
            dirs.push(dir);
        }
        for ((from, to), listener) in listeners {
            let node = nodes.get_mut(&to).unwrap();
            let deaf = node.deaf.clone();
            let heard = move |mut request: tonic::Request<()>| {
                if deaf.load(Ordering::Relaxed) {
                    return Err(tonic::Status::unavailable("the network lost it"));
                }
                request.extensions_mut().insert(PeerId(NodeId(from)));
                Ok(request)
            };
            let server =
                Server::builder().add_service(InterceptedService::new(node.metadata.service(), heard));
            node.servers.push(tokio::spawn(async move {
                let _ = server.serve_with_incoming(TcpIncoming::from(listener)).await;
            }));
        }
        let set: BTreeSet<NodeId> = ids.iter().copied().map(NodeId).collect();
        let members: Vec<_> = set.iter().copied().map(member).collect();
        for node in nodes.values() {
            node.metadata.initialize(set.clone()).await.unwrap();
        }
        let births = nodes.values().map(|node| node.metadata.birth(count as u32, members.clone()));
        tokio::time::timeout(BOUND, futures::future::join_all(births)).await.unwrap();
        let evidence = set.iter().copied().map(evidence).collect();
        let first = nodes[&1].metadata.clone();
        Peers { nodes, blobs: Arc::new(Memory::new(first, evidence)), _dirs: dirs }
    }

    pub fn metadata(&self, node: u64) -> Metadata {
        self.nodes[&node].metadata.clone()
    }

    /// A registry through the node; all have the same blobs.
    pub async fn registry(&self, node: u64) -> Registry {
        self.registry_with(node, Settings::default()).await
    }

    pub async fn registry_with(&self, node: u64, settings: Settings) -> Registry {
        Registry::over(self.metadata(node), self.blobs.clone(), settings, vec![]).await
    }

    /// Cuts the node off from what others send, or not.
    pub fn deafen(&self, node: u64, deaf: bool) {
        self.nodes[&node].deaf.store(deaf, Ordering::Relaxed);
    }

    /// Ends the node.
    pub async fn stop(&mut self, node: u64) {
        let node = self.nodes.remove(&node).unwrap();
        node.servers.iter().for_each(JoinHandle::abort);
        node.metadata.shutdown().await;
    }

    /// The node that leads.
    pub async fn leader(&self) -> u64 {
        let led = async {
            loop {
                let leads = |(id, node): (&u64, &Node)| {
                    (node.metadata.leadership().leader == Some(NodeId(*id))).then_some(*id)
                };
                match self.nodes.iter().find_map(leads) {
                    Some(leader) => return leader,
                    None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(BOUND, led).await.expect("a leader")
    }
}
