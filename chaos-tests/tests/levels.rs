//! Nodes are upgraded one after the other to a test build of the next feature level, which supports
//! one level and one command more than the program under test.
#![cfg(feature = "planted")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::load::Acked;
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use chaos_tests::{audit, binary};
use rustix::process::Signal;
use serde_json::Value;
use trow_raft::Digest;

const REPO: &str = "levels/image";
const LIMIT: Duration = Duration::from_secs(30);
/// What a node of the next level says of its own command, by what came of it.
const REFUSED: &str = "a command of the next level is not proposed";
const TAKEN: &str = "a command of the next level is in the log";
/// What a node says that ends because its cluster has left it behind.
const TOO_OLD: &str = "this version of Trow is too old for its cluster";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_rises_with_the_last_member_and_older_builds_refuse_from_then_on() {
    scenario("levels", Duration::from_secs(240), upgraded_one_by_one()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_command_ends_an_old_node_with_a_clear_message() {
    scenario("levels-unknown", Duration::from_secs(180), unknown_command()).await;
}

async fn upgraded_one_by_one() -> Result<()> {
    let (old, next) = (binary::trow(), binary::planted());
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let mut acked = Vec::new();
    push(&cluster, 0, &mut acked).await?;
    level(&cluster, 0, 3, [3, 3, 3]).await?;

    // There and back again, as often as one likes, while one member is old.
    for (index, program, supported) in
        [(0, &next, [4, 3, 3]), (0, &old, [3, 3, 3]), (0, &next, [4, 3, 3]), (1, &next, [4, 4, 3])]
    {
        replace(&mut cluster, index, program).await?;
        level(&cluster, 2, 3, supported).await?;
        push(&cluster, index, &mut acked).await?;
    }
    for index in [0, 1] {
        says(&cluster.nodes[index], REFUSED).await?;
    }
    let nodes = cluster.clients();
    audit::same_state(&cluster.admin, &nodes).await.context("old and new builds apply alike")?;
    let (_, shown, _) = cluster.admin.run(&cluster.nodes[2].client, &["cluster", "status"]).await?;
    ensure!(
        shown.contains("the level stays 3 until a version that supports 4 runs on n3"),
        "status shows {shown}"
    );

    // A member that is down counts too.
    cluster.nodes[2].kill();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        push(&cluster, 0, &mut acked).await?;
        level(&cluster, 1, 3, [4, 4, 3]).await?;
    }

    // The whole log that the old build wrote, from its first entry on.
    std::fs::remove_dir_all(cluster.nodes[2].data_dir.join("raft/state"))?;
    run_by(&mut cluster.nodes[2], &next);
    cluster.start_all().await?;
    level(&cluster, 0, 4, [4, 4, 4]).await?;
    says(&cluster.nodes[2], TAKEN).await?;
    audit::same_state(&cluster.admin, &nodes).await.context("an old log on a new build")?;
    audit::everything(&nodes, &acked).await?;

    // No way back, and no harm done by trying.
    let node = &mut cluster.nodes[2];
    stop(node)?;
    let before = files(&node.data_dir)?;
    run_by(node, &old);
    refuses(node, "the cluster is at feature level 4, and this version of Trow supports 3")?;
    let after = files(&node.data_dir)?;
    let changed: Vec<_> = after.iter().filter(|(path, is)| before.get(*path) != Some(*is)).collect();
    ensure!(before.len() == after.len() && changed.is_empty(), "the old build changed {changed:?}");
    let stranger = cluster.add()?;
    run_by(stranger, &old);
    refuses(stranger, "the cluster does not take this node in: it is at a higher feature level than 3")?;

    run_by(&mut cluster.nodes[2], &next);
    cluster.nodes[2].start()?;
    cluster.healthy(LIMIT).await?;
    level(&cluster, 0, 4, [4, 4, 4]).await.context("the old one that asked to join is no member")?;
    push(&cluster, 2, &mut acked).await?;
    audit::same_state(&cluster.admin, &nodes).await?;
    audit::everything(&nodes, &acked).await?;
    cluster.done();
    Ok(())
}

async fn unknown_command() -> Result<()> {
    let next = binary::planted();
    let mut cluster = Cluster::prepare(Plan::of(3)).await?;
    for node in &mut cluster.nodes[..2] {
        run_by(node, &next);
    }
    cluster.start_all().await?;
    level(&cluster, 0, 3, [4, 4, 3]).await.context("born of nodes of two levels")?;
    let mut acked = Vec::new();
    push(&cluster, 2, &mut acked).await?;

    // Two nodes follow the wrong rule and agree on what the third does not know.
    for index in 0..3 {
        stop(&mut cluster.nodes[index])?;
    }
    for node in &mut cluster.nodes[..2] {
        node.env = vec![("TROW_PLANTED".to_owned(), "h9-above-level".to_owned())];
        node.start()?;
    }
    says(&cluster.nodes[0], TAKEN).await?;
    let leader = cluster.leader(LIMIT).await?;
    // Whatever else happens in the cluster, and at every start again.
    for _ in 0..2 {
        refuses(&mut cluster.nodes[2], TOO_OLD)?;
        push(&cluster, leader, &mut acked).await?;
    }

    run_by(&mut cluster.nodes[2], &next);
    cluster.nodes[2].start()?;
    cluster.healthy(LIMIT).await.context("with the third upgraded")?;
    level(&cluster, 2, 4, [4, 4, 4]).await?;
    let nodes = cluster.clients();
    audit::same_state(&cluster.admin, &nodes).await?;
    audit::everything(&nodes, &acked).await?;
    cluster.done();
    Ok(())
}

fn run_by(node: &mut Node, program: &Path) {
    node.command[0] = program.display().to_string();
}

fn stop(node: &mut Node) -> Result<()> {
    node.signal(Signal::TERM);
    let status = node.wait(Duration::from_secs(30))?;
    ensure!(status.is_some_and(|status| status.success()), "{} ended with {status:?}", node.name);
    Ok(())
}

/// Ends a node as an operator would, and starts another program in its place.
async fn replace(cluster: &mut Cluster, index: usize, program: &Path) -> Result<()> {
    stop(&mut cluster.nodes[index])?;
    run_by(&mut cluster.nodes[index], program);
    cluster.start_all().await
}

/// Starts a node, which ends by itself with exit code 1 and says `why`.
fn refuses(node: &mut Node, why: &str) -> Result<()> {
    let _ = std::fs::remove_file(&node.log);
    node.start()?;
    let status = node.wait(LIMIT)?;
    let said = node.log_tail(40);
    ensure!(
        status.is_some_and(|status| status.code() == Some(1)),
        "{} ended with {status:?}: {said}",
        node.name
    );
    ensure!(said.contains(why), "{} does not say that {why}: {said}", node.name);
    Ok(())
}

async fn push(cluster: &Cluster, through: usize, acked: &mut Vec<Acked>) -> Result<()> {
    let (image, tag) = (Image::random(&[5_000]), format!("v{}", acked.len()));
    let answer = image.push(&cluster.nodes[through].client(), REPO, &tag).await?;
    ensure!(answer.status == 201, "push {tag} through {}: {answer}", cluster.nodes[through].name);
    acked.extend(image.blobs.iter().map(|(digest, _)| Acked::Blob(REPO.to_owned(), *digest)));
    acked.push(Acked::Manifest(REPO.to_owned(), image));
    Ok(())
}

/// Waits until `supported` is what each member supports, and the cluster is at `expected`; a level
/// above that fails at once, since none ever falls.
async fn level(cluster: &Cluster, asked: usize, expected: u64, supported: [u64; 3]) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let status = cluster.admin.status(&cluster.nodes[asked].client()).await?;
        let level = status["level"].as_u64().context("level")?;
        ensure!(level <= expected, "the cluster is at level {level}, expected {expected}: {status}");
        let max = |member: &Value| member["max_level"].as_u64().unwrap_or_default();
        let found: Vec<u64> = status["members"].as_array().context("members")?.iter().map(max).collect();
        if level == expected && found == supported {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "level {level} with {found:?}, expected {expected} with {supported:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the node's log has a line with `text`.
async fn says(node: &Node, text: &str) -> Result<()> {
    let until = Instant::now() + LIMIT;
    while !std::fs::read_to_string(&node.log).unwrap_or_default().contains(text) {
        ensure!(Instant::now() < until, "{} does not say {text:?}: {}", node.name, node.log_tail(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Every file below `dir` with what is in it: but the lock, which names the process, and the
/// databases, which write when they are opened and whose rows are compared by the state hash.
fn files(dir: &Path) -> Result<BTreeMap<PathBuf, Digest>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let skipped = path.extension().is_some_and(|end| end == "redb" || end == "sled");
        if skipped || path.ends_with("LOCK") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.insert(path.clone(), Digest::sha256(&std::fs::read(&path)?));
        }
    }
    Ok(found)
}
