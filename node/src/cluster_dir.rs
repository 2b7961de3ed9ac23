//! The cluster directory: what makes a machine trusted by a cluster.
//!
//! Owns the four files `ca.crt`, `ca.key`, `join.secret` and `admin.token`. Always holds: a
//! directory appears complete or not at all, its secrets are readable by the owner only, and an
//! existing one is never overwritten. Never does: anything over the network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRngCore as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::Sha256;

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const JOIN_SECRET: &str = "join.secret";
const ADMIN_TOKEN: &str = "admin.token";
/// Shortest join secret or admin token that is accepted, in bytes of text.
const SECRET_MIN: usize = 16;

/// What a cluster directory holds, read once.
pub struct ClusterDir {
    ca_cert: CertificateDer<'static>,
    ca_key: KeyPair,
    join_secret: Vec<u8>,
    admin_token: String,
}

/// A cluster directory cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterDirError {
    /// There is something already, which is not overwritten.
    #[error("{} exists and is not empty; choose another directory, or use this one as it is", .0.display())]
    Exists(PathBuf),
    /// A file is missing or not readable.
    #[error("{} {}", doing, path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is there but is not what it should be.
    #[error(
        "{} is not usable: {why}; copy it from another node of the cluster (`trow cluster init` makes a \
         directory of another cluster, which no node of this one would follow)", path.display()
    )]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A secret that could be guessed.
    #[error(
        "{} is shorter than {SECRET_MIN} characters: put a longer random text there, the same on every node \
         of the cluster, such as `openssl rand -hex 32` prints", path.display()
    )]
    Short {
        /// Which file.
        path: PathBuf,
    },
}

/// Makes a cluster directory at `path`, which must not exist or be empty.
///
/// # Errors
/// `path` is in use or not writable.
pub fn create(path: &Path) -> Result<ClusterDir, ClusterDirError> {
    let doing = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| ClusterDirError::Io { doing, path, source }
    };
    match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(ClusterDirError::Exists(path.to_owned())),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(doing("read", path)(error)),
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(doing("create", parent))?;
    // Filled under another name and renamed, so that a crash in between leaves no half of it.
    let mut fresh = path.file_name().unwrap_or_default().to_owned();
    fresh.push(format!(".new-{}", std::process::id()));
    let fresh = parent.join(fresh);
    let _ = fs::remove_dir_all(&fresh);
    fs::DirBuilder::new().mode(0o700).create(&fresh).map_err(doing("create", &fresh))?;
    let filled = fill(&fresh).and_then(|()| {
        fs::rename(&fresh, path).map_err(doing("create", path))?;
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(doing("sync", parent))
    });
    if let Err(error) = filled {
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    open(path)
}

fn fill(dir: &Path) -> Result<(), ClusterDirError> {
    let invalid =
        |error: rcgen::Error| ClusterDirError::Invalid { path: dir.join(CA_CERT), why: error.to_string() };
    let key = KeyPair::generate().map_err(invalid)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Trow cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Losing or replacing the CA is re-keying the cluster, so it outlives any cluster.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    let cert = params.self_signed(&key).map_err(invalid)?;
    write(dir, CA_CERT, 0o644, &cert.pem())?;
    write(dir, CA_KEY, 0o600, &key.serialize_pem())?;
    write(dir, JOIN_SECRET, 0o600, &format!("{}\n", random(dir)?))?;
    write(dir, ADMIN_TOKEN, 0o600, &format!("{}\n", random(dir)?))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| ClusterDirError::Io {
        doing: "sync",
        path: dir.to_owned(),
        source,
    })
}

fn random(dir: &Path) -> Result<String, ClusterDirError> {
    let mut bytes = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|error| ClusterDirError::Io {
        doing: "draw random bytes for",
        path: dir.to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(hex::encode(bytes))
}

fn write(dir: &Path, name: &str, mode: u32, text: &str) -> Result<(), ClusterDirError> {
    let path = dir.join(name);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|source| ClusterDirError::Io { doing: "write", path, source })
}

