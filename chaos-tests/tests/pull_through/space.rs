//! A small disk: what is cached makes room for what comes, but for what is pinned and what was pulled last; and
//! without room a pull goes on without keeping.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::disk::{Disk, Room};
use chaos_tests::image::Image;
use chaos_tests::metrics;
use chaos_tests::report::scenario;
use chaos_tests::require;
use chaos_tests::upstream::Upstream;

use super::site::{pull, until};

const DISK: u64 = 400 << 20;
const LAYER: u64 = 20 << 20;
const MARKS: &str = "cache.high = \"70%\"\ncache.low = \"50%\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_disk_keeps_what_is_pinned_and_what_was_pulled_last() {
    if require::loop_disks() {
        scenario("small disk", Duration::from_secs(240), run()).await;
    }
}

fn repo(number: usize) -> String {
    format!("library/app{number}")
}

fn here(number: usize) -> String {
    format!("f/docker.io/library/app{number}")
}

async fn run() -> Result<()> {
    let upstream = Upstream::start().await?;
    let config = format!("{MARKS}{}", upstream.settings("docker.io"));
    let (mut cluster, room) = (Cluster::prepare(Plan::of(1).config(&config)).await?, Room::new()?);
    let image_file = cluster.root().join("n1.img");
    let node = &mut cluster.nodes[0];
    let data_dir = node.data_dir.clone();
    let disk = Disk::new(&room, &image_file, DISK, &data_dir)?;
    node.command = [room.enter(), std::mem::take(&mut node.command)].concat();
    node.data_dir = room.seen(&data_dir);
    cluster.start_all().await?;

    let images: Vec<Image> = (0..16).map(|_| Image::random(&[LAYER])).collect();
    let layer =
        |number: usize| images[number].blobs.last().map(|(digest, _)| digest.hex()).unwrap_or_default();
    let client = cluster.nodes[0].client();
    for (number, image) in images.iter().enumerate() {
        upstream.add(&repo(number), "v1", image);
        pull(&client, &here(number), "v1", image).await?;
        if number == 0 {
            // A pin is of what is recorded, which follows the pull.
            until("the first image can be pinned", async || {
                let node = &cluster.nodes[0].client;
                Ok(cluster.admin.run(node, &["cache", "pin", "app0:v1"]).await?.0 == 0)
            })
            .await?;
        }
        // Room is made as the disk is looked at, once a second: images do not come faster than that.
        until("the disk is below the mark", async || Ok(used(&room, &disk)? <= 72)).await?;
    }
    // The last byte leaves when the digest is known; then the file gets its name.
    until("the last image is kept", async || Ok(cluster.nodes[0].held().contains(&layer(15)))).await?;
    let evicted = metrics::read(&cluster.nodes[0], "trow_cache_evicted_blobs_total", &[]).await?;
    let held = cluster.nodes[0].held();
    let left: Vec<usize> = (0..images.len()).filter(|number| held.contains(&layer(*number))).collect();
    eprintln!(
        "{evicted} blobs evicted of {} images; left are {left:?}, {} % used",
        images.len(),
        used(&room, &disk)?
    );
    ensure!(evicted > 0.0 && left.len() < images.len(), "nothing was evicted: {left:?}");
    ensure!(left.contains(&0) && left.contains(&15), "the pinned image or the last one is gone: {left:?}");
    ensure!(!left.contains(&1), "an old image is there, and newer ones are gone: {left:?}");

    // Somebody else fills the disk beyond the mark, as fast as room is made.
    let filler = room.seen(&disk.mounted).join("filler");
    let mut file = std::fs::File::create(&filler)?;
    until("the disk is full beyond the mark, and nothing that may go is left", async || {
        if used(&room, &disk)? < 80 {
            file.write_all(&vec![b'x'; 20 << 20])?;
        }
        let held = cluster.nodes[0].held();
        Ok(used(&room, &disk)? >= 75 && (1..16).all(|number| !held.contains(&layer(number))))
    })
    .await?;
    drop(file);
    pull(&client, &here(3), "v1", &images[3]).await?;
    let held = cluster.nodes[0].held();
    ensure!(held.contains(&layer(0)) && !held.contains(&layer(3)), "it was kept without room");
    std::fs::remove_file(filler)?;
    until("it is kept when there is room", async || {
        pull(&client, &here(3), "v1", &images[3]).await?;
        Ok(cluster.nodes[0].held().contains(&layer(3)))
    })
    .await?;
    cluster.done();
    Ok(())
}

/// How full the disk is, in percent, as df says.
fn used(room: &Room, disk: &Disk) -> Result<u64> {
    let stat = rustix::fs::statvfs(room.seen(&disk.mounted))?;
    let taken = stat.f_blocks - stat.f_bfree;
    Ok(taken * 100 / (taken + stat.f_bavail))
}
