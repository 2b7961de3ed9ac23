//! `trow warm`: what it pulled is here when the registry is not.

use anyhow::{Result, ensure};
use chaos_tests::image::Image;
use chaos_tests::upstream::{Kind, Rule, Twist};
use serde_json::Value;

use super::site::{HERE, REPO, Site, index, pull, through_three_nodes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warmed_images_are_here_without_the_registry() {
    through_three_nodes("warm", "", run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let (plain, ours, others) =
        (Image::random(&[2 << 20, 10_000]), Image::random(&[40_000]), Image::random(&[50_000]));
    let broken = Image::random(&[30_000]);
    site.upstream.add(REPO, "v1", &plain);
    site.upstream.add("library/broken", "v1", &broken);
    for (tag, image) in [("ours", &ours), ("others", &others)] {
        site.upstream.add("library/multi", tag, image);
    }
    let multi = index(&[(&ours, "s390x"), (&others, "riscv64")]);
    let multi = site.upstream.add_manifest("library/multi", Some("v1"), multi);
    site.upstream.rule(Rule::new(Twist::Wrong(0)).kind(Kind::Blob).path("library/broken"));
    let warm = async |site: &Site, words: &[&str]| {
        let node = &site.cluster.nodes[2].client;
        let words = [&["warm", "--output", "json"][..], words].concat();
        let (code, out, err) = site.cluster.admin.run(node, &words).await?;
        anyhow::Ok((code, serde_json::from_str::<Value>(&out).unwrap_or_default(), err))
    };
    let (code, said, err) = warm(
        site,
        &["--platform", "linux/s390x", "app:v1", "multi:v1", "broken:v1", "docker.io/library/none:v1"],
    )
    .await?;
    ensure!(code == 1, "two of four cannot be had: {said} {err}");
    ensure!(
        err.contains("2 of 4 images failed: docker.io/library/broken:v1, docker.io/library/none:v1"),
        "{err}"
    );
    let row = |name: &str| {
        said["images"]
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["image"] == format!("docker.io/library/{name}:v1")))
            .cloned()
            .unwrap_or_default()
    };
    ensure!(row("app")["digest"] == plain.digest.to_string() && row("app")["blobs"] == 3, "{said}");
    ensure!(row("multi")["digest"] == multi.to_string() && row("multi")["error"].is_null(), "{said}");
    ensure!(row("broken")["error"].is_string() && row("none")["error"].is_string(), "{said}");
    site.fetched_once(REPO, &plain)?;
    site.fetched_once("library/multi", &ours)?;
    let others_seen = site.fetched("library/multi", &others).iter().map(|(_, times)| times).sum::<usize>();
    ensure!(others_seen == 0, "a platform that was not asked for was fetched:\n{}", site.asked());

    let (code, said, err) = warm(site, &["--all-platforms", "multi:v1"]).await?;
    ensure!(code == 0, "{said} {err}");
    site.fetched_once("library/multi", &others)?;
    let (code, _, err) = warm(site, &["--platform", "linux/mips", "multi:v1"]).await?;
    ensure!(code == 1, "{err}");
    let (code, _, err) = warm(site, &["UPPER"]).await?;
    ensure!(code == 2, "{err}");

    site.upstream.down().await;
    for client in site.clients() {
        pull(&client, HERE, "v1", &plain).await?;
        for image in [&ours, &others] {
            for (digest, _) in &image.blobs {
                let pulled = client.pull_blob("f/docker.io/library/multi", digest).await?;
                ensure!(pulled.digest == *digest, "{pulled:?}");
            }
        }
    }
    Ok(())
}
