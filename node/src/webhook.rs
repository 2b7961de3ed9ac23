//! The admission webhook's side of TLS: what it presents, who may call, and what callers are to trust.
//!
//! Either files (`webhook.tls`), or a certificate authority that the cluster makes and renews by itself
//! and whose key is in the agreed state, sealed. Always holds: TLS 1.2 or 1.3; without a certificate
//! that this node could verify nothing is answered. Never does: decide about images.

mod authority;
mod callers;
mod keep;
mod leaf;
mod shown;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio_util::sync::CancellationToken;

pub use callers::check as check_client_ca;
pub use keep::{KeepError, Known};
pub use shown::{Bundle, Trust, TrustError};

use crate::certificate::{self, NoPair};
use crate::cluster_dir::ClusterDir;
use crate::config::Tls;
use crate::listener;
use crate::replicated::Agreement;
use crate::verified::Verified;
use keep::{Keeper, Keyring, Presented};

/// The webhook's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The files of `webhook.tls`.
    #[error(transparent)]
    Pair(#[from] NoPair),
    /// The file of `webhook.client_ca`.
    #[error("webhook.client_ca: {0}")]
    ClientCa(String),
    /// The versions of TLS.
    #[error("set up TLS for the webhook: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What the webhook is served with.
pub struct Settings {
    /// Its names, where the certificate is the cluster's own.
    pub known: Known,
    /// The files that take that one's place.
    pub tls: Option<Tls>,
    /// Whose certificates callers must have; anybody may call without it.
    pub client_ca: Option<PathBuf>,
    /// Of those, only callers with one of these names; any, if there are none.
    pub client_names: Vec<String>,
}

/// How the listener does TLS.
pub struct WebhookTls {
    /// For HTTP/1.1 and HTTP/2, TLS 1.2 or 1.3; connections end when callers are verified in another way.
    pub accepts: listener::Tls,
    presents: Presents,
}

enum Presents {
    Files(certificate::ServerTls),
    Own(Presented),
}

/// Begins to keep the certificate, until `closing`.
///
/// # Errors
/// The files cannot be used.
pub fn serve(
    settings: Settings,
    agreement: Agreement,
    cluster: Arc<ClusterDir>,
    closing: &CancellationToken,
) -> Result<WebhookTls, WebhookError> {
    let (presents, resolver): (_, Arc<dyn ResolvesServerCert>) = match &settings.tls {
        Some(tls) => {
            let files = certificate::serve(tls, closing.clone())?;
            let resolver = files.resolver();
            (Presents::Files(files), resolver)
        }
        None => {
            let presented = Presented::default();
            let keyring = Keyring { agreement, cluster };
            let keeper = Keeper { keyring, known: settings.known, presented: presented.clone(), held: None };
            tokio::spawn(keeper.run(closing.clone()));
            (Presents::Own(presented.clone()), Arc::new(presented))
        }
    };
    let term = listener::Term::default();
    let names = settings.client_names;
    let callers = settings.client_ca.map(|path| callers::of(path, names, term.clone(), closing.clone()));
    let config = config(resolver, callers.transpose().map_err(WebhookError::ClientCa)?)?;
    Ok(WebhookTls { accepts: listener::Tls { config: Arc::new(config), term }, presents })
}

fn config(
    resolver: Arc<dyn ResolvesServerCert>,
    callers: Option<Arc<Verified>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let known = callers.is_some();
    let builder = match callers {
        Some(callers) => builder.with_client_cert_verifier(callers),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if known {
        // A resumed session would outlive the CA that its caller was verified by.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

impl WebhookTls {
    /// Whether it is known with what it answers, if with anything.
    pub fn has_looked(&self) -> bool {
        match &self.presents {
            Presents::Files(_) => true,
            Presents::Own(presented) => presented.has_looked(),
        }
    }

    /// Shows when certificates expire.
    pub fn register(&self, registry: &mut Registry) {
        match &self.presents {
            Presents::Files(files) => files.register(registry),
            Presents::Own(presented) => shown::register(registry, presented.clone()),
        }
    }
}
