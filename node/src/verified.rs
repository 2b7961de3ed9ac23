//! Callers that present a certificate: those of a peer's listener, and those of the webhook.
//!
//! Always holds: a certificate is of a CA that counts now, valid now and for clients, before anything else of it is
//! looked at; what a listener asks of it besides, it must have. Never does: say which CAs count.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

/// What else is asked of a certificate.
type Also = Box<dyn Fn(&CertificateDer<'_>) -> Result<(), Error> + Send + Sync>;

/// Verifies callers.
pub struct Verified {
    cas: ArcSwap<Cas>,
    also: Also,
}

/// The CAs that count.
#[derive(Debug)]
pub struct Cas(Arc<dyn ClientCertVerifier>);

impl Cas {
    /// Those that `roots` has.
    ///
    /// # Errors
    /// It has none.
    pub fn of(roots: RootCertStore) -> Result<Cas, VerifierBuilderError> {
        let provider = Arc::new(default_provider());
        Ok(Cas(WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?))
    }
}

impl Verified {
    /// By these CAs, and by what `also` says of a certificate.
    pub fn by(
        cas: Cas,
        also: impl Fn(&CertificateDer<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Arc<Verified> {
        Arc::new(Verified { cas: ArcSwap::from_pointee(cas), also: Box::new(also) })
    }

    /// From now on by these CAs.
    pub fn replace(&self, cas: Cas) {
        self.cas.store(Arc::new(cas));
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verified").field(&self.cas).finish()
    }
}

impl ClientCertVerifier for Verified {
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
        let verified = self.cas.load().0.verify_client_cert(cert, intermediates, now)?;
        (self.also)(cert)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.cas.load().0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.cas.load().0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.cas.load().0.supported_verify_schemes()
    }
}
