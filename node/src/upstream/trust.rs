//! Certificates of authorities that are trusted besides the public ones.
//!
//! Never does: check a connection, which TLS does.

use std::path::Path;

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::follow::{self, Content};

/// The certificates of a PEM file.
///
/// # Errors
/// What is wrong with it, with its name.
pub fn read(path: &Path) -> Result<Vec<Certificate>, String> {
    parse(path, &follow::read(path))
}

/// The certificates of a PEM file that was read.
pub(super) fn parse(path: &Path, content: &Content) -> Result<Vec<Certificate>, String> {
    let path = path.display();
    let bytes = content.as_ref().map_err(|why| format!("{path} {why}"))?;
    let bad = |why: &dyn std::fmt::Display| format!("{path} has a certificate that is none: {why}");
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(bytes) {
        let der = der.map_err(|error| bad(&error))?;
        RootCertStore::empty().add(der.clone()).map_err(|error| bad(&error))?;
        certificates.push(Certificate::from_der(&der).map_err(|error| bad(&error))?);
    }
    if certificates.is_empty() {
        return Err(format!("{path} has no certificate"));
    }
    Ok(certificates)
}
