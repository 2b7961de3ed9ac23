//! One repository by all its names; nobody writes there; what is mounted from there is kept.

use anyhow::{Context, Result, ensure};
use chaos_tests::content::Content;
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::upstream::Kind;
use reqwest::Method;

use super::site::{HERE, REPO, Site, pull, through_three_nodes};

const CONFIG: &str = "[prefixes]\nhub = \"docker.io\"\n[server]\nhostnames = [\"registry.example\"]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_repository_has_the_same_content_by_every_name() {
    through_three_nodes("names", CONFIG, run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let image = Image::random(&[100_000, 50_000]);
    site.upstream.add(REPO, "v1", &image);
    let clients = site.clients();
    for (turn, path) in [
        "/v2/app/manifests/v1?ns=docker.io",
        "/v2/library/app/manifests/v1?ns=docker.io",
        "/v2/f/docker.io/app/manifests/v1",
        "/v2/f/docker.io/library/app/manifests/v1",
        "/v2/hub/app/manifests/v1",
        "/v2/hub/library/app/manifests/v1",
    ]
    .iter()
    .enumerate()
    {
        let client = &clients[turn % 3];
        let blob = path.replace("manifests/v1", &format!("blobs/{}", image.blobs[1].0));
        let tags = path.replace("manifests/v1", "tags/list");
        for (path, bytes) in [(*path, &image.manifest), (&blob, &image.blobs[1].1.bytes())] {
            let answer =
                client.send("GET", client.request(Method::GET, path).header("accept", MANIFEST)).await?;
            ensure!(answer.status == 200 && answer.body == *bytes, "{path}: {answer}");
            ensure!(answer.header("oci-namespace") == Some("docker.io"), "{path}: {:?}", answer.headers);
        }
        let answer = client.send("GET tags", client.request(Method::GET, &tags)).await?;
        let list: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(list["tags"] == serde_json::json!(["v1"]), "{tags}: {answer}");
    }
    let gets = (site.upstream.count("GET", Kind::Manifest), site.upstream.count("GET", Kind::Blob));
    ensure!(gets == (1, 1), "{gets:?}:\n{}", site.asked());

    refused(site, &image).await?;
    mounted(site, &image).await
}

/// Nothing is pushed to what is another's; what is ours is not looked for there.
async fn refused(site: &mut Site, image: &Image) -> Result<()> {
    let client = &site.clients()[0];
    let put = |path: &str| {
        let request = client.request(Method::PUT, path).header("content-type", MANIFEST);
        client.send("PUT", request.body(image.manifest.clone()))
    };
    for path in [
        format!("/v2/{HERE}/manifests/v2"),
        "/v2/f/other.example/a/manifests/v1".to_owned(),
        "/v2/hub/app/manifests/v1".to_owned(),
        "/v2/library/app/manifests/v1?ns=docker.io".to_owned(),
    ] {
        let answer = put(&path).await?;
        ensure!(
            answer.status == 405 && answer.code().as_deref() == Some("UNSUPPORTED"),
            "PUT {path}: {answer}"
        );
    }
    let answer = client.start_upload("hub/app").await?;
    ensure!(answer.status == 405, "an upload to a prefix: {answer}");
    // A repository of our own, by a name of our own.
    site.upstream.forget();
    let own = Image::random(&[1000]);
    ensure!(own.push(client, "library/app", "own").await?.status == 201, "a push of our own");
    let path = "/v2/library/app/manifests/own?ns=registry.example";
    let answer = client.send("GET", client.request(Method::GET, path)).await?;
    ensure!(answer.status == 200 && answer.body == own.manifest, "{path}: {answer}");
    let strange =
        client.send("GET", client.request(Method::GET, "/v2/app/manifests/v1?ns=http://x/")).await?;
    ensure!(strange.status == 400 || strange.status == 404, "a namespace that is no host: {strange}");
    ensure!(site.upstream.seen().is_empty(), "{}", site.asked());
    Ok(())
}

/// A blob that is only cached becomes durable when it is mounted into a repository of ours.
async fn mounted(site: &mut Site, image: &Image) -> Result<()> {
    let clients = site.clients();
    pull(&clients[0], HERE, "v1", image).await?;
    let locate = async |digest: &str| {
        let (code, out, err) = site
            .cluster
            .admin
            .run(&site.cluster.nodes[2].client, &["blob", "locate", digest, "--output", "json"])
            .await?;
        anyhow::Ok((code, serde_json::from_str::<serde_json::Value>(&out).unwrap_or_default(), err))
    };
    let layer = image.blobs[1].0.to_string();
    let (_, before, _) = locate(&layer).await?;
    ensure!(before["durable"] != true, "it is only cached: {before}");
    let fetched = site.upstream.count("GET", Kind::Blob);
    for (digest, content) in &image.blobs {
        let path = format!("/v2/our/app/blobs/uploads/?mount={digest}&from={HERE}");
        let request = clients[1].request(Method::POST, &path).header("content-length", "0");
        let answer = clients[1].send("mount", request).await?;
        ensure!(answer.status == 201, "mounting {digest}: {answer}");
        let head = clients[2].head_blob("our/app", digest).await?;
        ensure!(head.header("content-length") == Some(&content.len().to_string()), "{head}");
    }
    let put = clients[1].put_manifest("our/app", "v1", MANIFEST, image.manifest.clone()).await?;
    ensure!(put.status == 201, "the manifest: {put}");
    site.cluster.settled(super::site::LIMIT).await?;
    for (digest, _) in &image.blobs {
        let (code, after, err) = locate(&digest.to_string()).await?;
        let holders = after["holders"].as_array().context("holders")?.len();
        ensure!(code == 0 && after["durable"] == true && holders == 3, "{after} {err}");
    }
    // One that is not cached must be sent.
    let other = site.upstream.add_blob(REPO, Content::random(1000));
    let path = format!("/v2/our/app/blobs/uploads/?mount={other}&from={HERE}");
    let request = clients[1].request(Method::POST, &path).header("content-length", "0");
    let answer = clients[1].send("mount", request).await?;
    ensure!(answer.status == 202, "mounting what is not here: {answer}");
    ensure!(site.upstream.count("GET", Kind::Blob) == fetched, "a mount fetched something");
    Ok(())
}
