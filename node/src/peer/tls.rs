//! Mutual TLS between peers.
//!
//! Always holds: a connection stands only if the other side's leaf is signed by the cluster's CA,
//! is valid now, and names exactly one node: the one whose id is the hash of its key; who dials
//! a node gets that node. Never does: decide whether that node is a member.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_util::sync::CancellationToken;
use trow_raft::NodeId;

use crate::cluster_dir::ClusterDir;
use crate::identity::{Identity, IdentityError, LEAF_VALIDITY, Leaf, dns_name};
use crate::verified::{Cas, Verified};

/// The only application protocol on the peer port: a greeting, then what it says.
const ALPN: &[u8] = b"trow-peer/1";
/// Asked for when it is not known who will answer; no leaf bears it.
const ANYONE: &str = "any.node.trow";
/// How often it is looked whether the leaf is due.
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);

/// The peer transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA cannot sign for this node.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificates do not fit together.
    #[error("set up TLS between peers: {0}")]
    Rustls(#[from] Error),
    /// The CA cannot verify clients.
    #[error("set up TLS between peers: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate that the CA signed and that is still not a node's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Impostor {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate does not name one node and nothing else")]
    NoNode,
    #[error("the certificate names {named} but its key is {actual}'s")]
    OtherKey { named: String, actual: NodeId },
    #[error("dialled {expected} and reached {actual}; is its address stale?")]
    OtherNode { expected: String, actual: NodeId },
}

impl From<Impostor> for Error {
    fn from(error: Impostor) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// Both sides' configuration, and the leaf that they present.
pub(super) struct Tls {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    leaf: Arc<Current>,
}

impl Tls {
    pub(super) fn new(
        identity: Arc<Identity>,
        cluster: Arc<ClusterDir>,
        closing: CancellationToken,
    ) -> Result<Tls, TlsError> {
        let leaf = Arc::new(Current(ArcSwap::from(certified(identity.mint(&cluster)?)?)));
        let tls = Tls::presenting(&cluster, Arc::clone(&leaf))?;
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = renew(&identity, &cluster, &leaf) => {}
            }
        });
        Ok(tls)
    }

    /// Presents whatever leaf it is given: a test's false one, too.
    #[cfg(test)]
    pub(super) fn with_leaf(cluster: &ClusterDir, leaf: Leaf) -> Result<Tls, TlsError> {
        Tls::presenting(cluster, Arc::new(Current(ArcSwap::from(certified(leaf)?))))
    }

    fn presenting(cluster: &ClusterDir, leaf: Arc<Current>) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cluster.ca_cert().clone())?;
        // Whoever dials this node is a node.
        let dialling = Verified::by(Cas::of(roots.clone())?, |cert| Ok(node_of(cert).map(drop)?));
        let roots = Arc::new(roots);
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(dialling)
            .with_cert_resolver(Arc::clone(&leaf) as _);
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would outlive the certificate that it was opened with.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let dialled = Dialled { roots, algorithms: algorithms(&provider) };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(dialled))
            .with_client_cert_resolver(Arc::clone(&leaf) as _);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Tls { server: Arc::new(server), client: Arc::new(client), leaf })
    }

    /// When the leaf that is presented expires, in seconds since 1970.
    pub(super) fn expires(&self) -> Option<i64> {
        let leaf = self.leaf.0.load();
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf.cert.first()?).ok()?;
        Some(leaf.validity().not_after.timestamp())
    }
}

/// The name to ask for: `node`'s, or nobody's in particular.
pub(super) fn server_name(node: Option<NodeId>) -> Option<ServerName<'static>> {
    ServerName::try_from(node.map_or_else(|| ANYONE.to_owned(), dns_name)).ok()
}

/// Whether a handshake failed because the other side's leaf is signed by another CA than this
/// cluster's. All CAs bear one name, so that mostly the signature is what does not fit.
pub(super) fn is_of_another_ca(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let other = |why: &CertificateError| {
        matches!(why, CertificateError::BadSignature | CertificateError::UnknownIssuer)
    };
    matches!(cause, Some(Error::InvalidCertificate(why)) if other(why))
}

/// The node whose leaf `cert` is. The CA's signature has been checked already.
pub(super) fn node_of(cert: &CertificateDer<'_>) -> Result<NodeId, Impostor> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).map_err(|_| Impostor::Unreadable)?;
    let actual = NodeId::of_key(cert.public_key().raw);
    let names = cert.subject_alternative_name().map_err(|_| Impostor::Unreadable)?.ok_or(Impostor::NoNode)?;
    let [x509_parser::extensions::GeneralName::DNSName(named)] = names.value.general_names[..] else {
        return Err(Impostor::NoNode);
    };
    if named != dns_name(actual) {
        return Err(Impostor::OtherKey { named: named.to_owned(), actual });
    }
    Ok(actual)
}

async fn renew(identity: &Identity, cluster: &ClusterDir, leaf: &Current) {
    let mut check = tokio::time::interval(RENEWAL_CHECK);
    let mut made = time::OffsetDateTime::now_utc();
    loop {
        check.tick().await;
        // Wall time, since the leaf's validity is in it: a machine may sleep.
        if time::OffsetDateTime::now_utc() - made < LEAF_VALIDITY * 2 / 3 {
            continue;
        }
        match identity.mint(cluster).map_err(TlsError::from).and_then(certified) {
            Ok(fresh) => {
                leaf.0.store(fresh);
                made = time::OffsetDateTime::now_utc();
                tracing::info!(node = %identity.id(), "renewed this node's certificate");
            }
            Err(error) => {
                tracing::error!(cause = %error, "cannot renew this node's certificate; it is tried again every hour: check ca.key in the cluster directory, or start the node again")
            }
        }
    }
}

fn certified(leaf: Leaf) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = rustls::crypto::ring::sign::any_supported_type(&leaf.key)?;
    Ok(Arc::new(CertifiedKey::new(vec![leaf.cert], key)))
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Current {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl rustls::client::ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies whom this node dialled.
#[derive(Debug)]
struct Dialled {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Dialled {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(cert)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let actual = node_of(cert)?;
        let expected = server_name.to_str();
        if expected != ANYONE && expected != dns_name(actual) {
            return Err(Impostor::OtherNode { expected: expected.into_owned(), actual }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("peers speak TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
