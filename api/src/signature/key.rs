//! Public keys as `cosign generate-key-pair` and `openssl pkey -pubout` write them: one PEM block of a
//! SubjectPublicKeyInfo.
//!
//! Always holds: the algorithm is the key's, never what a signature says of itself; an elliptic curve's point lies
//! on its curve and is not a weak one; RSA has 2048 to 8192 bits. Never does: repeat a text in an error that may be a private key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::agreement::{self, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::{self as algorithm, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _, Oid, Tag, oid};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Longest PEM that is read, in bytes; the largest key that is taken has about 1,500.
const PEM_MAX: usize = 16 * 1024;
/// RSA's public exponents go up to here, as ring takes them; everybody uses 65537.
const EXPONENT_MAX: u64 = (1 << 33) - 1;

const EC: Oid<'static> = oid!(1.2.840.10045.2.1);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const ED25519: Oid<'static> = oid!(1.3.101.112);
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const RSA_PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    kind: Kind,
    /// As the algorithm takes it: a point, 32 bytes, or PKCS#1.
    bytes: Box<[u8]>,
}

/// What kind of key it is, and thereby how it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// The text is no key that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// There is no PEM block, or something beside it.
    #[error(
        "not a public key in PEM: write exactly one block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----"
    )]
    NotPem,
    /// A private key. Whoever has the policy has it now.
    #[error(
        "this is a private key: it is not secret any more; make a new pair and write the public key here"
    )]
    Private,
    /// Another kind of block.
    #[error("this is no PUBLIC KEY but another kind of PEM block{0}")]
    OtherBlock(&'static str),
    /// What is inside the block is damaged.
    #[error("the block is damaged: what is in it is not {0}")]
    Damaged(&'static str),
    /// A key that nothing here can check signatures with.
    #[error("{0} is not supported: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")]
    Unsupported(&'static str),
    /// An RSA key that is too short or too long.
    #[error("an RSA key of {bits} bits is not supported: use 2048 to 8192 bits")]
    RsaSize {
        /// Of its modulus.
        bits: usize,
    },
    /// The numbers do not make a key.
    #[error("this {0} is not valid")]
    Numbers(&'static str),
}

impl PublicKey {
    /// Reads a key from PEM.
    ///
    /// # Errors
    /// See [`InvalidKey`].
    pub fn from_pem(text: &str) -> Result<PublicKey, InvalidKey> {
        let der = decode(text)?;
        let Ok((rest, spki)) = SubjectPublicKeyInfo::from_der(&der) else {
            return Err(InvalidKey::Damaged("a SubjectPublicKeyInfo"));
        };
        if !rest.is_empty() || spki.subject_public_key.unused_bits != 0 {
            return Err(InvalidKey::Damaged("a SubjectPublicKeyInfo alone"));
        }
        let bytes = spki.subject_public_key.data.as_ref();
        let parameters = spki.algorithm.parameters.as_ref();
        let named = &spki.algorithm.algorithm;
        let kind = if *named == EC {
            curve(parameters, bytes)?
        } else if *named == ED25519 {
            // One of a small order has signatures that fit any message.
            let point = ed25519_dalek::VerifyingKey::try_from(bytes);
            if parameters.is_some() || !point.is_ok_and(|point| !point.is_weak()) {
                return Err(InvalidKey::Numbers("Ed25519 key"));
            }
            Kind::Ed25519
        } else if *named == RSA {
            rsa(bytes)?
        } else if *named == RSA_PSS {
            return Err(InvalidKey::Unsupported("RSA with PSS"));
        } else {
            return Err(InvalidKey::Unsupported("a key of this algorithm"));
        };
        Ok(PublicKey { kind, bytes: bytes.into() })
    }

    /// Whether `signature` is this key's of `message`: DER for ECDSA, PKCS#1 v1.5 for RSA, always over a hash as
    /// cosign chooses it for the key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verifies = |algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
        };
        match self.kind {
            Kind::P256 => verifies(&algorithm::ECDSA_P256_SHA256_ASN1),
            // cosign took SHA-256 with every key once, and takes the hash of the curve's size now.
            Kind::P384 => {
                verifies(&algorithm::ECDSA_P384_SHA384_ASN1) || verifies(&algorithm::ECDSA_P384_SHA256_ASN1)
            }
            // cosign 3 signs envelopes as they are, and the hash of payloads ("Ed25519ph").
            Kind::Ed25519 => verifies(&algorithm::ED25519) || self.verifies_hashed(message, signature),
            Kind::Rsa => verifies(&algorithm::RSA_PKCS1_2048_8192_SHA256),
        }
    }

    /// Ed25519ph, which ring does not have. The prefix of what is hashed keeps it apart from Ed25519.
    fn verifies_hashed(&self, message: &[u8], signature: &[u8]) -> bool {
        use ed25519_dalek::Digest as _;
        let key = ed25519_dalek::VerifyingKey::try_from(self.bytes.as_ref());
        let signature = ed25519_dalek::Signature::from_slice(signature);
        let hash = ed25519_dalek::Sha512::new_with_prefix(message);
        match (key, signature) {
            (Ok(key), Ok(signature)) => key.verify_prehashed_strict(hash, None, &signature).is_ok(),
            _ => false,
        }
    }

    /// For people: `ECDSA P-256`.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::P256 => "ECDSA P-256",
            Kind::P384 => "ECDSA P-384",
            Kind::Ed25519 => "Ed25519",
            Kind::Rsa => "RSA",
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.kind()).field(&hex::encode(&self.bytes)).finish()
    }
}

