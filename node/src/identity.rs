//! Who this node is: a private key on its disk, and the leaf certificates minted for it.
//!
//! Always holds: the id is the hash of the key and lives exactly as long as the key file; the key
//! is on disk before it is used. Never does: decide whom to trust.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use trow_raft::{NodeId, durable};

use crate::cluster_dir::ClusterDir;

/// How long a leaf is valid. It is renewed at two thirds of this, under the same key.
pub const LEAF_VALIDITY: Duration = Duration::from_secs(90 * 24 * 3600);
/// A leaf is valid from this long before it was made, for clocks that differ.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);
const KEY_FILE: &str = "node.key";

/// A node's key and the id that follows from it.
pub struct Identity {
    id: NodeId,
    key: KeyPair,
}

/// The node's key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system said no.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file holds no private key. It is not replaced: a new key is a new node.
    #[error("{} holds no usable private key ({why}); restore it, or remove the whole data directory so that this node joins as a new one", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate could not be signed.
    #[error("mint a certificate: {0}")]
    Mint(#[from] rcgen::Error),
}

/// A certificate for a node's key.
pub struct Leaf {
    /// The certificate.
    pub cert: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// The identity kept in `data_dir`, made there on the first start.
    ///
    /// # Errors
    /// The key file is not usable or cannot be made durable.
    pub fn open(data_dir: &Path) -> Result<Identity, IdentityError> {
        let path = data_dir.join(KEY_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Identity::make(data_dir),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(IdentityError::Invalid { path, why: "it is not text".to_owned() });
            }
            Err(source) => return Err(IdentityError::Io { doing: "read", path, source }),
        };
        let key = KeyPair::from_pem(&text)
            .map_err(|error| IdentityError::Invalid { path, why: error.to_string() })?;
        Ok(Identity::of(key))
    }

    fn make(data_dir: &Path) -> Result<Identity, IdentityError> {
        let key = KeyPair::generate()?;
        durable::write_secret(data_dir, KEY_FILE, key.serialize_pem().as_bytes())
            .map_err(|source| IdentityError::Io { doing: "write", path: data_dir.join(KEY_FILE), source })?;
        Ok(Identity::of(key))
    }

    fn of(key: KeyPair) -> Identity {
        Identity { id: NodeId::of_key(&key.subject_public_key_info()), key }
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Mints a leaf from the cluster's CA, valid for [`LEAF_VALIDITY`].
    ///
    /// # Errors
    /// The CA cannot sign.
    pub fn mint(&self, cluster: &ClusterDir) -> Result<Leaf, IdentityError> {
        let now = time::OffsetDateTime::now_utc();
        self.mint_between(cluster, self.id, now - BACKDATE, now + LEAF_VALIDITY)
    }

    fn mint_between(
        &self,
        cluster: &ClusterDir,
        id: NodeId,
        from: time::OffsetDateTime,
        to: time::OffsetDateTime,
    ) -> Result<Leaf, IdentityError> {
        let mut params = CertificateParams::new(vec![dns_name(id)])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Trow node {id}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (from, to);
        let cert = params.signed_by(&self.key, &cluster.issuer()?)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        Ok(Leaf { cert: cert.into(), key })
    }

    /// A leaf that lies: it names `id`, or was valid long ago.
    #[cfg(test)]
    pub(crate) fn mint_false(&self, cluster: &ClusterDir, id: NodeId, expired: bool) -> Leaf {
        let now = time::OffsetDateTime::now_utc();
        let to = if expired { now - BACKDATE } else { now + LEAF_VALIDITY };
        self.mint_between(cluster, id, now - 3 * BACKDATE, to).unwrap()
    }
}

/// The name that a node's leaf bears, and that is asked for when dialling it.
pub fn dns_name(id: NodeId) -> String {
    format!("{id}.node.trow")
}

/// Forgets the identity kept in `data_dir`: the next [`Identity::open`] makes a new node.
///
/// # Errors
/// The key file cannot be removed durably.
pub fn forget(data_dir: &Path) -> Result<(), IdentityError> {
    durable::remove(data_dir, KEY_FILE).map_err(|source| IdentityError::Io {
        doing: "remove",
        path: data_dir.join(KEY_FILE),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_dir;

    #[test]
    fn identity_lives_as_long_as_its_key_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path()).unwrap().id();
        assert_eq!(Identity::open(dir.path()).unwrap().id(), first);
        forget(dir.path()).unwrap();
        assert_ne!(Identity::open(dir.path()).unwrap().id(), first);
    }

    #[test]
    fn leaf_names_the_hash_of_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster_dir::create(&dir.path().join("cluster")).unwrap();
        let identity = Identity::open(dir.path()).unwrap();
        let leaf = identity.mint(&cluster).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.cert).unwrap();
        assert_eq!(NodeId::of_key(parsed.public_key().raw), identity.id());
    }

    #[test]
    fn damaged_key_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), b"\xff\xfe").unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Invalid { .. })));
        fs::write(dir.path().join(KEY_FILE), "nonsense").unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Invalid { .. })));
        assert_eq!(fs::read_to_string(dir.path().join(KEY_FILE)).unwrap(), "nonsense");
    }
}
