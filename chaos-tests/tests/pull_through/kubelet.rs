//! containerd as the kubelet asks it, by the files that `trow node-config` writes: who is asked in which order,
//! what is asked of a mirror, and whom a Pod's pull secret reaches.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaos_tests::binary;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::containerd::Containerd;
use chaos_tests::layout::Layout;
use chaos_tests::report::scenario;
use chaos_tests::require;
use chaos_tests::tool::Tool;
use chaos_tests::upstream::{Guard, Kind, Seen, Upstream};
use trow_raft::Digest;

use super::cri::{Auth, Cri};
use super::site::{KEEPS, LIMIT, REPO, until};

/// Nobody listens there.
const DEAD: &str = "http://127.0.0.1:1";
const PRIVATE: &str = "library/private";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_pulls_for_the_kubelet_from_the_first_that_has_it() {
    if !rustix::process::geteuid().is_root() {
        require::not_run("containerd takes root");
    } else if require::tools(&["containerd", "ctr", "unshare"]) {
        scenario("containerd's CRI through a mirror", LIMIT * 3, run()).await;
    }
}

/// Three nodes, the registry behind them by its own name, and a mirror that has nothing.
struct Scene {
    cluster: Cluster,
    registry: Upstream,
    /// It answers 404, and writes down what it was asked.
    empty: Upstream,
    cri: Cri,
    containerd: Containerd,
}

async fn run() -> Result<()> {
    let (registry, empty) = (Upstream::start().await?, Upstream::start().await?);
    let dir = tempfile::tempdir()?;
    let (logins, users) = (dir.path().join("logins.json"), dir.path().join("users"));
    std::fs::write(&logins, "{}")?;
    std::fs::write(&users, format!("{}\n", super::private::WONDERLAND))?;
    let by_name = registry.address.replace("127.0.0.1", "localhost");
    let config = format!(
        "{KEEPS}upstream.auth_file = {logins:?}\nauth.htpasswd = {users:?}\n{}{}",
        registry.settings(&registry.address),
        registry.settings(&by_name)
    );
    let cluster = Cluster::start(Plan::of(3).config(&config)).await?;
    let hosts = dir.path().join("certs.d");
    let mirrors = [DEAD.to_owned(), format!("http://{}", empty.address)];
    let mirrors: Vec<String> = mirrors
        .into_iter()
        .chain(cluster.nodes[..2].iter().map(|node| format!("http://{}", node.client)))
        .collect();
    let host = registry.address.clone();
    let write = |more: &[&str]| node_config(&hosts, &host, &mirrors, more);
    write(&[])?;
    let containerd = Containerd::for_kubelet(cluster.root(), &hosts)?;
    let address = containerd.socket.display().to_string();
    containerd.ready(&Tool::new("ctr", cluster.root())?.with(&["--address", &address])).await?;
    let cri = Cri::connect(&containerd.socket).await?;
    let mut scene = Scene { cluster, registry, empty, cri, containerd };

    scene.mirrors_are_asked(&by_name).await?;
    scene.secrets(&logins, &dir.path().join("password"), write).await?;
    scene.without_the_registry().await?;
    scene.without_trow().await?;
    scene.cluster.done();
    Ok(())
}

