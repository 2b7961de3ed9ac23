//! A full disk: the log goes on from its reserve. Needs the right to mount.

use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;

use openraft::RaftLogReader;
use tempfile::TempDir;

use super::*;
use crate::command::NewManifest;
use crate::digest::{Algorithm, Digest};
use sha2::Digest as _;

fn put_manifest(fill: u8, size: usize) -> Command {
    let bytes = Bytes::from(vec![fill; size]);
    let digest = Digest::new(Algorithm::Sha256, &sha2::Sha256::digest(&bytes)).unwrap();
    let manifest = NewManifest {
        digest,
        media_type: "a/b".into(),
        artifact_type: None,
        bytes,
        blobs: vec![],
        children: vec![],
        subject: None,
        descriptor: None,
    };
    let repo = "r".parse().unwrap();
    Command::PutManifest { repo, manifest, tags: vec![], condition: None, sparse: false }
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Process::new("umount").args(["-l"]).arg(self.0).status();
    }
}

#[tokio::test]
async fn the_log_goes_on_when_the_disk_is_full() {
    let dir = TempDir::new().unwrap();
    let mount = Process::new("mount")
        .args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("not run: mounting a small file system needs root");
        return;
    }
    let _mounted = Mounted(dir.path());
    let reserve = Arc::new(Reserve::open(&dir.path().join("reserve")).unwrap());
    let mut log = LogStore::open(&dir.path().join("log.redb"), reserve.clone(), Planted::NONE).unwrap();
    let state = dir.path().join("state");
    let mut machine = Machine::open(&state, log.flushed(), Planted::NONE, Some(reserve)).unwrap();
    append(&mut log, [entry(1, 0, 10)]).await;
    // Somebody else takes all that is left.
    let mut filler = std::fs::File::create(dir.path().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 1 << 16]).is_ok() {}
    for index in 1..=8 {
        let put = put_manifest(index as u8, 1 << 20);
        append(&mut log, [entry_of(1, index, String::new(), put.clone())]).await;
        apply(&mut machine, [entry_of(1, index, String::new(), put)]).await;
        assert!(machine.checkpoint().await.is_some());
    }
    assert_eq!(log.try_get_log_entries(0..100).await.unwrap().len(), 9);
    log.close();
}
