//! A full disk: the log goes on from its reserve. Needs the right to mount.

use std::path::Path;
use std::process::Command as Process;

use openraft::RaftLogReader;
use tempfile::TempDir;

use super::*;

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
    let mut log = open_log(dir.path());
    append(&mut log, [entry(1, 0, 10)]).await;
    // Somebody else takes all that is left.
    let mut filler = std::fs::File::create(dir.path().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 1 << 16]).is_ok() {}
    for index in 1..=20 {
        append(&mut log, [entry(1, index, 1 << 20)]).await;
    }
    assert_eq!(log.try_get_log_entries(0..100).await.unwrap().len(), 21);
    log.close();
}
