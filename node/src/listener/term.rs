//! For how long holds what was found out about a caller when its connection began.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

/// How connections are secured.
#[derive(Clone)]
pub struct Tls {
    /// What a handshake goes by.
    pub config: Arc<ServerConfig>,
    /// How long its outcome counts.
    pub term: Term,
}

impl From<Arc<ServerConfig>> for Tls {
    /// Its outcome counts for as long as the connection lasts.
    fn from(config: Arc<ServerConfig>) -> Self {
        Tls { config, term: Term::default() }
    }
}

/// Lasts until it is ended, and another one begins.
#[derive(Clone, Debug, Default)]
pub struct Term(Arc<ArcSwap<CancellationToken>>);

impl Term {
    /// Ends connections that began until now, after the requests that are under way on them. What decides about new
    /// ones must have changed before.
    pub fn end(&self) {
        self.0.swap(Arc::default()).cancel();
    }

    /// Cancelled when the present term ends; asked for before a handshake, so that none straddles its end unnoticed.
    pub(super) fn ends(&self) -> CancellationToken {
        CancellationToken::clone(&self.0.load())
    }
}
