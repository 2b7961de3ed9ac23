//! Public keys of a policy.

use std::fmt;

use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A key that images are signed with: one PEM block of a SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey {
    pem: String,
}

/// The text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a public key in PEM: write the block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----"
)]
pub struct InvalidKey;

impl PublicKey {
    /// Reads a key from PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(text: &str) -> Result<PublicKey, InvalidKey> {
        let (rest, block) = x509_parser::pem::parse_x509_pem(text.as_bytes()).map_err(|_| InvalidKey)?;
        let whole = rest.iter().all(u8::is_ascii_whitespace) && block.label == "PUBLIC KEY";
        let readable = SubjectPublicKeyInfo::from_der(&block.contents).is_ok_and(|(rest, _)| rest.is_empty());
        if whole && readable { Ok(PublicKey { pem: text.trim().to_owned() }) } else { Err(InvalidKey) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pem)
    }
}
