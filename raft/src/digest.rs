//! Content digests, as the OCI image-spec's descriptor section defines them.
//!
//! A [`Digest`] is valid by construction: [`FromStr`] and [`Digest::new`] are the only ways in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A registered hash algorithm that Trow verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Size of a digest in bytes.
    pub fn size(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        match text {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(InvalidDigest::Algorithm),
        }
    }
}

/// An algorithm and the bytes it gave. Written `sha256:<64 lower-case hex digits>`.
///
/// Ordered by algorithm, then bytes, so that a range of one algorithm's prefix is contiguous.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    /// Only the first `algorithm.size()` bytes count, the rest is zero.
    bytes: [u8; 64],
}

/// The text is not a digest that Trow verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// No colon.
    #[error("a digest is written <algorithm>:<hex>")]
    Form,
    /// Not sha256 or sha512.
    #[error("the digest's algorithm must be sha256 or sha512")]
    Algorithm,
    /// Wrong length, or not lower-case hex.
    #[error("the digest must have 64 (sha256) or 128 (sha512) lower-case hex digits")]
    Hex,
}

impl Digest {
    /// A digest from raw bytes.
    ///
    /// # Errors
    /// `bytes` is not as long as the algorithm says.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, InvalidDigest> {
        if bytes.len() != algorithm.size() {
            return Err(InvalidDigest::Hex);
        }
        let mut all = [0; 64];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(Digest { algorithm, bytes: all })
    }

    /// The digest of `content`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut bytes = [0; 64];
        match algorithm {
            Algorithm::Sha256 => bytes[..32].copy_from_slice(&sha2::Sha256::digest(content)),
            Algorithm::Sha512 => bytes.copy_from_slice(&sha2::Sha512::digest(content)),
        }
        Digest { algorithm, bytes }
    }

    /// The SHA-256 of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Digest::of(Algorithm::Sha256, content)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes, `algorithm().size()` of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size()]
    }

    /// Lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// The first 64 bits; every algorithm gives more.
    pub fn number(&self) -> u64 {
        self.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }

    /// The partition: the first ten bits.
    pub fn partition(&self) -> PartitionId {
        PartitionId((u16::from(self.bytes[0]) << 2) | u16::from(self.bytes[1] >> 6))
    }
}

/// One of the 1024 shares of the digest space that are placed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(u16);

impl PartitionId {
    /// How many there are.
    pub const COUNT: u16 = 1024;

    /// The partition numbered `index`, if below [`Self::COUNT`].
    pub fn new(index: u16) -> Option<Self> {
        (index < Self::COUNT).then_some(PartitionId(index))
    }

    /// All, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..Self::COUNT).map(PartitionId)
    }

    /// 0 to 1023.
    pub fn index(self) -> u16 {
        self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (algorithm, digits) = text.split_once(':').ok_or(InvalidDigest::Form)?;
        let algorithm: Algorithm = algorithm.parse()?;
        let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != 2 * algorithm.size() || !lower {
            return Err(InvalidDigest::Hex);
        }
        let mut bytes = [0; 64];
        hex::decode_to_slice(digits, &mut bytes[..algorithm.size()]).map_err(|_| InvalidDigest::Hex)?;
        Ok(Digest { algorithm, bytes })
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_digests_parse() {
        let good = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        assert_eq!(Digest::sha256(b"").to_string(), good);
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc/passwd",
            &good[..70],
            &good.to_uppercase(),
            &good.replace("e3b0", "E3B0"),
            &good.replace("sha256", "md5"),
            &format!("{good}00"),
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} parsed");
        }
    }

    #[test]
    fn the_partition_is_the_first_ten_bits() {
        let mut bytes = [0u8; 32];
        (bytes[0], bytes[1]) = (0xff, 0xc0);
        assert_eq!(Digest::new(Algorithm::Sha256, &bytes).unwrap().partition().index(), 1023);
        (bytes[0], bytes[1]) = (0x00, 0x40);
        assert_eq!(Digest::new(Algorithm::Sha256, &bytes).unwrap().partition().index(), 1);
    }
}
