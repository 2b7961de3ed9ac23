//! Who may call the webhook: callers with a certificate of `webhook.client_ca`, which is read again when
//! it changes.
//!
//! Always holds: a caller without such a certificate gets no further than the handshake; a file that
//! cannot be used leaves the one before in place. Never does: look at who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use tokio_util::sync::CancellationToken;

use crate::follow::{self, Content};

/// Verifies callers by the CAs that the file holds now.
#[derive(Debug)]
pub struct Callers(ArcSwap<Verifier>);

#[derive(Debug)]
struct Verifier(Arc<dyn ClientCertVerifier>);

/// Reads the CAs of the file at `path`.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), String> {
    verifier(path, &follow::read(path)).map(drop)
}

impl Callers {
    /// By the file at `path`, as it is until `closing`.
    ///
    /// # Errors
    /// It holds no certificates.
    pub fn of(path: PathBuf, closing: CancellationToken) -> Result<Arc<Callers>, String> {
        let held = follow::read(&path);
        let callers = Arc::new(Callers(ArcSwap::from_pointee(verifier(&path, &held)?)));
        let (following, file) = (callers.clone(), path.clone());
        tokio::spawn(follow::follow([path], [held], closing, move |[content]| {
            match verifier(&file, content) {
                Ok(verifier) => {
                    tracing::info!(file = %file.display(), "webhook.client_ca was read again");
                    following.0.store(Arc::new(verifier));
                }
                Err(why) => {
                    tracing::error!(
                        cause = why,
                        "webhook.client_ca changed and cannot be used: the old one is kept; correct the file, it is read again"
                    );
                }
            }
        }));
        Ok(callers)
    }
}

fn verifier(path: &Path, content: &Content) -> Result<Verifier, String> {
    let bad = |why: &dyn std::fmt::Display| format!("{} {why}", path.display());
    let bytes = content.as_ref().map_err(|why| bad(why))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bytes) {
        let certificate = certificate.map_err(|error| bad(&format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| bad(&format!("holds no CA certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(bad(&"holds no PEM certificate"));
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(default_provider()));
    let verifier = builder.build().map_err(|error| bad(&format!("cannot be used: {error}")))?;
    Ok(Verifier(verifier))
}

impl ClientCertVerifier for Callers {
    /// None: the names would be those of one moment. A caller with one certificate offers that.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.load().0.verify_client_cert(cert, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().0.supported_verify_schemes()
    }
}
