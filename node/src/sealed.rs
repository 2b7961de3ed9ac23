//! Secrets in the agreed state, sealed so that the nodes of one cluster alone can open them.
//!
//! The key is derived (HKDF-SHA256) from the join secret, for one cluster and one purpose; it is in
//! no log, no state and no file. Always holds: what is opened was sealed under the same join secret,
//! for this cluster, and for this purpose. Never does: put anything into the state, or log a secret.

use std::fmt;

use rand::TryRngCore as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use trow_raft::ClusterId;

use crate::cluster_dir::ClusterDir;

/// How it is sealed; the first byte of what is sealed.
const VERSION: u8 = 1;
const SALT: &[u8] = b"trow sealed secrets";

/// Seals and opens the secrets of one purpose.
pub struct Sealer {
    key: LessSafeKey,
    purpose: &'static str,
}

/// What is sealed cannot be opened, or nothing can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A later version sealed it in another way.
    #[error(
        "it is sealed in a way that this version does not know ({0}): start the version that the other \
         members run"
    )]
    Version(u8),
    /// It was sealed under another join secret, or it is damaged: the two cannot be told apart.
    #[error(
        "it was sealed under another join secret, or is damaged: put back the join.secret that the cluster \
         had, or make a new one with `trow webhook ca --replace` and give its output to all callers"
    )]
    Foreign,
    /// No random numbers, or more than can be sealed.
    #[error("it cannot be sealed: this machine gives no random numbers")]
    Random,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.purpose)
    }
}

impl Sealer {
    /// For what the nodes of `cluster` keep for `purpose`.
    pub fn new(dir: &ClusterDir, cluster: ClusterId, purpose: &'static str) -> Sealer {
        let id = cluster.0.to_be_bytes();
        let secret = Salt::new(HKDF_SHA256, SALT).extract(dir.join_secret());
        let info = [&id[..], purpose.as_bytes()];
        let key = secret.expand(&info, &AES_256_GCM).expect("one block is never too long");
        Sealer { key: LessSafeKey::new(UnboundKey::from(key)), purpose }
    }

    /// Seals `secret`; each time in another way.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::rngs::OsRng.try_fill_bytes(&mut nonce).map_err(|_| SealError::Random)?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.named(VERSION)),
                &mut sealed,
            )
            .map_err(|_| SealError::Random)?;
        Ok([&[VERSION], &nonce[..], &sealed].concat())
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// It was sealed elsewhere, or later, or is damaged.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Foreign)?;
        if *version != VERSION {
            return Err(SealError::Version(*version));
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Foreign)?;
        let mut secret = rest.to_vec();
        let aad = Aad::from(self.named(*version));
        let len = match self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut secret) {
            Ok(opened) => opened.len(),
            Err(_) => return Err(SealError::Foreign),
        };
        secret.truncate(len);
        Ok(secret)
    }

    /// What a ciphertext is bound to beside its key.
    fn named(&self, version: u8) -> Vec<u8> {
        [&[version], self.purpose.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_dir;

    #[test]
    fn only_the_same_secret_cluster_and_purpose_open_it() {
        let temp = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| cluster_dir::create(&temp.path().join(name)).unwrap());
        let sealer = Sealer::new(&one, ClusterId(1), "a");
        let sealed = sealer.seal(b"the secret").unwrap();
        assert_eq!(Sealer::new(&one, ClusterId(1), "a").open(&sealed).unwrap(), b"the secret");
        for foreign in [
            Sealer::new(&other, ClusterId(1), "a"),
            Sealer::new(&one, ClusterId(2), "a"),
            Sealer::new(&one, ClusterId(1), "b"),
        ] {
            assert_eq!(foreign.open(&sealed), Err(SealError::Foreign));
        }
        assert_ne!(sealer.seal(b"the secret").unwrap(), sealed, "no two are alike");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn whatever_is_damaged_is_not_opened() {
        let temp = tempfile::tempdir().unwrap();
        let dir = cluster_dir::create(&temp.path().join("cluster")).unwrap();
        let sealer = Sealer::new(&dir, ClusterId(1), "a");
        let sealed = sealer.seal(b"secret").unwrap();
        for len in 0..sealed.len() {
            assert_eq!(sealer.open(&sealed[..len]), Err(SealError::Foreign));
        }
        for at in 1..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(sealer.open(&damaged), Err(SealError::Foreign), "byte {at}");
        }
        let mut later = sealed;
        later[0] = 2;
        let error = sealer.open(&later).unwrap_err();
        assert_eq!(error, SealError::Version(2));
        assert!(error.to_string().contains("start the version"));
    }
}
