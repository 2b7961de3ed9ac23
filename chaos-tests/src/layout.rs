//! Images as programs read them: an OCI image layout on disk, with configurations that are real and
//! layers that can be unpacked.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::Digest as _;
use trow_raft::Digest;

use crate::content::{self, Content};
use crate::image::MANIFEST;

/// The media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The sizes in a tar archive are multiples of this.
const RECORD: u64 = 512;

/// What names a blob of a layout.
#[derive(Clone, Debug)]
pub struct Descriptor {
    media: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    architecture: Option<String>,
}

impl Descriptor {
    fn json(&self) -> Value {
        let mut json = json!({"mediaType": self.media, "digest": self.digest.to_string(), "size": self.size});
        if let Some(architecture) = &self.architecture {
            json["platform"] = json!({"os": "linux", "architecture": architecture});
        }
        json
    }
}

/// A directory that is written step by step, from the layers up.
#[derive(Debug)]
pub struct Layout {
    /// The directory.
    pub dir: PathBuf,
}

impl Layout {
    /// A layout that names nothing yet.
    ///
    /// # Errors
    /// It cannot be written, as everywhere here.
    pub fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir.join("blobs/sha256"))?;
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Layout { dir: dir.to_owned() })
    }

    /// A layout whose tag `name` is an index of three architectures, each with two layers of its own;
    /// the index's bytes.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn multi(dir: &Path, name: &str) -> Result<(Self, Bytes)> {
        let layout = Layout::create(dir)?;
        let mut images = Vec::new();
        for architecture in ["amd64", "arm64", "s390x"] {
            let layers = [layout.layer(Content::random(300_000))?, layout.layer(Content::random(2_000_000))?];
            images.push(layout.image(architecture, &layers)?);
        }
        let index = layout.index(&images)?;
        layout.tag(name, &index)?;
        let bytes = std::fs::read(layout.file(&index.digest))?;
        Ok((layout, bytes.into()))
    }

    /// Adds a layer with one file of this content.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn layer(&self, content: Content) -> Result<Descriptor> {
        let mut archive = header(&content.digest(), content.len());
        archive.extend_from_slice(&content.bytes());
        archive.resize(padded(content.len()) as usize, 0);
        self.add(LAYER, &archive)
    }

    /// Adds a layer with one file of `len` zeros under a name that no other layer has; its own file takes
    /// next to nothing of the disk.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn hollow_layer(&self, len: u64) -> Result<Descriptor> {
        let staged = self.dir.join("staged");
        let mut file = File::create(&staged)?;
        file.write_all(&header(&Content::random(64).digest(), len))?;
        file.set_len(padded(len))?;
        let (digest, size) = hash(&staged)?;
        std::fs::rename(&staged, self.file(&digest))?;
        Ok(Descriptor { media: LAYER, digest, size, architecture: None })
    }

    /// Adds an image of these layers, its configuration included.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn image(&self, architecture: &str, layers: &[Descriptor]) -> Result<Descriptor> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.add(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.json(),
            "layers": layers.iter().map(Descriptor::json).collect::<Vec<_>>(),
        });
        let image = self.add(MANIFEST, manifest.to_string().as_bytes())?;
        Ok(Descriptor { architecture: Some(architecture.to_owned()), ..image })
    }

    /// Adds an index of these images.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn index(&self, images: &[Descriptor]) -> Result<Descriptor> {
        let manifests: Vec<Value> = images.iter().map(Descriptor::json).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.add(INDEX, index.to_string().as_bytes())
    }

    /// Names `top` in the layout; the only name it has then.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn tag(&self, name: &str, top: &Descriptor) -> Result<()> {
        let mut entry = top.json();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let top = json!({"schemaVersion": 2, "manifests": [entry]});
        Ok(std::fs::write(self.dir.join("index.json"), top.to_string())?)
    }

    /// Where a blob is.
    pub fn file(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn add(&self, media: &'static str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::sha256(bytes);
        std::fs::write(self.file(&digest), bytes)?;
        Ok(Descriptor { media, digest, size: bytes.len() as u64, architecture: None })
    }
}

/// The names of the blobs of a layout, each checked against its bytes.
///
/// # Errors
/// A blob has other bytes than its name says.
pub fn blobs(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.join("blobs/sha256"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(hash(&entry.path())?.0.hex() == name, "{name} has other bytes");
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// The SHA-256 of a file and its length, read in pieces.
///
/// # Errors
/// It cannot be read.
pub fn hash(file: &Path) -> Result<(Digest, u64)> {
    let (mut file, mut hasher, mut len) = (File::open(file)?, sha2::Sha256::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((content::finish(hasher), len));
        }
        hasher.update(&piece[..read]);
        len += read as u64;
    }
}

/// How long an archive with one file of `len` bytes is: its header, whole records, and two empty ones.
fn padded(len: u64) -> u64 {
    RECORD + len.next_multiple_of(RECORD) + 2 * RECORD
}

/// The header of a plain file of `len` bytes in a tar archive (POSIX ustar).
fn header(name: &Digest, len: u64) -> Vec<u8> {
    let mut header = vec![0; RECORD as usize];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &format!("data/{}", &name.hex()[..16]));
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{len:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
