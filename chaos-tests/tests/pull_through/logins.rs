//! Where a registry's credentials come from, and a token service that fails for a while.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use chaos_tests::client::{Answer, Client};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::report::scenario;
use chaos_tests::upstream::{Guard, Kind, Rule, Twist, Upstream};
use reqwest::Method;

use super::private::WONDERLAND;
use super::site::{KEEPS, LIMIT, REPO, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_helper_is_asked_and_a_token_service_may_fail_for_a_while() {
    scenario("credential helpers and tokens", LIMIT * 3, run()).await;
}

/// Puts a program into `dir` that knows robot's password for `server`, and writes down what it is asked.
fn helper(dir: &Path, server: &str) -> Result<()> {
    let script = format!(
        "#!/bin/sh\nread -r server\necho \"$1 $server\" >> {book:?}\n\
         if [ \"$server\" = {server:?} ]; then\n\
         echo '{{\"ServerURL\":\"{server}\",\"Username\":\"robot\",\"Secret\":\"secret\"}}'\n\
         else echo 'credentials not found in native keychain'; exit 1; fi\n",
        book = dir.join("asked"),
    );
    let program = dir.join("docker-credential-test");
    std::fs::write(&program, script)?;
    Ok(std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))?)
}

/// Asks as a user who is known.
async fn ask(client: &Client, method: Method, path: &str) -> Result<Answer> {
    let request = client.request(method, path).header("accept", MANIFEST);
    Ok(client.send("as alice", request.basic_auth("alice", Some("wonderland"))).await?)
}

async fn run() -> Result<()> {
    let (cloud, open) = (Upstream::start().await?, Upstream::start().await?);
    let (image, later) = (Image::random(&[200_000]), Image::random(&[1000]));
    for (tag, image) in [("v1", &image), ("v2", &later)] {
        cloud.add(REPO, tag, image);
        open.add(REPO, tag, image);
    }
    let realm = |upstream: &Upstream| format!("http://{}{}", upstream.address, Guard::REALM);
    let robot = ("robot".to_owned(), "secret".to_owned());
    cloud.guard(Some(Guard::Bearer { realm: realm(&cloud), user: Some(robot) }));
    open.guard(Some(Guard::Bearer { realm: realm(&open), user: None }));
    let dir = tempfile::tempdir()?;
    helper(dir.path(), "cloud.example")?;
    let (logins, users) = (dir.path().join("logins.json"), dir.path().join("users"));
    std::fs::write(&logins, r#"{"credHelpers": {"cloud.example": "test", "open.example": "test"}}"#)?;
    std::fs::write(&users, format!("{WONDERLAND}\n"))?;
    let config = format!(
        "{KEEPS}upstream.freshness = \"1s\"\nupstream.auth_file = {logins:?}\nauth.htpasswd = {users:?}\n{}{}public = true\n",
        cloud.settings("cloud.example"),
        open.settings("open.example")
    );
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH")?);
    let mut cluster = Cluster::start(Plan::of(3).config(&config).env("PATH", &path)).await?;
    let clients = cluster.clients();

    // What the program knows is used, and counts as credentials: no stranger has what they bought.
    let tagged = format!("/v2/f/cloud.example/{REPO}/manifests/v1");
    for client in &clients {
        let answer = ask(client, Method::GET, &tagged).await?;
        ensure!(answer.status == 200 && answer.body == image.manifest, "with a helper: {answer}");
        for (digest, content) in &image.blobs {
            let answer =
                ask(client, Method::GET, &format!("/v2/f/cloud.example/{REPO}/blobs/{digest}")).await?;
            ensure!(answer.status == 200 && answer.body == content.bytes(), "{digest}: {}", answer.status);
        }
        let answer = client.send("as nobody", client.request(Method::GET, &tagged)).await?;
        ensure!(answer.status == 401, "as nobody: {answer}");
    }
    // One that it does not know needs none; that there is a helper for it makes it no more private than is set.
    let open_path = |tag: &str| format!("/v2/f/open.example/{REPO}/manifests/{tag}");
    let answer = clients[0].send("as nobody", clients[0].request(Method::GET, &open_path("v1"))).await?;
    ensure!(answer.status == 200, "of a registry that the helper does not know: {answer}");
    let asked = std::fs::read_to_string(dir.path().join("asked"))?;
    let times = |line: &str| asked.lines().filter(|asked| *asked == line).count();
    let (known, unknown) = (times("get cloud.example"), times("get open.example"));
    ensure!((1..=3).contains(&known) && (1..=3).contains(&unknown), "once by a node at most:\n{asked}");
    ensure!(asked.lines().count() == known + unknown, "{asked}");

    failing(&open, &clients, &open_path("v1"), &open_path("v2"), &image, &later).await?;
    cluster.done();
    Ok(())
}

/// While tokens are refused, what is cached is given and says so, and what is not is to be asked for later.
async fn failing(
    open: &Upstream,
    clients: &[Client],
    cached: &str,
    cold: &str,
    image: &Image,
    later: &Image,
) -> Result<()> {
    // As a service that is being restarted: no token is good any more, and there are no new ones.
    let realm = format!("http://{}{}", open.address, Guard::REALM);
    open.guard(Some(Guard::Bearer {
        realm: realm.clone(),
        user: Some(("nobody".to_owned(), "x".to_owned())),
    }));
    open.rule(Rule::new(Twist::Answer(401)).kind(Kind::Token));
    for client in clients {
        until("the tag is older than is believed", async || {
            let answer = client.send("GET", client.request(Method::GET, cached)).await?;
            ensure!(answer.status == 200 && answer.body == image.manifest, "{answer}");
            Ok(answer.stale())
        })
        .await?;
        let answer = client.send("GET", client.request(Method::GET, cold)).await?;
        let retry = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        ensure!(answer.status == 503 && retry.is_some_and(|seconds| seconds > 0), "a miss: {answer}");
    }
    ensure!(open.count("GET", Kind::Token) > 0, "{:?}", open.seen());
    open.behave();
    open.guard(Some(Guard::Bearer { realm, user: None }));
    for client in clients {
        until("it works again", async || {
            let answer = client.send("GET", client.request(Method::GET, cold)).await?;
            ensure!(answer.status == 503 || answer.body == later.manifest, "{answer}");
            Ok(answer.status == 200)
        })
        .await?;
        until("nothing is stale any more", async || {
            Ok(!client.send("GET", client.request(Method::GET, cached)).await?.stale())
        })
        .await?;
    }
    Ok(())
}