/// Has `trow node-config` write the files for a registry, and for those that are not named.
fn node_config(hosts: &Path, registry: &str, mirrors: &[String], more: &[&str]) -> Result<()> {
    let mut command = Command::new(binary::trow());
    command.args(["node-config", "containerd", "--upstream", &format!("http://{registry}")]);
    command.args(["--upstream", "_default", "--mirror", &mirrors.join(","), "--write"]).arg(hosts).args(more);
    let output = command.output().context("run trow node-config")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Scene {
    fn image(&self, repo: &str) -> String {
        format!("{}/{repo}:v1", self.registry.address)
    }

    /// The registry has a multi-architecture image of this name; the digest of its index.
    fn published(&self, repo: &str) -> Result<Digest> {
        let (layout, index) = Layout::multi(&self.cluster.root().join(repo), repo)?;
        let digest = Digest::sha256(&index);
        self.registry.add_layout(repo, "v1", &layout.dir, &digest)?;
        Ok(digest)
    }

    /// What containerd itself asked of the registry.
    fn direct(&self) -> Vec<Seen> {
        self.registry.seen().into_iter().filter(is_containerd).collect()
    }

    fn asked(&self) -> String {
        let lines = self.registry.seen().into_iter().map(|seen| format!("{seen} by {:?}", seen.agent));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Removes an image, and waits until its bytes are gone too.
    async fn forget(&mut self, image: &str) -> Result<()> {
        self.cri.remove(image).await?;
        until("containerd forgets the bytes", async || Ok(self.containerd.blobs()?.is_empty())).await
    }

    /// The third that is asked has it; nothing else is fetched than what the machine runs.
    async fn mirrors_are_asked(&mut self, by_name: &str) -> Result<()> {
        let index = self.published(REPO)?;
        let image = self.image(REPO);
        ensure!(self.cri.status(&image).await?.is_none(), "{image} is there");
        let id = self.cri.pull(&image, None).await?;
        let found = self.cri.status(&image).await?.context("the image that was pulled")?;
        let by_digest = format!("{}/{REPO}@{index}", self.registry.address);
        ensure!(
            found.id == id && found.tags == [image.clone()] && found.digests == [by_digest.clone()],
            "{found:?}"
        );
        let fetched = (self.registry.count("GET", Kind::Manifest), self.registry.count("GET", Kind::Blob));
        ensure!(fetched == (2, 3) && self.direct().is_empty(), "{fetched:?}\n{}", self.asked());

        // What every mirror is asked: for which registry, and for every type there is.
        let seen = self.empty.seen();
        let host = self.registry.address.replace(':', "%3A");
        let first = seen.first().context("the second mirror was not asked")?;
        ensure!((first.method.as_str(), first.path()) == ("HEAD", "/v2/library/app/manifests/v1"), "{first}");
        for seen in &seen {
            ensure!(seen.target.ends_with(&format!("?ns={host}")) && is_containerd(seen), "{seen:?}");
            ensure!(seen.authorization.is_none(), "{seen:?}");
            let accepts = seen.accept.as_deref().unwrap_or_default();
            ensure!(accepts.contains("*/*") || accepts.contains("index.v1+json"), "{seen:?}");
        }
        eprintln!("a mirror was asked: {first}, {:?}, {:?}", first.agent, first.accept);

        // By the directory for registries that have none of their own.
        self.forget(&image).await?;
        let image = format!("{by_name}/{REPO}:v1");
        self.cri.pull(&image, None).await?;
        ensure!(self.direct().is_empty(), "{}", self.asked());
        self.forget(&image).await?;
        self.cri.pull(&by_digest, None).await?;
        self.forget(&by_digest).await
    }

    /// Of a private image: with a Pod's secret it comes from the registry, with the cluster's credentials through
    /// the mirrors.
    async fn secrets(
        &mut self,
        logins: &Path,
        password: &Path,
        write: impl Fn(&[&str]) -> Result<()>,
    ) -> Result<()> {
        self.published(PRIVATE)?;
        let basic = |user: &str, password: &str| {
            Some(Guard::Basic { user: user.to_owned(), password: password.to_owned() })
        };
        self.registry.guard(basic("robot", "secret"));
        let (image, secret) = (self.image(PRIVATE), Auth::new("robot", "secret"));
        self.registry.forget();
        self.empty.forget();
        ensure!(self.cri.pull(&image, None).await.is_err(), "a private image without a secret");
        self.cri.pull(&image, Some(secret.clone())).await?;
        ensure!(!self.direct().is_empty(), "{}", self.asked());
        let known = |seen: &Seen| seen.authorization.is_some();
        ensure!(
            !self.registry.seen().iter().any(|seen| known(seen) && !is_containerd(seen)),
            "{}",
            self.asked()
        );
        ensure!(
            !self.empty.seen().iter().any(known),
            "a mirror that did not ask was told: {:?}",
            self.empty.seen()
        );
        // A mirror that asks is told.
        self.forget(&image).await?;
        self.empty.guard(basic("alice", "wonderland"));
        self.cri.pull(&image, Some(secret.clone())).await?;
        ensure!(
            self.empty.seen().iter().any(known),
            "containerd tells a mirror nothing: {:?}",
            self.empty.seen()
        );
        self.forget(&image).await?;

        // The cluster gets credentials while it runs. Nobody without a name has the image of it.
        let login = serde_json::json!({"auths": {&self.registry.address: {"username": "robot", "password": "secret"}}});
        std::fs::write(logins, login.to_string())?;
        let nodes: Vec<_> = self.cluster.clients();
        for node in &nodes {
            let path = format!("/v2/{PRIVATE}/manifests/v1?ns={}", self.registry.address);
            until("the credentials are read", async || {
                let request =
                    node.request(reqwest::Method::HEAD, &path).basic_auth("alice", Some("wonderland"));
                Ok(node.send("HEAD", request).await?.status == 200)
            })
            .await?;
        }
        ensure!(self.cri.pull(&image, None).await.is_err(), "a private image for nobody");
        self.registry.forget();
        self.cri.pull(&image, Some(secret)).await?;
        ensure!(!self.direct().is_empty(), "the nodes do not know robot:\n{}", self.asked());
        self.forget(&image).await?;
        std::fs::write(password, "wonderland\n")?;
        write(&["--user", "alice", "--password-file", &password.display().to_string()])?;
        self.registry.forget();
        self.cri.pull(&image, None).await?;
        ensure!(self.direct().is_empty(), "{}", self.asked());
        self.forget(&image).await
    }

    /// The registry is gone, then a node too.
    async fn without_the_registry(&mut self) -> Result<()> {
        self.registry.down().await;
        for repo in [REPO, PRIVATE] {
            let image = self.image(repo);
            self.cri.pull(&image, None).await?;
            self.forget(&image).await?;
        }
        self.cluster.nodes[0].kill();
        let image = self.image(REPO);
        self.cri.pull(&image, None).await?;
        self.forget(&image).await
    }

    /// No mirror is left: the registry itself is asked; and when it is gone the first mirror is blamed.
    async fn without_trow(&mut self) -> Result<()> {
        for node in &mut self.cluster.nodes {
            node.kill();
        }
        self.registry.guard(None);
        self.registry.up().await?;
        self.registry.forget();
        let image = self.image(REPO);
        self.cri.pull(&image, None).await?;
        ensure!(self.direct().len() == self.registry.seen().len(), "{}", self.asked());
        self.forget(&image).await?;
        self.registry.down().await;
        let refused = self.cri.pull(&image, None).await.err().context("an image that nobody has")?;
        eprintln!("with nobody there containerd says: {}", refused.message());
        ensure!(refused.message().contains(DEAD.trim_start_matches("http://")), "{refused}");
        Ok(())
    }
}

fn is_containerd(seen: &Seen) -> bool {
    seen.agent.as_deref().is_some_and(|agent| agent.starts_with("containerd/"))
}