/// Reads the cluster directory at `path`.
///
/// # Errors
/// A file is missing, unreadable or not what it should be.
pub fn open(path: &Path) -> Result<ClusterDir, ClusterDirError> {
    let read = |name: &str| {
        let path = path.join(name);
        fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => ClusterDirError::Invalid { path, why: "it is not text".to_owned() },
            _ => ClusterDirError::Io { doing: "read", path, source },
        })
    };
    let invalid = |name: &str, why: String| ClusterDirError::Invalid { path: path.join(name), why };
    let ca_cert = CertificateDer::from_pem_slice(read(CA_CERT)?.as_bytes())
        .map_err(|error| invalid(CA_CERT, format!("no PEM certificate: {error}")))?;
    let ca_key = KeyPair::from_pem(&read(CA_KEY)?)
        .map_err(|error| invalid(CA_KEY, format!("no PEM private key: {error}")))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&ca_cert)
        .map_err(|error| invalid(CA_CERT, format!("no X.509 certificate: {error}")))?;
    if !parsed.is_ca() {
        return Err(invalid(CA_CERT, "it is not a certificate authority".to_owned()));
    }
    if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&ca_key) {
        return Err(invalid(CA_KEY, format!("it is not the key of {CA_CERT}")));
    }
    let secret = |name: &str| {
        let text = read(name)?.trim().to_owned();
        if text.len() < SECRET_MIN {
            return Err(ClusterDirError::Short { path: path.join(name) });
        }
        Ok(text)
    };
    let (join_secret, admin_token) = (secret(JOIN_SECRET)?.into_bytes(), secret(ADMIN_TOKEN)?);
    Ok(ClusterDir { ca_cert, ca_key, join_secret, admin_token })
}

/// Opens the cluster directory at `path`, making it first when there is nothing there: for a
/// node that runs alone and may grow later.
///
/// # Errors
/// As [`create`] and [`open`].
pub fn open_or_create(path: &Path) -> Result<ClusterDir, ClusterDirError> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
        Ok(true) => open(path),
        _ => create(path),
    }
}

impl ClusterDir {
    /// The token that administration takes as a bearer.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A key for `purpose`, the same on every node of the cluster, derived from the join secret.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        self.mac(&[b"derive", purpose.as_bytes()])
    }

    /// What keys are derived from, see [`crate::sealed`].
    pub(crate) fn join_secret(&self) -> &[u8] {
        &self.join_secret
    }

    pub(crate) fn ca_cert(&self) -> &CertificateDer<'static> {
        &self.ca_cert
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_der(&self.ca_cert, &self.ca_key)
    }

    /// HMAC-SHA256 of the parts under the join secret; each part is preceded by its length, so
    /// that no two lists of parts collide.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.join_secret).expect("any key length is allowed");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn created_directory_opens_and_hides_its_secrets() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/cluster");
        let made = create(&path).unwrap();
        let opened = open(&path).unwrap();
        assert_eq!(made.derive("uploads"), opened.derive("uploads"));
        assert_ne!(opened.derive("uploads"), opened.derive("other"));
        assert_eq!(opened.admin_token().len(), 64);
        for (name, mode) in [(CA_CERT, 0o644), (CA_KEY, 0o600), (JOIN_SECRET, 0o600), (ADMIN_TOKEN, 0o600)] {
            let found = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}");
        }
    }

    #[test]
    fn existing_directory_is_not_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        create(temp.path()).unwrap();
        assert!(matches!(create(temp.path()), Err(ClusterDirError::Exists(_))));
        let token = open(temp.path()).unwrap().admin_token().to_owned();
        assert_eq!(open_or_create(temp.path()).unwrap().admin_token(), token);
    }

    #[test]
    fn broken_files_are_named() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        create(&one).unwrap();
        create(&two).unwrap();
        fs::copy(two.join(CA_KEY), one.join(CA_KEY)).unwrap();
        let error = open(&one).err().unwrap().to_string();
        assert!(error.contains("ca.key") && error.contains("not the key"), "{error}");
        fs::remove_file(one.join(CA_KEY)).unwrap();
        let error = format!("{:#}", anyhow::Error::from(open(&one).err().unwrap()));
        assert_eq!(error.matches("No such file").count(), 1, "the cause is said once: {error}");
        fs::write(two.join(JOIN_SECRET), "short\n").unwrap();
        let error = open(&two).err().unwrap().to_string();
        assert!(error.contains("join.secret is shorter") && !error.contains("cluster init"), "{error}");
    }
}
