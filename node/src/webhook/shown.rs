//! What callers are to trust, shown to administrators; and when it ends, shown as metrics.
//!
//! Never does: show a private key.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring::default_provider;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use trow_raft::View;
use x509_parser::prelude::X509Certificate;

use super::keep::{KeepError, Keyring, Presented};
use crate::certificate::WEBHOOK_EXPIRY;
use crate::cluster_dir::ClusterDir;
use crate::config::Tls;
use crate::follow;
use crate::replicated::Agreement;

/// A bundle of certificates that callers are to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// All of them.
    pub pem: String,
    /// Each of them: what it is called, and from when to when it counts, in seconds since 1970.
    pub certificates: Vec<(String, i64, i64)>,
    /// Whether they are of the files that `webhook.tls` names.
    pub files: bool,
}

/// There is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// This node has no webhook, and no other had one so far.
    #[error("there is no webhook: set webhook.listen on the nodes")]
    NoWebhook,
    /// It is being made.
    #[error("the webhook's certificate authority is not made yet: try again in a moment")]
    NotYet,
    /// Files whose authority is not among them.
    #[error(
        "the webhook's certificate is that of webhook.tls.cert, {0}: put the CA that signed it into caBundle"
    )]
    Files(String),
    /// Two did it at once.
    #[error("another one was made meanwhile: `trow webhook ca` prints it")]
    Outrun,
    /// The cluster's own.
    #[error(transparent)]
    Own(#[from] KeepError),
}

/// Says what callers are to trust.
#[derive(Clone)]
pub struct Trust {
    keyring: Keyring,
    /// Whether this node has a webhook.
    listens: bool,
    tls: Option<Tls>,
}

impl Trust {
    /// Of the webhook with these files, or of the cluster's own.
    pub fn new(agreement: Agreement, cluster: Arc<ClusterDir>, listens: bool, tls: Option<Tls>) -> Trust {
        Trust { keyring: Keyring { agreement, cluster }, listens, tls }
    }

    /// What callers are to trust now, by what `view` has.
    ///
    /// # Errors
    /// There is none, or none that this node can name.
    pub fn bundle(&self, view: &View) -> Result<Bundle, TrustError> {
        if let Some(tls) = self.tls.as_ref().filter(|_| self.listens) {
            return of_files(tls);
        }
        let now = OffsetDateTime::now_utc();
        let authorities = self.keyring.read(view)?.authorities;
        let certificates: Vec<_> =
            authorities.published(now).filter_map(|one| described(one.certificate())).collect();
        match (certificates.is_empty(), self.listens) {
            (false, _) => Ok(Bundle { pem: authorities.bundle(now), certificates, files: false }),
            (true, true) => Err(TrustError::NotYet),
            (true, false) => Err(TrustError::NoWebhook),
        }
    }

    /// Makes another authority in the place of all that there are, on behalf of `actor`; which entry did.
    ///
    /// # Errors
    /// There is no webhook of the cluster's own, or it cannot be agreed on.
    pub async fn replace(&self, actor: &str) -> Result<u64, TrustError> {
        match (&self.tls, self.listens) {
            (Some(tls), true) => Err(TrustError::Files(tls.cert.display().to_string())),
            (_, false) => Err(TrustError::NoWebhook),
            (None, true) => {
                Ok(self.keyring.replace(actor, OffsetDateTime::now_utc()).await?.ok_or(TrustError::Outrun)?)
            }
        }
    }
}

/// The authority is known where the file has it behind the certificate, or where that signs itself.
pub(super) fn of_files(tls: &Tls) -> Result<Bundle, TrustError> {
    let unknown = || TrustError::Files(tls.cert.display().to_string());
    let bytes = follow::read(&tls.cert).map_err(|_| unknown())?;
    let chain =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|_| unknown())?;
    let last = chain.last().ok_or_else(unknown)?;
    if !parse(last).is_some_and(|parsed| parsed.is_ca()) && !signs_itself(last) {
        return Err(unknown());
    }
    let certificates = described(last).into_iter().collect();
    Ok(Bundle { pem: as_pem(last), certificates, files: true })
}

/// Whether whoever trusts the certificate alone accepts it from a server.
fn signs_itself(certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    let algorithms = default_provider().signature_verification_algorithms.all;
    roots.add(certificate.clone()).is_ok()
        && verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], UnixTime::now(), algorithms)
            .is_ok()
}

fn as_pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn parse<'c>(certificate: &'c CertificateDer<'_>) -> Option<X509Certificate<'c>> {
    x509_parser::parse_x509_certificate(certificate).ok().map(|(_, parsed)| parsed)
}

fn described(certificate: &CertificateDer<'_>) -> Option<(String, i64, i64)> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Some((parsed.subject().to_string(), validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Registers when the certificate and its authority end, once there are any.
pub(super) fn register(registry: &mut Registry, presented: Presented) {
    registry.register_collector(Box::new(Ends(presented)));
}

#[derive(Debug)]
struct Ends(Presented);

impl Collector for Ends {
    fn encode(&self, mut out: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some((leaf, authority)) = self.0.ends() else { return Ok(()) };
        let help = "When the webhook's certificate expires, in seconds since 1970";
        let descriptor = out.encode_descriptor(WEBHOOK_EXPIRY, help, None, MetricType::Gauge)?;
        ConstGauge::new(leaf).encode(descriptor)?;
        let help = "When the certificate authority that signed the webhook's certificate ends, in seconds since 1970";
        let name = "trow_webhook_ca_expiry_timestamp_seconds";
        ConstGauge::new(authority).encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
