//! A full disk is answered 507; reads and consensus go on, and pushes too when there is room again.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::audit;
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::disk::{Disk, Room};
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::load::Acked;
use chaos_tests::report::scenario;
use chaos_tests::require;

const REPO: &str = "full/image";
const DISK: u64 = 400 << 20;
const LAYER: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_answers_507_and_recovers_by_itself() {
    if require::loop_disks() {
        scenario("disk full", Duration::from_secs(240), run()).await;
    }
}

async fn run() -> Result<()> {
    // All three nodes have small disks: with one full node alone, others would take what it refuses.
    let (mut cluster, room) = (Cluster::prepare(Plan::of(3)).await?, Room::new()?);
    let root = cluster.root().to_owned();
    let mut disks = Vec::new();
    for node in &mut cluster.nodes {
        let data_dir = node.data_dir.clone();
        disks.push(Disk::new(&room, &root.join(format!("{}.img", node.name)), DISK, &data_dir)?);
        node.command = [room.enter(), std::mem::take(&mut node.command)].concat();
        node.data_dir = room.seen(&data_dir);
    }
    cluster.start_all().await?;
    let nodes = cluster.clients();
    let kept = Image::random(&[LAYER]);
    ensure!(kept.push(&nodes[0], REPO, "kept").await?.status == 201, "the first push fails");
    let mut acked: Vec<Acked> =
        kept.blobs.iter().map(|(digest, _)| Acked::Blob(REPO.to_owned(), *digest)).collect();
    acked.push(Acked::Manifest(REPO.to_owned(), kept.clone()));

    // Somebody else fills most of each disk.
    for disk in &disks {
        let filler = room.seen(&disk.mounted).join("filler");
        fill(&filler, 60 << 20)?;
    }
    let refused = push_until_full(&nodes, &mut acked).await?;
    eprintln!("507 after {} pushes of {} MiB", acked.len(), LAYER >> 20);
    ensure!(refused.status == 507, "a full disk is answered {}", refused.status);

    // Not even the headroom is left: consensus lives on what it set aside.
    for disk in &disks {
        fill(&room.seen(&disk.mounted).join("filler2"), 0)?;
    }
    let content = Content::random(LAYER);
    let refused = nodes[1].push_blob(REPO, content, &content.digest()).await?;
    ensure!(refused.status == 507, "a disk without a byte left is answered {}", refused.status);

    audit::everything(&nodes, &acked).await.context("reads while the disks are full")?;
    for turn in 0..20 {
        let moved =
            nodes[turn % 3].put_manifest(REPO, &format!("t{turn}"), MANIFEST, kept.manifest.clone()).await?;
        ensure!(moved.status == 201, "a tag moved while the disks are full: {}", moved.status);
    }
    for node in &mut cluster.nodes {
        ensure!(node.is_running(), "{} ended on a full disk:\n{}", node.name, node.log_tail(20));
    }

    for disk in &disks {
        for filler in ["filler", "filler2"] {
            std::fs::remove_file(room.seen(&disk.mounted).join(filler))?;
        }
    }
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let image = Image::random(&[LAYER]);
        let answer = image.push(&nodes[1], REPO, "after").await?;
        if answer.status == 201 {
            break;
        }
        ensure!(Instant::now() < until, "pushes are answered {} 30 s after there is room", answer.status);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cluster.settled(Duration::from_secs(120)).await?;
    audit::everything(&nodes, &acked).await?;
    cluster.done();
    Ok(())
}

/// Writes a file that leaves about `leave` bytes of its disk free.
fn fill(file: &std::path::Path, leave: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(file.parent().context("a parent")?)?;
    let len = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
    let mut open = std::fs::File::create(file)?;
    if leave > 0 {
        rustix::fs::fallocate(&open, rustix::fs::FallocateFlags::empty(), 0, len)?;
        return Ok(());
    }
    // What is left to the last block is known only when a write fails.
    loop {
        match open.write_all(&[0; 65536]).and_then(|()| open.sync_data()) {
            Ok(()) => (),
            Err(full) if full.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Pushes blobs through each node in turn until one is refused; the refusal.
async fn push_until_full(nodes: &[Client], acked: &mut Vec<Acked>) -> Result<chaos_tests::client::Answer> {
    for turn in 0..200 {
        let content = Content::random(LAYER);
        let digest = content.digest();
        let answer = nodes[turn % 3].push_blob(REPO, content, &digest).await?;
        if answer.status != 201 {
            return Ok(answer);
        }
        acked.push(Acked::Blob(REPO.to_owned(), digest));
    }
    anyhow::bail!("200 pushes of {LAYER} bytes fit on disks of {DISK}")
}
