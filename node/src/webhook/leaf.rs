//! The certificate that this node presents to the API server, signed by the cluster's authority.
//!
//! Always holds: a leaf ends no later than who signed it; its key is made with it and is in memory
//! alone. Never does: decide which authority signs.

use std::collections::BTreeSet;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::{Duration, OffsetDateTime};

use super::authority::{Authority, AuthorityError, BACKDATE};

/// How long a leaf is valid. It is renewed at two thirds of this.
pub(super) const VALIDITY: Duration = Duration::days(90);

/// A leaf could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The authority does not sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A name that no certificate can hold.
    #[error("make the webhook's certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A key that TLS does not know.
    #[error("use the webhook's certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// Names that callers know this node by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Those of `given` that a certificate can hold; a port is none of the name.
    pub(super) fn of(given: impl IntoIterator<Item = String>) -> Names {
        let name = |text: String| match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => host.to_owned(),
            Some((host, _)) if host.starts_with('[') && host.ends_with(']') => {
                host[1..host.len() - 1].to_owned()
            }
            _ => text,
        };
        let names = given.into_iter().map(name).map(|name| name.to_ascii_lowercase());
        Names(names.filter(|name| ServerName::try_from(name.as_str()).is_ok()).collect())
    }
}

/// A certificate with its key, and what it was made for.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) certified: Arc<CertifiedKey>,
    names: Names,
    signed_by: CertificateDer<'static>,
    /// When it begins.
    from: OffsetDateTime,
    /// When it is to be made anew.
    renew_at: OffsetDateTime,
    /// When it ends.
    pub(super) to: OffsetDateTime,
}

impl Leaf {
    /// A leaf for `names`, signed by `authority`.
    pub(super) fn mint(names: &Names, authority: &Authority, now: OffsetDateTime) -> Result<Leaf, LeafError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        // An address becomes one, and anything else a DNS name.
        let mut params = CertificateParams::new(names.0.iter().cloned().collect::<Vec<_>>())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Trow webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let to = (now + VALIDITY).min(authority.to);
        let from = (now - BACKDATE).max(authority.from);
        (params.not_before, params.not_after) = (from, to);
        let cert = params.signed_by(&key, &authority.issuer()?)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::ring::sign::any_supported_type(&private)?;
        Ok(Leaf {
            certified: Arc::new(CertifiedKey::new(vec![cert.into()], signer)),
            names: names.clone(),
            signed_by: authority.certificate().clone(),
            from,
            renew_at: now + (to - now) * 2 / 3,
            to,
        })
    }

    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names.0
    }

    /// Whether another one is to take its place: also of one that was made when the clock was ahead.
    pub(super) fn is_due(&self, names: &Names, authority: &Authority, now: OffsetDateTime) -> bool {
        now >= self.renew_at
            || now < self.from
            || self.names != *names
            || self.signed_by != *authority.certificate()
    }
}
