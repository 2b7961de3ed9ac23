//! The ports of a node, taken before anything that takes long: a taken one is known at once;
//! and room for the connections that they bring.
//!
//! Always holds: clients are not listened to yet. Whoever is refused goes elsewhere; whoever is
//! connected waits.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;

/// The ports, none of them served yet.
pub(super) struct Ports {
    pub clients: TcpSocket,
    pub peers: TcpListener,
    pub ops: TcpListener,
    /// Only where there is to be a webhook.
    pub webhook: Option<TcpSocket>,
}

/// Where they are, with the numbers that the system chose for 0.
pub(super) struct Addresses {
    pub clients: SocketAddr,
    pub peers: SocketAddr,
    pub ops: SocketAddr,
    pub webhook: Option<SocketAddr>,
}

impl Ports {
    pub(super) fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            clients: self.clients.local_addr()?,
            peers: self.peers.local_addr()?,
            ops: self.ops.local_addr()?,
            webhook: self.webhook.as_ref().map(TcpSocket::local_addr).transpose()?,
        })
    }
}

/// Takes them.
pub(super) async fn take(config: &Config) -> anyhow::Result<Ports> {
    Ok(Ports {
        clients: reserve(config.server.listen)
            .with_context(|| taken("server.listen", config.server.listen))?,
        peers: listen("cluster.peer_listen", config.cluster.peer_listen).await?,
        ops: listen("ops.listen", config.ops_listen).await?,
        webhook: config.webhook.listen.map(reserve_webhook).transpose()?,
    })
}

/// Connections and open blobs are files: take as many as the system grants, not the modest default.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(cause = %error, "the limit of open files stays as it is");
    }
}

/// Takes a port that is not listened on yet.
fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn reserve_webhook(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    reserve(address).with_context(|| taken("webhook.listen", address))
}

async fn listen(setting: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| taken(setting, address))
}

fn taken(setting: &'static str, address: SocketAddr) -> String {
    format!("{setting}: listen on {address}; where it is in use, end what listens there or choose another")
}
