//! The certificate of the client listener, read again when its files change.
//!
//! Always holds: what cannot be read or does not fit together leaves the certificate in place that
//! is served already.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::config::Tls;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A TLS configuration for HTTP/1.1 and HTTP/2 that follows the files until `closing`.
///
/// # Errors
/// The files hold no certificate and key that fit together.
pub(super) fn serve(tls: &Tls, closing: CancellationToken) -> anyhow::Result<Arc<ServerConfig>> {
    let current = Arc::new(Current(ArcSwap::from_pointee(read(tls)?)));
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tokio::spawn(follow(tls.clone(), current, closing));
    Ok(Arc::new(config))
}

async fn follow(tls: Tls, current: Arc<Current>, closing: CancellationToken) {
    let mut seen = changed(&tls);
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = changed(&tls);
        if now == seen {
            continue;
        }
        seen = now;
        match read(&tls) {
            Ok(key) => {
                current.0.store(Arc::new(key));
                tracing::info!(file = %tls.cert.display(), "the server's certificate was read again");
            }
            Err(error) => {
                let cause = format!("{error:#}");
                tracing::warn!(
                    cause,
                    "the server's certificate changed and cannot be used: the old one is kept"
                );
            }
        }
    }
}

fn changed(tls: &Tls) -> [Option<SystemTime>; 2] {
    let time = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    [time(&tls.cert), time(&tls.key)]
}

fn read(tls: &Tls) -> anyhow::Result<CertifiedKey> {
    let cert = || format!("server.tls.cert: {}", tls.cert.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&tls.cert)
        .with_context(cert)?
        .collect::<Result<_, _>>()
        .with_context(cert)?;
    anyhow::ensure!(!chain.is_empty(), "{}: holds no certificate", cert());
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .with_context(|| format!("server.tls.key: {}", tls.key.display()))?;
    let key = CertifiedKey::from_der(chain, key, &default_provider());
    key.with_context(|| format!("{} and {} do not fit together", tls.cert.display(), tls.key.display()))
}
