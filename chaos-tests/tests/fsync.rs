//! An fsync error ends the node, and what the fsync covered was never acknowledged.
//!
//! First a push is watched to learn what it syncs; then each of those syncs fails in turn.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::audit;
use chaos_tests::client::location;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::load::Acked;
use chaos_tests::report::scenario;
use chaos_tests::require;
use chaos_tests::strace::Strace;
use trow_raft::Digest;

const REPO: &str = "synced/image";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failing_fsync_of_a_push_ends_the_node_unacknowledged() {
    if require::tools(&["strace"]) {
        scenario("fsync", Duration::from_secs(240), run()).await;
    }
}

/// The syncs of a push, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sync {
    /// The blob's bytes.
    StagedBlob,
    /// The checksums' bytes, staged after the blob.
    StagedSidecar,
    /// The name of the checksums.
    SidecarDirectory,
    /// The name of the blob.
    BlobDirectory,
    /// The entry that commits the blob.
    BlobEntry,
    /// The entry that commits the manifest.
    ManifestEntry,
}

const ALL: [Sync; 6] = [
    Sync::StagedBlob,
    Sync::StagedSidecar,
    Sync::SidecarDirectory,
    Sync::BlobDirectory,
    Sync::BlobEntry,
    Sync::ManifestEntry,
];

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(1)).await?;
    let mut acked = Vec::new();
    let image = Image::random(&[10_000]);
    // The directories of these digests are made and synced now, once and for all.
    ensure!(image.push(&cluster.nodes[0].client(), REPO, "first").await?.status == 201, "the push fails");
    acked.push(Acked::Manifest(REPO.to_owned(), image));
    watch(&cluster).await?;
    for sync in ALL {
        fails(&mut cluster, sync, &mut acked).await.with_context(|| format!("{sync:?}"))?;
    }
    cluster.done();
    Ok(())
}

/// Every path that a push syncs belongs to one of [`ALL`], so that none is left out below.
async fn watch(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let strace = Strace::watch(node.pid().context("it runs")?, &cluster.root().join("watch"))?;
    let (image, client) = (Image::random(&[200_000]), node.client());
    ensure!(image.push(&client, REPO, "watched").await?.status == 201, "the push fails");
    let synced: BTreeSet<PathBuf> = strace.synced().into_iter().map(|(path, _)| path).collect();
    drop(strace);
    let relative = |path: &Path| path.strip_prefix(&node.data_dir).map(Path::to_owned);
    for path in &synced {
        let path =
            relative(path).with_context(|| format!("{} is outside the data directory", path.display()))?;
        let known = ["staging", "checksums", "blobs"].iter().any(|dir| path.starts_with(dir))
            || path.ends_with("log.redb")
            // The checkpoint comes when it comes; a push does not wait for it.
            || path.starts_with("raft/state");
        ensure!(known, "a push syncs {}, which no case below covers", path.display());
    }
    for what in ["staging", "checksums", "blobs"] {
        let some = synced.iter().filter_map(|path| relative(path).ok()).any(|path| path.starts_with(what));
        ensure!(some, "a push syncs nothing in {what}: {synced:?}");
    }
    ensure!(synced.iter().any(|path| path.ends_with("log.redb")), "a push does not sync the log: {synced:?}");
    Ok(())
}

/// Pushes while `sync` fails: no acknowledgement, the node ends with 1, and all that was acknowledged
/// before is there after a start without the fault.
async fn fails(cluster: &mut Cluster, sync: Sync, acked: &mut Vec<Acked>) -> Result<()> {
    let root = cluster.root().to_owned();
    let node = &mut cluster.nodes[0];
    let client = node.client().within(Duration::from_secs(20));
    let (image, content) = (Image::random(&[]), Content::random(300_000));
    let digest = content.digest();

    let started = client.start_upload(REPO).await?;
    let patched = client.patch(&location(&started).context("Location")?, content).await?;
    ensure!(patched.status == 202, "PATCH: {}", patched.status);
    let upload = location(&patched).context("Location")?;
    if sync == Sync::ManifestEntry {
        let (config, content) = image.blobs[0];
        ensure!(client.push_blob(REPO, content, &config).await?.status == 201, "the push fails");
    }

    let paths = paths(&node.data_dir, sync, &digest)?;
    let strace = Strace::fail(node.pid().context("it runs")?, &root.join(format!("{sync:?}")), &paths)?;
    let answer = match sync {
        Sync::ManifestEntry => client.put_manifest(REPO, "never", MANIFEST, image.manifest.clone()).await,
        _ => client.finish_upload(&upload, Content::empty(), &digest).await,
    };
    if let Ok(answer) = &answer {
        ensure!(!answer.ok(), "acknowledged with {} although {paths:?} was not synced", answer.status);
    }
    let status = node.wait(Duration::from_secs(20)).context("the node goes on after a failed fsync")?;
    ensure!(strace.injected() > 0, "nothing was made to fail");
    drop(strace);
    let code = status.and_then(|status| status.code());
    ensure!(code == Some(1), "the node ended with {status:?}:\n{}", node.log_tail(10));

    node.start()?;
    cluster.healthy(Duration::from_secs(30)).await?;
    audit::everything(&cluster.clients(), acked).await?;
    let again = Image::random(&[1000]);
    ensure!(again.push(&client, REPO, "again").await?.status == 201, "a push after the restart fails");
    acked.push(Acked::Manifest(REPO.to_owned(), again));
    Ok(())
}

fn paths(data_dir: &Path, sync: Sync, digest: &Digest) -> Result<Vec<PathBuf>> {
    let first = &digest.hex()[..2];
    let newest = || -> Result<u64> {
        let numbers = std::fs::read_dir(data_dir.join("staging"))?.flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.max().context("nothing is staged")
    };
    Ok(match sync {
        Sync::StagedBlob => vec![data_dir.join("staging").join(newest()?.to_string())],
        Sync::StagedSidecar => {
            let newest = newest()?;
            (newest + 1..newest + 4).map(|number| data_dir.join("staging").join(number.to_string())).collect()
        }
        Sync::SidecarDirectory => directories(data_dir, "checksums", first),
        Sync::BlobDirectory => directories(data_dir, "blobs", first),
        Sync::BlobEntry | Sync::ManifestEntry => vec![find(data_dir, "log.redb")?],
    })
}

/// The directory and its parent, which is synced when the directory is new.
fn directories(data_dir: &Path, tree: &str, first: &str) -> Vec<PathBuf> {
    let parent = data_dir.join(tree).join("sha256");
    vec![parent.join(first), parent]
}

fn find(dir: &Path, name: &str) -> Result<PathBuf> {
    let below = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let found =
        std::iter::once(dir.to_owned()).chain(below).map(|dir| dir.join(name)).find(|file| file.is_file());
    let Some(found) = found else { bail!("there is no {name} in {}", dir.display()) };
    Ok(found)
}
