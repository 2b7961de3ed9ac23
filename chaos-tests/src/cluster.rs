//! A cluster of real processes, made by `trow serve` or by `trow dev`.
//!
//! Everything lies in one temporary directory; unless [`Cluster::done`] was reached it is kept and
//! named, so that the nodes' logs can be read.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::admin::Admin;
use crate::binary;
use crate::client::Client;
use crate::ports::Ports;
use crate::process::Node;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// The program.
    pub program: PathBuf,
    /// Settings of every node, as TOML.
    pub config: String,
    /// Added to every node's environment.
    pub env: Vec<(String, String)>,
}

impl Plan {
    /// `nodes` nodes with the default settings.
    pub fn of(nodes: usize) -> Self {
        Plan { nodes, program: binary::trow(), config: String::new(), env: Vec::new() }
    }

    /// With these settings.
    pub fn config(mut self, toml: &str) -> Self {
        self.config = toml.to_owned();
        self
    }

    /// With another program, such as [`binary::planted`].
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// With a variable in every node's environment.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, `n1` first. Before the rest, so that they are dead when their files go.
    pub nodes: Vec<Node>,
    /// Its administrator.
    pub admin: Admin,
    dev: Option<Child>,
    plan: Plan,
    ports: Ports,
    root: Option<TempDir>,
    done: bool,
}