/// What is inside the one block that the text is.
fn decode(text: &str) -> Result<Vec<u8>, InvalidKey> {
    if text.len() > PEM_MAX {
        return Err(InvalidKey::NotPem);
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(InvalidKey::Private);
    }
    let inside = text.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
    let (label, rest) = inside.ok_or(InvalidKey::NotPem)?;
    match label {
        "PUBLIC KEY" => {}
        "RSA PUBLIC KEY" => {
            return Err(InvalidKey::OtherBlock(": write it with openssl rsa -RSAPublicKey_in -pubout"));
        }
        "CERTIFICATE" => {
            return Err(InvalidKey::OtherBlock(": take the key from it with openssl x509 -pubkey -noout"));
        }
        _ => return Err(InvalidKey::OtherBlock("")),
    }
    let body = rest.strip_suffix("-----END PUBLIC KEY-----").ok_or(InvalidKey::NotPem)?;
    if body.contains("-----") {
        return Err(InvalidKey::NotPem);
    }
    let digits: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).map_err(|_| InvalidKey::Damaged("base64"))
}

/// The curve that is named, of a point on it.
fn curve(parameters: Option<&Any<'_>>, point: &[u8]) -> Result<Kind, InvalidKey> {
    let named = parameters.filter(|any| any.tag() == Tag::Oid);
    let Some(named) = named.and_then(|any| Oid::try_from(any.clone()).ok()) else {
        return Err(InvalidKey::Unsupported("a curve without a name"));
    };
    let (kind, agreement) = if named == P256 {
        (Kind::P256, &agreement::ECDH_P256)
    } else if named == P384 {
        (Kind::P384, &agreement::ECDH_P384)
    } else {
        return Err(InvalidKey::Unsupported("ECDSA on this curve"));
    };
    if matches!(point.first(), Some(2 | 3)) {
        return Err(InvalidKey::Unsupported("ECDSA with a compressed point"));
    }
    // Agreeing on a secret is the way to have the point checked now, not when it fails to verify anything.
    let invalid = InvalidKey::Numbers("ECDSA key");
    let own = EphemeralPrivateKey::generate(agreement, &SystemRandom::new()).map_err(|_| invalid.clone())?;
    let peer = agreement::UnparsedPublicKey::new(agreement, point);
    agreement::agree_ephemeral(own, &peer, |_| ()).map_err(|_| invalid)?;
    Ok(kind)
}

fn rsa(pkcs1: &[u8]) -> Result<Kind, InvalidKey> {
    let invalid = InvalidKey::Numbers("RSA key");
    let Ok((rest, key)) = RSAPublicKey::from_der(pkcs1) else { return Err(invalid) };
    let exponent = key.try_exponent().map_err(|_| invalid.clone())?;
    let modulus = match key.modulus {
        [0, modulus @ ..] => modulus,
        // Without the zero byte a number that begins with a set bit is negative.
        [first, ..] if first & 0x80 != 0 => return Err(invalid),
        modulus => modulus,
    };
    let leading = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = (8 * modulus.len()).saturating_sub(leading);
    if !(2048..=8192).contains(&bits) {
        return Err(InvalidKey::RsaSize { bits });
    }
    let odd = |number: Option<&u8>| number.is_some_and(|byte| byte & 1 == 1);
    let plausible = odd(modulus.last()) && exponent & 1 == 1 && (3..=EXPONENT_MAX).contains(&exponent);
    if rest.is_empty() && plausible { Ok(Kind::Rsa) } else { Err(invalid) }
}

#[cfg(test)]
mod tests;
