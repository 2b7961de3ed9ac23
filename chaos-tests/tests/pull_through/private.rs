//! Images that are fetched with credentials are for users who are known.

use std::path::Path;

use anyhow::{Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::report::scenario;
use chaos_tests::upstream::{Guard, Upstream};
use reqwest::Method;
use trow_raft::Digest;

use super::site::{KEEPS, LIMIT, REPO, until};

/// alice with the password wonderland, made by Apache's `htpasswd -nbB -C 4`.
pub const WONDERLAND: &str = "alice:$2y$04$VvDsMnW0.oBqz.3G9rj.cuKX4PVTlKJJUH3EaYgHislgv61kOEmU.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_with_credentials_is_for_known_users_only() {
    scenario("private images", LIMIT * 3, run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_lists_what_another_keeps_for_users_gets_nothing_of_it() {
    scenario("private images under another registry's name", LIMIT * 3, attack()).await;
}

async fn run() -> Result<()> {
    let (hub, open) = (Upstream::start().await?, Upstream::start().await?);
    let image = Image::random(&[200_000, 3000]);
    hub.add(REPO, "v1", &image);
    open.add(REPO, "v1", &image);
    let realm = format!("http://{}{}", hub.address, Guard::REALM);
    hub.guard(Some(Guard::Bearer { realm, user: Some(("robot".to_owned(), "secret".to_owned())) }));
    let dir = tempfile::tempdir()?;
    let config = with_a_login(dir.path(), &open, &hub)?;
    let mut cluster = Cluster::start(Plan::of(3).config(&format!("{KEEPS}{config}"))).await?;
    let clients = cluster.clients();
    let paths = |host: &str| {
        let blobs = image.blobs.iter().map(|(digest, _)| format!("blobs/{digest}"));
        let manifests =
            ["manifests/v1".to_owned(), format!("manifests/{}", image.digest), "tags/list".to_owned()];
        let all = manifests.into_iter().chain(blobs);
        all.map(|path| format!("/v2/f/{host}/{REPO}/{path}")).collect::<Vec<_>>()
    };
    // Before it is cached, while a user pulls it, and when it is.
    for turn in 0..2 {
        for (client, path) in clients.iter().cycle().zip(paths("docker.io")) {
            for method in [Method::GET, Method::HEAD] {
                let answer = client.send("as nobody", client.request(method.clone(), &path)).await?;
                let challenge = answer.header("www-authenticate").is_some();
                ensure!(answer.status == 401 && challenge, "{turn} {method} {path} as nobody: {answer}");
                let request = client.request(method.clone(), &path).basic_auth("alice", Some("wrong"));
                let answer = client.send("with a wrong password", request).await?;
                ensure!(answer.status == 401, "{method} {path} with a wrong password: {answer}");
                let request = client.request(method.clone(), &path).basic_auth("alice", Some("wonderland"));
                let answer = client.send("as alice", request).await?;
                ensure!(answer.status == 200, "{turn} {method} {path} as alice: {answer}");
            }
        }
    }
    // The same bytes by the name of a registry that gives them to everybody.
    for (client, path) in clients.iter().cycle().zip(paths("open.example")) {
        let answer = client.send("of an open registry", client.request(Method::GET, &path)).await?;
        ensure!(answer.status == 200, "{path}: {answer}");
    }
    // A name of that registry under which it has no such blob gives none, cached or not.
    let layer = image.blobs[1].0;
    let answer = clients[0]
        .send(
            "another name",
            clients[0].request(Method::GET, &format!("/v2/f/open.example/library/other/blobs/{layer}")),
        )
        .await?;
    ensure!(answer.status == 404, "bytes of one name under another: {answer}");
    cluster.done();
    Ok(())
}

/// Settings by which `hub` is docker.io and fetched from with credentials, `open` is open.example, and alice is a
/// user.
fn with_a_login(dir: &Path, open: &Upstream, hub: &Upstream) -> Result<String> {
    let file = |name: &str, text: &str| -> Result<String> {
        let path = dir.join(name);
        std::fs::write(&path, text)?;
        Ok(format!("{:?}", path.display().to_string()))
    };
    let pair = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "robot:secret");
    let auth = serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": pair}}});
    Ok(format!(
        "{}{}auth_file = {}\n[auth]\nhtpasswd = {}\n",
        open.settings("open.example"),
        hub.settings("docker.io"),
        file("auth.json", &auth.to_string())?,
        file("users", &format!("{WONDERLAND}\n"))?,
    ))
}

/// Whoever knows digests and sizes has a registry of their own list them, in the hope that what is cached is given.
async fn attack() -> Result<()> {
    let (hub, mut evil) = (Upstream::start().await?, Upstream::start().await?);
    let (image, nowhere) = (Image::random(&[300_000, 3000]), Image::random(&[300_000, 3000]));
    hub.add(REPO, "v1", &image);
    hub.guard(Some(Guard::Basic { user: "robot".to_owned(), password: "secret".to_owned() }));
    for listed in [&image, &nowhere] {
        evil.add_manifest(REPO, None, listed.manifest.clone());
    }
    let dir = tempfile::tempdir()?;
    let config = with_a_login(dir.path(), &evil, &hub)?;
    let mut cluster = Cluster::start(Plan::of(3).config(&format!("{KEEPS}{config}"))).await?;
    let clients = cluster.clients();
    let alice = |request: reqwest::RequestBuilder| request.basic_auth("alice", Some("wonderland"));
    let manifest = |host: &str, image: &Image| format!("/v2/f/{host}/{REPO}/manifests/{}", image.digest);
    let blob = |host: &str, digest: &Digest| format!("/v2/f/{host}/{REPO}/blobs/{digest}");
    for client in &clients {
        let mut paths = vec![manifest("docker.io", &image)];
        paths.extend(image.blobs.iter().map(|(digest, _)| blob("docker.io", digest)));
        for path in paths {
            let answer = client.send("as alice", alice(client.request(Method::GET, &path))).await?;
            ensure!(answer.status == 200, "{path}: {answer}");
        }
        for listed in [&image, &nowhere] {
            let path = manifest("open.example", listed);
            let answer = client.send("a hostile manifest", client.request(Method::GET, &path)).await?;
            ensure!(answer.status == 200, "{path}: {answer}");
        }
    }
    // While that registry answers, and while it does not: as little as of what is nowhere.
    for is_up in [true, false] {
        if !is_up {
            evil.down().await;
        }
        for client in &clients {
            for ((cached, _), (missing, _)) in image.blobs.iter().zip(&nowhere.blobs) {
                let mut answers = Vec::new();
                for path in [cached, missing].map(|digest| blob("open.example", digest)) {
                    let get = || client.request(Method::GET, &path);
                    let requests = [
                        get(),
                        get().header("range", "bytes=5-90"),
                        alice(get()),
                        client.request(Method::HEAD, &path),
                    ];
                    let mut statuses = Vec::new();
                    for request in requests {
                        statuses.push(client.send("a hostile blob", request).await?.status);
                    }
                    answers.push(statuses);
                }
                ensure!(answers[0] == answers[1], "cached and nowhere (up: {is_up}): {answers:?}");
                ensure!(answers[0][..3].iter().all(|status| [404, 503].contains(status)), "{answers:?}");
                let mount = format!("/v2/mine/blobs/uploads/?mount={cached}&from=f/open.example/{REPO}");
                let answer = client.send("mount", alice(client.request(Method::POST, &mount))).await?;
                ensure!(answer.status == 202, "mounted by the word of a hostile manifest: {answer}");
            }
            let put = client.request(Method::PUT, "/v2/mine/manifests/v1").body(image.manifest.clone());
            let put = put.header("content-type", chaos_tests::image::MANIFEST);
            let answer = client.send("push a manifest that lists them", alice(put)).await?;
            ensure!(answer.status == 404, "{answer}");
        }
    }
    // Once it has them it proves that it has, once for each, and gives them to everybody.
    evil.up().await?;
    evil.forget();
    evil.add(REPO, "v1", &image);
    for (digest, content) in &image.blobs {
        for client in clients.iter().chain(&clients) {
            let path = blob("open.example", digest);
            until("it is asked again after it failed", async || {
                let answer = client.send("proven", client.request(Method::GET, &path)).await?;
                ensure!([200, 404, 503].contains(&answer.status), "{path}: {answer}");
                Ok(answer.status == 200 && answer.body.len() as u64 == content.len())
            })
            .await?;
        }
        let gets = evil
            .seen()
            .iter()
            .filter(|seen| seen.method == "GET" && seen.target.contains(&digest.to_string()))
            .count();
        ensure!(gets == 1, "{digest} was fetched {gets} times");
    }
    // Who may have them may mount them.
    let (digest, _) = image.blobs[0];
    let mount = format!("/v2/mine/blobs/uploads/?mount={digest}&from=f/docker.io/{REPO}");
    let answer = clients[0].send("mount as alice", alice(clients[0].request(Method::POST, &mount))).await?;
    ensure!(answer.status == 201, "{answer}");
    cluster.done();
    Ok(())
}
