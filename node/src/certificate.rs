//! The certificate of the client listener, or of the webhook, read again when its files change.
//!
//! Always holds: certificate and key are replaced together, and only by a pair that fits; what
//! cannot be used leaves the pair in place that is served already. Connections that are open go
//! on. Never does: listen.

mod expiry;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::config::{Section, Tls};
use crate::follow::{self, Content};
use expiry::Expiry;

pub use expiry::WEBHOOK_EXPIRY;

/// A certificate and its key, ready to be served.
#[derive(Debug)]
pub struct Pair {
    key: Arc<CertifiedKey>,
    expiry: Expiry,
}

/// Two files are no pair: everything that is wrong with either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPair(pub Vec<Half>);

/// What is wrong with one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// The setting that names it.
    pub setting: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for NoPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, half) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", half.setting, half.why)?;
        }
        Ok(())
    }
}

impl std::error::Error for NoPair {}

/// How the client listener does TLS.
pub struct ServerTls {
    /// For HTTP/1.1 and HTTP/2, TLS 1.2 or 1.3.
    pub config: Arc<ServerConfig>,
    current: Arc<Current>,
    of: Section,
}

#[derive(Debug)]
struct Current(ArcSwap<Pair>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().key.clone())
    }
}

/// The pair that the settings name.
///
/// # Errors
/// The files hold no certificate and key that fit together.
pub fn read(tls: &Tls) -> Result<Pair, NoPair> {
    parse(tls, &contents(tls))
}

/// Serves the pair of the files, as they are until `closing`.
///
/// # Errors
/// As [`read`].
pub fn serve(tls: &Tls, closing: CancellationToken) -> Result<ServerTls, NoPair> {
    let held = contents(tls);
    let pair = parse(tls, &held)?;
    let current = Arc::new(Current(ArcSwap::from_pointee(pair)));
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (files, following, tls) = ([tls.cert.clone(), tls.key.clone()], current.clone(), tls.clone());
    let of = tls.of;
    tokio::spawn(follow::follow(files, held, closing.clone(), move |contents| match parse(&tls, contents) {
        Ok(pair) => {
            tracing::info!(file = %tls.cert.display(), expires = %pair.expiry, "{} was read again", tls.of.certificate());
            pair.expiry.warn(tls.of);
            following.0.store(Arc::new(pair));
        }
        Err(error) => {
            tracing::error!(
                cause = %error,
                "{} changed and cannot be used: the old one is kept; correct the files, they are read again",
                tls.of.certificate()
            );
        }
    }));
    tokio::spawn(expiry::remind(closing, of, {
        let current = current.clone();
        move || current.0.load().expiry
    }));
    Ok(ServerTls { config: Arc::new(config), current, of })
}

impl ServerTls {
    /// Shows when the certificate expires.
    pub fn register(&self, registry: &mut Registry) {
        let current = self.current.clone();
        expiry::register(registry, self.of, move || current.0.load().expiry);
    }

    /// The certificate as it is at each moment, for a listener that asks for more than this one.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.current.clone()
    }
}

fn contents(tls: &Tls) -> [Content; 2] {
    [follow::read(&tls.cert), follow::read(&tls.key)]
}

fn parse(tls: &Tls, [cert, key]: &[Content; 2]) -> Result<Pair, NoPair> {
    let read = (chain(tls, cert), private_key(tls, key));
    let ((chain, expiry), key) = match read {
        (Ok(chain), Ok(key)) => (chain, key),
        (cert, key) => return Err(NoPair(cert.err().into_iter().chain(key.err()).collect())),
    };
    let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
        let key = tls.key.display();
        let why = match error {
            rustls::Error::InconsistentKeys(_) => format!("{key} is not the key of {}", tls.cert.display()),
            error => format!("{key} cannot be used: {error}"),
        };
        NoPair(vec![Half { setting: tls.of.key(), why }])
    })?;
    Ok(Pair { key: Arc::new(key), expiry })
}

fn chain(tls: &Tls, content: &Content) -> Result<(Vec<CertificateDer<'static>>, Expiry), Half> {
    let bad = |why: String| Half { setting: tls.of.cert(), why: format!("{} {why}", tls.cert.display()) };
    let bytes = content.as_ref().map_err(|why| bad(why.clone()))?;
    let chain = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| bad(format!("is not PEM: {error}")))?;
    let leaf = chain.first().ok_or_else(|| bad("holds no PEM certificate".to_owned()))?;
    let expiry = Expiry::of(leaf).ok_or_else(|| bad("holds no X.509 certificate".to_owned()))?;
    Ok((chain, expiry))
}

fn private_key(tls: &Tls, content: &Content) -> Result<PrivateKeyDer<'static>, Half> {
    let bad = |why: &str| Half { setting: tls.of.key(), why: format!("{} {why}", tls.key.display()) };
    let bytes = content.as_ref().map_err(|why| bad(why))?;
    PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|_| bad("holds no private key in PEM, or one with a passphrase"))
}
