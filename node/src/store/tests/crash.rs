//! A store whose process dies, or whose disk fails, at each fsync of a push.
//!
//! The push runs in a child: this test binary again, under strace, which injects the fault.

use std::env;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use trow_raft::{Digest, Planted};

use crate::store::Store;

/// Where the child keeps its store; only the child has it.
const CHILD: &str = "TROW_TEST_STORE";
const CONTENT: &[u8] = b"what is pushed while everything breaks";
/// More fsyncs than a push has.
const MOST: u32 = 40;

/// Not a test of its own: what the child does.
#[tokio::test]
async fn child_that_pushes() {
    let Ok(dir) = env::var(CHILD) else { return };
    let store = Store::open(Path::new(&dir), Planted::NONE).unwrap();
    let mut staged = store.stage(None).await.unwrap();
    staged.write(Bytes::from_static(CONTENT)).await.unwrap();
    staged.hold(&Digest::sha256(CONTENT)).await.unwrap();
    println!("acknowledged");
}

/// Runs the child with `fault` injected into its fsync number `k`.
fn push(dir: &Path, fault: &str, k: u32) -> Result<Output, String> {
    let me = env::current_exe().map_err(|err| err.to_string())?;
    // sled's own threads fsync too; only the push is to be counted.
    let inject = format!("inject=fsync:{fault}:when={k}");
    let mut child = Command::new("strace");
    child.args(["-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", &inject]).arg(me);
    child.args(["--exact", "store::tests::crash::child_that_pushes", "--nocapture", "--test-threads=1"]);
    child.env(CHILD, dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().map_err(|err| format!("strace does not start: {err}"))?;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while child.try_wait().map_err(|err| err.to_string())?.is_none() {
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            panic!("the push with {fault} at fsync {k} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().map_err(|err| err.to_string())?;
    if String::from_utf8_lossy(&output.stderr).contains("ptrace") {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(output)
}

fn said(output: &Output, word: &str) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(word)
}

/// Pushes with a fault at each fsync in turn until a push gets through; calls `check` for each
/// that did not.
fn each_fsync(fault: &str, check: impl Fn(&Path, &Output, u32)) {
    for k in 1..=MOST {
        let dir = tempfile::tempdir().unwrap();
        let output = match push(dir.path(), fault, k) {
            Ok(output) => output,
            Err(why) => {
                println!("not run: {why}");
                return;
            }
        };
        if output.status.success() {
            assert!(said(&output, "acknowledged"), "{output:?}");
            assert!(k > 4, "a push has at least four fsyncs, and number {k} was not met");
            return;
        }
        check(dir.path(), &output, k);
    }
    panic!("{MOST} fsyncs and no end");
}

#[test]
fn an_fsync_error_ends_the_process_before_it_acknowledges() {
    each_fsync("error=EIO", |_, output, k| {
        assert!(!said(output, "acknowledged"), "acknowledged in spite of the error at fsync {k}");
        assert_eq!(output.status.code(), Some(1), "fsync {k}: {output:?}");
    });
}

#[tokio::test]
async fn a_push_killed_at_any_fsync_leaves_a_whole_blob_or_none() {
    let digest = Digest::sha256(CONTENT);
    let runtime = tokio::runtime::Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        each_fsync("signal=KILL", |dir, output, k| {
            assert!(!said(output, "acknowledged"), "acknowledged before fsync {k}");
            let store = Store::open(dir, Planted::NONE).unwrap();
            if store.has(&digest).is_some() {
                assert_eq!(runtime.block_on(store.verify(&digest)).unwrap(), Some(true), "fsync {k}");
            }
            let held = runtime.block_on(async {
                let mut staged = store.stage(None).await.unwrap();
                staged.write(Bytes::from_static(CONTENT)).await.unwrap();
                staged.hold(&digest).await.unwrap()
            });
            assert_eq!(held.size, CONTENT.len() as u64);
        });
    });
    checked.await.unwrap();
}
