//! Images that are fetched with credentials are for users who are known.

use anyhow::{Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::report::scenario;
use chaos_tests::upstream::{Guard, Upstream};
use reqwest::Method;

use super::site::{KEEPS, LIMIT, REPO};

/// alice with the password wonderland, made by Apache's `htpasswd -nbB -C 4`.
pub const WONDERLAND: &str = "alice:$2y$04$VvDsMnW0.oBqz.3G9rj.cuKX4PVTlKJJUH3EaYgHislgv61kOEmU.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_with_credentials_is_for_known_users_only() {
    scenario("private images", LIMIT * 3, run()).await;
}

async fn run() -> Result<()> {
    let (hub, open) = (Upstream::start().await?, Upstream::start().await?);
    let image = Image::random(&[200_000, 3000]);
    hub.add(REPO, "v1", &image);
    open.add(REPO, "v1", &image);
    let realm = format!("http://{}{}", hub.address, Guard::REALM);
    hub.guard(Some(Guard::Bearer { realm, user: Some(("robot".to_owned(), "secret".to_owned())) }));
    let dir = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = dir.path().join(name);
        std::fs::write(&path, text)?;
        Ok(format!("{:?}", path.display().to_string()))
    };
    let pair = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "robot:secret");
    let auth = serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": pair}}});
    let config = format!(
        "{}{}auth_file = {}\n[auth]\nhtpasswd = {}\n",
        open.settings("open.example"),
        hub.settings("docker.io"),
        file("auth.json", &auth.to_string())?,
        file("users", &format!("{WONDERLAND}\n"))?,
    );
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
