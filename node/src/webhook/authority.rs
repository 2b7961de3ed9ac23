//! The webhook's certificate authorities: which there are, which one signs, which are published.
//!
//! One is valid for a year. Long before it ends a successor is made and published beside it, later the
//! successor signs, and at its end the old one goes: whoever fetches the bundle once in 60 days, which
//! is [`SUCCESSION`] less [`RETIREMENT`], trusts the webhook at every moment. A node whose clock is wrong may find
//! none that is valid, and make one: it comes behind those that callers have already. Always holds: everything
//! here depends on what is known and the time that is given. Never does: read a clock, or show a key.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// How long an authority is valid.
pub(super) const VALIDITY: Duration = Duration::days(365);
/// A successor is made when the last one ends in less than this.
pub(super) const SUCCESSION: Duration = Duration::days(90);
/// An authority that ends in less than this signs no more, if there is another one.
pub(super) const RETIREMENT: Duration = Duration::days(30);
/// Valid from this long before it was made, for clocks that differ.
pub(super) const BACKDATE: Duration = Duration::DAY;
/// Authorities that are kept: one, its successor, and those that nodes made whose clocks are wrong.
const KEPT: usize = 8;

/// What was opened is no list of authorities.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Sealed rightly, and yet not what belongs there.
    #[error(
        "what is sealed is no list of certificate authorities ({0}): start the version that the other members run"
    )]
    Unreadable(String),
    /// No certificate can be made.
    #[error("make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// One authority with its private key.
pub(super) struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
    pub(super) from: OffsetDateTime,
    pub(super) to: OffsetDateTime,
}

/// All that are known, in the order in which they were agreed on.
#[derive(Default)]
pub(super) struct Authorities(Vec<Authority>);

/// As they are before they are sealed.
#[derive(Serialize, Deserialize)]
struct Plain {
    authorities: Vec<PlainAuthority>,
}

#[derive(Serialize, Deserialize)]
struct PlainAuthority {
    certificate: String,
    key: String,
}

impl Authority {
    fn make(now: OffsetDateTime) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // Each has a name of its own, so that a verifier need not try the keys of all.
        let name = format!("Trow webhook CA {}", now.unix_timestamp());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (now - BACKDATE, now + VALIDITY);
        let certificate = params.self_signed(&key)?.pem();
        Authority::of(certificate, key)
    }

    fn of(pem: String, key: KeyPair) -> Result<Authority, AuthorityError> {
        let unreadable = |why: String| AuthorityError::Unreadable(why);
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unreadable(e.to_string()))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|error| unreadable(error.to_string()))?;
        if !parsed.is_ca() || parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(unreadable("a certificate without its key".to_owned()));
        }
        let validity = parsed.validity();
        let (from, to) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        Ok(Authority { pem, der, key, from, to })
    }

    fn is_valid(&self, now: OffsetDateTime) -> bool {
        self.from <= now && now < self.to
    }

    /// What signs leaves.
    pub(super) fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, AuthorityError> {
        Ok(Issuer::from_ca_cert_der(&self.der, &self.key)?)
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

impl Authorities {
    /// Whether another one must be made: none is valid for as long as [`SUCCESSION`].
    pub(super) fn is_due(&self, now: OffsetDateTime) -> bool {
        !self.0.iter().any(|one| one.is_valid(now) && one.to - now > SUCCESSION)
    }

    /// With another one. Those that are over stay for a while, and those that are not valid yet: whoever made
    /// them has another clock, and it is not known which is right.
    pub(super) fn with_another(mut self, now: OffsetDateTime) -> Result<Authorities, AuthorityError> {
        self.0.push(Authority::make(now)?);
        while self.0.len() > KEPT {
            let ended = self.0.iter().enumerate().min_by_key(|(_, one)| one.to).map(|(at, _)| at);
            ended.map(|at| self.0.remove(at));
        }
        Ok(self)
    }

    /// Which one signs: the first that was agreed on of those that do not end soon, since callers have had it for
    /// longest. One that a clock behind made would otherwise be the first to end, and sign at once.
    pub(super) fn signing(&self, now: OffsetDateTime) -> Option<&Authority> {
        let valid = || self.0.iter().filter(|one| one.is_valid(now));
        valid().find(|one| one.to - now > RETIREMENT).or_else(|| valid().max_by_key(|one| one.to))
    }

    /// Those that callers are to trust, in the order in which they were agreed on. One that is not valid yet is among
    /// them: whoever made it has a clock ahead, and when it becomes valid callers are to have it.
    pub(super) fn published(&self, now: OffsetDateTime) -> impl Iterator<Item = &Authority> {
        self.0.iter().filter(move |one| now < one.to)
    }

    /// From when on another one than now signs, while there is one for that.
    pub(super) fn hands_over(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let signing = self.signing(now)?;
        let is_next = |one: &Authority| one.is_valid(now) && one.to > signing.to;
        self.0.iter().any(is_next).then(|| signing.to - RETIREMENT)
    }

    /// Their certificates, PEM: the bundle.
    pub(super) fn bundle(&self, now: OffsetDateTime) -> String {
        self.published(now).map(|one| one.pem.as_str()).collect()
    }

    /// All of it, private keys too: to be sealed.
    pub(super) fn encode(&self) -> Vec<u8> {
        let authorities = self
            .0
            .iter()
            .map(|one| PlainAuthority { certificate: one.pem.clone(), key: one.key.serialize_pem() });
        let plain = Plain { authorities: authorities.collect() };
        serde_json::to_vec(&plain).expect("text is always JSON")
    }

    /// What was sealed.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn decode(bytes: &[u8]) -> Result<Authorities, AuthorityError> {
        // What serde says of it may quote it.
        let unreadable = |why: &str| AuthorityError::Unreadable(why.to_owned());
        let plain: Plain = serde_json::from_slice(bytes).map_err(|_| unreadable("no JSON of that form"))?;
        let read = plain.authorities.into_iter().map(|one| {
            let key = KeyPair::from_pem(&one.key).map_err(|_| unreadable("no private key"))?;
            Authority::of(one.certificate, key)
        });
        Ok(Authorities(read.collect::<Result<_, _>>()?))
    }
}
