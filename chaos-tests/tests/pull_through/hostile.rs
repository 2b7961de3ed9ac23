//! Registries that lie, and redirects that lead where nobody may go.

use std::path::Path;

use anyhow::{Result, ensure};
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use chaos_tests::upstream::{Guard, Kind, Rule, Twist, Upstream};
use trow_raft::Digest;

use super::site::{HERE, KEEPS, LIMIT, REPO, Site, holders, through_three_nodes, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_whose_digest_differs() {
    through_three_nodes("wrong bytes", "", lies).await;
}

async fn lies(site: &mut Site) -> Result<()> {
    let image = Image::random(&[3 << 20, 5000]);
    site.upstream.add(REPO, "v1", &image);
    let clients = site.clients();
    ensure!(clients[0].manifest(HERE, "v1").await?.status == 200, "the manifest");
    site.upstream.rule(Rule::new(Twist::Wrong(1000)).kind(Kind::Blob).method("GET"));
    for (digest, content) in &image.blobs {
        for client in &clients {
            let request = client.request(reqwest::Method::GET, &format!("/v2/{HERE}/blobs/{digest}"));
            match client.send("GET blob", request).await {
                Err(_) => (),
                Ok(answer) if content.len() > 1000 => ensure!(answer.status == 502, "wrong bytes: {answer}"),
                Ok(answer) => ensure!(answer.body == content.bytes(), "{} bytes: {answer}", content.len()),
            }
        }
        let kept = holders(&site.cluster.nodes, digest);
        ensure!(kept.is_empty() || content.len() <= 1000, "{kept:?} kept {digest}");
    }
    until("nothing is left of what was wrong", async || {
        let staged = site.cluster.nodes.iter().map(|node| node.staged().len()).sum::<usize>();
        Ok(staged == 0)
    })
    .await?;
    for node in &site.cluster.nodes {
        every_file_is_what_it_is_called(node)?;
    }
    // A manifest of other bytes than its digest says, and a HEAD that names another digest than the GET gives.
    site.upstream.behave();
    let answer = {
        let right = Image::random(&[2000]);
        site.upstream.add(REPO, "v2", &right);
        site.upstream.rule(Rule::new(Twist::Wrong(20)).kind(Kind::Manifest).method("GET"));
        clients[1].manifest(HERE, &right.digest.to_string()).await?
    };
    ensure!(answer.status == 502, "a manifest of other bytes: {answer}");
    site.upstream.behave();
    let other = Digest::sha256(b"other").to_string();
    site.upstream.rule(Rule::new(Twist::Header("docker-content-digest", other)).kind(Kind::Manifest));
    let answer = clients[2].manifest(HERE, "v2").await?;
    ensure!(answer.status == 502 || answer.status == 404, "another digest than was named: {answer}");

    // Once it is honest everything comes.
    site.upstream.behave();
    // A registry that lied is left alone for a moment.
    until("the image is pulled", async || {
        for client in &clients {
            if super::site::pull(client, HERE, "v1", &image).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// Reads every blob on a node's disk.
fn every_file_is_what_it_is_called(node: &Node) -> Result<()> {
    for hex in node.held() {
        let file = node.data_dir.join("blobs/sha256").join(&hex[..2]).join(&hex);
        let (digest, _) = chaos_tests::layout::hash(&file)?;
        ensure!(digest.hex() == hex, "{} keeps other bytes in {}", node.name, Path::new(&file).display());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_refused_at_each_step_and_credentials_stay_with_their_host() {
    scenario("where upstreams lead", LIMIT * 3, leads()).await;
}

async fn leads() -> Result<()> {
    let (hub, inner, stranger) =
        (Upstream::start().await?, Upstream::start().await?, Upstream::start().await?);
    let image = Image::random(&[200_000]);
    for upstream in [&hub, &inner, &stranger] {
        upstream.add(REPO, "v1", &image);
    }
    // A private address that nobody allowed.
    let refused = inner.settings("inner.example").replace("allow_private = true", "allow_private = false");
    let dir = tempfile::tempdir()?;
    let auth = dir.path().join("auth.json");
    let pair = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "alice:wonderland");
    std::fs::write(&auth, serde_json::json!({"auths": {"docker.io": {"auth": pair}}}).to_string())?;
    let config =
        format!("{refused}{}auth_file = {:?}\n", hub.settings("docker.io"), auth.display().to_string());
    let users = dir.path().join("users");
    std::fs::write(&users, format!("{}\n", super::private::WONDERLAND))?;
    let config = format!("{config}[auth]\nhtpasswd = {:?}\n", users.display().to_string());
    let mut cluster = Cluster::start(Plan::of(1).config(&format!("{KEEPS}{config}"))).await?;
    let client = &cluster.clients()[0];

    let answer = ask(client, "f/inner.example/library/app", "manifests/v1").await?;
    ensure!((400..=503).contains(&answer.0), "a private address: {}", answer.0);
    ensure!(inner.seen().is_empty(), "it was asked all the same: {:?}", inner.seen());

    // Blobs are redirected, as Docker Hub's are, to a host that must not see the credentials.
    hub.guard(Some(Guard::Basic { user: "alice".to_owned(), password: "wonderland".to_owned() }));
    let to = stranger.address.replace("127.0.0.1", "localhost");
    hub.rule(Rule::new(Twist::Redirect(format!("http://{to}{{path}}"))).kind(Kind::Blob));
    let (status, body) = ask(client, HERE, "manifests/v1").await?;
    ensure!(status == 200 && body == image.manifest, "the manifest: {status}");
    let (status, body) = ask(client, HERE, &format!("blobs/{}", image.blobs[1].0)).await?;
    ensure!(status == 200 && Digest::sha256(&body) == image.blobs[1].0, "a redirected blob: {status}");
    let there = stranger.seen();
    ensure!(!there.is_empty() && there.iter().all(|seen| seen.authorization.is_none()), "{there:?}");

    // A realm that lies elsewhere gets no password.
    let content = Content::random(10_000);
    let digest = hub.add_blob(REPO, content);
    hub.behave();
    let realm = format!("http://{to}{}", Guard::REALM);
    hub.guard(Some(Guard::Bearer { realm, user: Some(("alice".to_owned(), "wonderland".to_owned())) }));
    stranger.forget();
    let (status, _) = ask(client, HERE, &format!("blobs/{digest}")).await?;
    ensure!(status >= 400, "a realm elsewhere: {status}");
    let leaked = stranger.seen().iter().any(|seen| seen.authorization.is_some());
    ensure!(!leaked, "the password went elsewhere: {:?}", stranger.seen());
    cluster.done();
    Ok(())
}

/// Asks as a user who is known.
async fn ask(client: &Client, repo: &str, what: &str) -> Result<(u16, bytes::Bytes)> {
    let request = client.request(reqwest::Method::GET, &format!("/v2/{repo}/{what}"));
    let request = request.header("accept", MANIFEST).basic_auth("alice", Some("wonderland"));
    let answer = client.send("GET", request).await?;
    Ok((answer.status, answer.body))
}
