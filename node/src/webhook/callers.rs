//! Who may call the webhook: callers with a certificate of `webhook.client_ca`, which is read again when
//! it changes, and with one of `webhook.client_names` if there are any.
//!
//! Always holds: a caller without such a certificate gets no further than the handshake; one that was
//! let in by CAs that do not count any more gets no further than the request in hand; a file that
//! cannot be used leaves the one before in place. Never does: tell callers apart that may call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;

use crate::follow::{self, Content};
use crate::listener::Term;
use crate::verified::{Cas, Verified};

/// A certificate of the right CA whose holder may not call.
#[derive(Debug, thiserror::Error)]
#[error("the caller's certificate has none of webhook.client_names")]
struct OtherName;

/// Reads the CAs of the file at `path`.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), String> {
    cas(path, &follow::read(path)).map(drop)
}

/// By the file at `path`, as it is until `closing`; a change of it ends `term`.
///
/// # Errors
/// It holds no certificates.
pub(super) fn of(
    path: PathBuf,
    names: Vec<String>,
    term: Term,
    closing: CancellationToken,
) -> Result<Arc<Verified>, String> {
    let held = follow::read(&path);
    let callers = Verified::by(cas(&path, &held)?, move |certificate| named(certificate, &names));
    let (following, file) = (callers.clone(), path.clone());
    tokio::spawn(follow::follow([path], [held], closing, move |[content]| match cas(&file, content) {
        Ok(cas) => {
            following.replace(cas);
            term.end();
            tracing::info!(file = %file.display(), "webhook.client_ca was read again; callers are verified anew");
        }
        Err(why) => {
            tracing::error!(
                cause = why,
                "webhook.client_ca changed and cannot be used: the old one is kept; correct the file, it is read again"
            );
        }
    }));
    Ok(callers)
}

fn cas(path: &Path, content: &Content) -> Result<Cas, String> {
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
    Cas::of(roots).map_err(|error| bad(&format!("cannot be used: {error}")))
}

/// Whether the certificate has one of the names, of which none means any.
fn named(certificate: &CertificateDer<'_>, names: &[String]) -> Result<(), Error> {
    if names.is_empty() || has_one(certificate, names) {
        return Ok(());
    }
    Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherName)))))
}

/// As its common name, if it has exactly one, or among its DNS names and URIs.
fn has_one(certificate: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let common: Vec<_> = certificate.subject().iter_common_name().map(|name| name.as_str()).collect();
    if let [Ok(common)] = common[..]
        && names.iter().any(|name| name == common)
    {
        return true;
    }
    let Ok(Some(others)) = certificate.subject_alternative_name() else { return false };
    others.value.general_names.iter().any(|other| match other {
        GeneralName::DNSName(dns) => names.iter().any(|name| name.eq_ignore_ascii_case(dns)),
        GeneralName::URI(uri) => names.iter().any(|name| name == uri),
        _ => false,
    })
}