impl Cluster {
    /// Makes a cluster directory and as many nodes as the plan says, none of them running.
    pub async fn prepare(plan: Plan) -> Result<Self> {
        let (root, ports) = (tempdir()?, Ports::take());
        let cluster_dir = root.path().join("cluster");
        let output = Command::new(&plan.program)
            .args(["cluster", "init", "--out"])
            .arg(&cluster_dir)
            .output()
            .await
            .context("run trow cluster init")?;
        if !output.status.success() {
            bail!("trow cluster init fails: {}", String::from_utf8_lossy(&output.stderr));
        }
        let admin = Admin { program: plan.program.clone(), token_file: cluster_dir.join("admin.token") };
        let mut cluster =
            Cluster { nodes: Vec::new(), admin, dev: None, plan, ports, root: Some(root), done: false };
        let founders = cluster.plan.nodes;
        for index in 0..founders {
            let node = cluster.node(index, Some(founders))?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    /// The same, started and healthy.
    pub async fn start(plan: Plan) -> Result<Self> {
        let mut cluster = Cluster::prepare(plan).await?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// Starts every node that does not run, and waits until the cluster is healthy.
    pub async fn start_all(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.start()?;
            }
        }
        self.healthy(Duration::from_secs(120)).await
    }

    /// A cluster run by `trow dev`; its nodes can be killed and started again one by one.
    pub async fn dev(plan: Plan) -> Result<Self> {
        let (root, ports) = (tempdir()?, Ports::take());
        let data_dir = root.path().join("dev");
        let config = root.path().join("trow.toml");
        std::fs::write(&config, &plan.config)?;
        let log = std::fs::File::create(root.path().join("dev.log"))?;
        let mut dev = Command::new(&plan.program)
            .args(["dev", "--output", "json", "--nodes", &plan.nodes.to_string()])
            .args(["--base-port", &ports.base().to_string(), "--data-dir"])
            .arg(&data_dir)
            .arg("--config")
            .arg(&config)
            .envs(plan.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start trow dev")?;
        let mut lines = BufReader::new(dev.stdout.take().context("dev's output")?).lines();
        let line = tokio::time::timeout(Duration::from_secs(150), lines.next_line()).await;
        let line = line.context("trow dev is not ready after 150 s")??.context("trow dev ended")?;
        // Whoever started dev must go on reading, or dev would block on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let table: Value = serde_json::from_str(&line).context("dev prints one line of JSON")?;
        let admin = Admin { program: plan.program.clone(), token_file: data_dir.join("cluster/admin.token") };
        let mut nodes = Vec::new();
        for row in table["nodes"].as_array().context("dev lists its nodes")? {
            nodes.push(adopted(row, root.path())?);
        }
        let cluster = Cluster { nodes, admin, dev: Some(dev), plan, ports, root: Some(root), done: false };
        cluster.wait("healthy", Duration::from_secs(120)).await?;
        Ok(cluster)
    }

    /// Adds a node that joins the cluster; it does not run yet.
    pub fn add(&mut self) -> Result<&mut Node> {
        let index = self.nodes.len();
        let node = self.node(index, None)?;
        self.nodes.push(node);
        self.nodes.last_mut().context("a node")
    }

    fn node(&self, index: usize, founders: Option<usize>) -> Result<Node> {
        let name = format!("n{}", index + 1);
        let [client, peer, ops] =
            [0, 1, 2].map(|offset| format!("127.0.0.1:{}", self.ports.of(index, offset)));
        let data_dir = self.root().join(&name);
        let config = self.root().join("trow.toml");
        std::fs::write(&config, &self.plan.config)?;
        let text = |path: &Path| path.display().to_string();
        let mut command = vec![text(&self.plan.program), "serve".to_owned()];
        for (flag, value) in [
            ("--config", text(&config)),
            ("--data-dir", text(&data_dir)),
            ("--name", name.clone()),
            ("--listen", client.clone()),
            ("--peer-listen", peer.clone()),
            ("--ops-listen", ops.clone()),
            ("--cluster-dir", text(&self.root().join("cluster"))),
        ] {
            command.extend([flag.to_owned(), value]);
        }
        for other in 0..founders.unwrap_or(index) {
            command.extend(["--join".to_owned(), format!("127.0.0.1:{}", self.ports.of(other, 1))]);
        }
        if let Some(founders) = founders {
            command.extend(["--bootstrap-expect".to_owned(), founders.to_string()]);
        }
        let log = self.root().join(format!("{name}.log"));
        let mut node = Node::new(&name, [client, peer, ops], data_dir, command, log);
        node.env = self.plan.env.clone();
        Ok(node)
    }

    /// Where everything lies.
    pub fn root(&self) -> &Path {
        self.root.as_ref().expect("kept until the cluster is dropped").path()
    }

    /// A client of each node that runs.
    pub fn clients(&mut self) -> Vec<Client> {
        self.nodes.iter_mut().filter_map(|node| node.is_running().then(|| node.client())).collect()
    }

    /// Waits until every running node is ready and the cluster is healthy.
    pub async fn healthy(&mut self, limit: Duration) -> Result<()> {
        let running = self.nodes.iter_mut().filter(|node| node.pid().is_some());
        try_join_all(running.map(|node| node.ready(limit))).await?;
        self.wait("healthy", limit).await
    }

    /// Waits until the cluster is settled.
    pub async fn settled(&self, limit: Duration) -> Result<()> {
        self.wait("settled", limit).await
    }

    async fn wait(&self, state: &str, limit: Duration) -> Result<()> {
        let asked = self.nodes.iter().find(|node| node.pid().is_some()).context("no node runs")?;
        self.admin.wait(&asked.client, state, limit).await
    }

    /// The index of the node that leads, as a majority of the running nodes sees it.
    pub async fn leader(&mut self, limit: Duration) -> Result<usize> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            for client in self.clients() {
                let client = client.within(Duration::from_secs(2));
                let Ok(status) = self.admin.status(&client).await else { continue };
                let leader = status["leader"].as_str().map(str::to_owned);
                let index = leader.and_then(|name| self.nodes.iter().position(|node| node.name == name));
                if let Some(index) = index.filter(|_| status["quorum"] == true)
                    && self.nodes[index].is_running()
                {
                    return Ok(index);
                }
            }
            if tokio::time::Instant::now() > until {
                bail!("no leader after {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The node called `name`.
    pub fn named(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .with_context(|| format!("no node is called {name}"))
    }

    /// The scenario is over and found nothing; the files may go.
    pub fn done(mut self) {
        self.done = true;
    }

    /// The process of `trow dev`, when the cluster was made by it.
    pub fn dev_process(&mut self) -> Option<&mut Child> {
        self.dev.as_mut()
    }
}

fn tempdir() -> Result<TempDir> {
    tempfile::Builder::new().prefix("trow-chaos-").tempdir().context("make a temporary directory")
}

/// A node that `trow dev` started, from its row.
fn adopted(row: &Value, root: &Path) -> Result<Node> {
    let text = |key: &str| row[key].as_str().map(str::to_owned).with_context(|| format!("dev's {key}"));
    let words = row["serve_command"].as_array().context("dev's serve_command")?;
    let command = words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    let name = text("name")?;
    let addresses = [text("client")?, text("peer")?, text("ops")?];
    let log = root.join(format!("{name}.log"));
    let mut node = Node::new(&name, addresses, text("data_dir")?.into(), command, log);
    node.adopt(row["pid"].as_u64().context("dev's pid")? as u32);
    Ok(node)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(dev) = &mut self.dev {
            let _ = dev.start_kill();
        }
        self.nodes.clear();
        if !self.done
            && let Some(root) = self.root.take()
        {
            let root = root.keep();
            drop_big_blobs(&root);
            eprintln!("logs and data are kept in {}", root.display());
        }
    }
}

/// What is kept of a failed scenario is for reading, so blobs too big to read are not.
fn drop_big_blobs(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let big = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > (16 << 20));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => drop_big_blobs(&entry.path()),
            Ok(_) if big && entry.path().extension().is_none() => drop(std::fs::remove_file(entry.path())),
            _ => (),
        }
    }
}
