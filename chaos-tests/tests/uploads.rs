//! An upload survives the loss of any node at any moment: its home, its mirror, and the leader while it is
//! neither, each killed after the POST, in mid-PATCH, before the acknowledgement of a PATCH, and in the last
//! PUT before it is held, before it is committed, and after the commit before the reply.
//!
//! Four uploads meet each kill: a blob in chunks of a byte, others in chunks of 64 KiB, 5 MiB and 16 MiB; in a
//! full run (`TROW_UPLOAD_MIB=64`) the last are 64 MiB of a blob of 256 MiB, and the first has 4 KiB. Half of
//! them are under way through the node that is killed, half through one that is not, which must see the
//! request through. The moments at which only a planted program can be held run with the feature `planted`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::{Answer, Client, Unknown};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::report::scenario;
use chaos_tests::upload::{Gate, Upload};
use chaos_tests::{audit, metrics};
use futures::future::{join_all, try_join_all};

const REPO: &str = "survives/blobs";
const LIMIT: Duration = Duration::from_secs(400);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Home,
    Mirror,
    Leader,
}

/// Who is what in a row; each is another node.
#[derive(Clone, Copy)]
struct Cast {
    home: usize,
    mirror: usize,
    leader: usize,
}

impl Cast {
    async fn of(cluster: &mut Cluster) -> Result<Cast> {
        let leader = cluster.leader(Duration::from_secs(20)).await?;
        Ok(Cast { home: (leader + 1) % 3, mirror: (leader + 2) % 3, leader })
    }

    fn victim(self, victim: Victim) -> usize {
        match victim {
            Victim::Home => self.home,
            Victim::Mirror => self.mirror,
            Victim::Leader => self.leader,
        }
    }

    /// Through whom upload `turn` is under way when `victim` is killed: itself, or one that lives.
    fn front(self, victim: Victim, turn: usize) -> usize {
        let lives = if victim == Victim::Home { self.leader } else { self.home };
        if turn.is_multiple_of(2) { self.victim(victim) } else { lives }
    }
}

/// The contents and their chunks.
fn contents() -> [(Content, u64); 4] {
    let mib: u64 = std::env::var("TROW_UPLOAD_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    [
        (Content::random(mib << 6), 1),
        (Content::random((1 << 20) + 7), 64 << 10),
        (Content::random((16 << 20) + 3), 5 << 20),
        (Content::random(mib << 22), mib << 20),
    ]
}

/// Uploads whose home and mirror are the cast's.
async fn begin_all(cluster: &Cluster, nodes: &[Client], cast: Cast) -> Result<Vec<Upload>> {
    let mut uploads = Vec::new();
    let (home, mirror) = (&nodes[cast.home], &cluster.nodes[cast.mirror]);
    for (content, chunk) in contents() {
        uploads.push(Upload::begin_mirrored(home, mirror, REPO, content, chunk).await?);
    }
    Ok(uploads)
}

/// A request that was under way when the victim was killed, and whether through the victim itself.
type UnderWay = (bool, Result<Answer, Unknown>);

/// The requests through nodes that live were seen through.
fn check_in_hand(row: &str, under_way: &[UnderWay], status: u16) -> Result<()> {
    for (through_victim, answer) in under_way {
        let seen_through = answer.as_ref().is_ok_and(|answer| answer.status == status);
        ensure!(*through_victim || seen_through, "{row}: a request through a node that lives: {answer:?}");
    }
    Ok(())
}

/// Brings all uploads to their end without the victim, then looks at them with it.
async fn conclude(
    cluster: &mut Cluster,
    nodes: &[Client],
    victim: usize,
    uploads: &mut [Upload],
    with_rest: impl Fn(usize) -> bool,
) -> Result<()> {
    let living: Vec<&Client> = nodes.iter().filter(|node| node.node != cluster.nodes[victim].name).collect();
    try_join_all(uploads.iter_mut().enumerate().map(|(turn, upload)| {
        let (living, with_rest) = (&living, with_rest(turn));
        async move {
            // What is in the last request already is not pushed again.
            if with_rest {
                let last = upload.content.len().saturating_sub(upload.chunk);
                upload.push(living, last).await?;
            }
            upload.finish(living, with_rest).await.with_context(|| format!("chunks of {}", upload.chunk))
        }
    }))
    .await?;
    cluster.nodes[victim].start()?;
    cluster.healthy(Duration::from_secs(60)).await?;
    try_join_all(uploads.iter().map(async |upload| {
        for (turn, node) in nodes.iter().enumerate() {
            audit::blob(node, REPO, &upload.digest).await?;
            let again = upload.put(node, turn == 1).await?;
            ensure!(again.status == 201, "the last request again through {}: {again}", node.node);
        }
        Ok(())
    }))
    .await?;
    Ok(())
}

/// A row of the matrix: casts it, runs it, and says how long it took.
async fn row(
    cluster: &mut Cluster,
    victim: Victim,
    moment: &str,
    run: impl AsyncFnOnce(&mut Cluster, &[Client], Cast) -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    let cast = Cast::of(cluster).await?;
    let nodes = cluster.clients();
    ensure!(nodes.len() == 3, "{} nodes run", nodes.len());
    run(cluster, &nodes, cast).await.with_context(|| format!("{victim:?} killed {moment}"))?;
    eprintln!("{victim:?} killed {moment}: {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

async fn after_the_post(cluster: &mut Cluster, nodes: &[Client], cast: Cast, victim: Victim) -> Result<()> {
    let mut uploads = begin_all(cluster, nodes, cast).await?;
    cluster.nodes[cast.victim(victim)].kill();
    conclude(cluster, nodes, cast.victim(victim), &mut uploads, |_| true).await
}

async fn in_mid_patch(cluster: &mut Cluster, nodes: &[Client], cast: Cast, victim: Victim) -> Result<()> {
    let mut uploads = begin_all(cluster, nodes, cast).await?;
    let all: Vec<&Client> = nodes.iter().collect();
    for upload in &mut uploads {
        upload.push(&all, upload.chunk).await?;
    }
    let gates: Vec<Gate> = uploads.iter().map(|_| Gate::closed()).collect();
    let half: u64 = uploads.iter().map(|upload| upload.middle() - upload.acked).sum();
    let before = staged_bytes(cluster, cast.home).await?;
    let requests = uploads.iter_mut().zip(&gates).enumerate().map(|(turn, (upload, gate))| {
        let front = cast.front(victim, turn);
        async move { Ok((front == cast.victim(victim), upload.patch(&nodes[front], Some(gate)).await?)) }
    });
    let strike = async {
        join_all(gates.iter().map(Gate::reached)).await;
        // The home has the first half of each.
        let until = Instant::now() + Duration::from_secs(60);
        while staged_bytes(cluster, cast.home).await? < before + half {
            ensure!(Instant::now() < until, "the first halves do not arrive at the home");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.nodes[cast.victim(victim)].kill();
        gates.iter().for_each(Gate::open);
        Ok(())
    };
    let (under_way, ()): (Vec<UnderWay>, ()) =
        futures::future::try_join(try_join_all(requests), strike).await?;
    match victim {
        // Bytes that only the home had are gone with it: the client must send them again.
        Victim::Home => {
            let heard = |(_, answer): &UnderWay| answer.as_ref().is_ok_and(|answer| answer.status == 503);
            let told = under_way.iter().all(|way| way.0 || heard(way));
            ensure!(told, "through a node that lives: {under_way:?}");
        }
        Victim::Mirror | Victim::Leader => check_in_hand("in mid-PATCH", &under_way, 202)?,
    }
    conclude(cluster, nodes, cast.victim(victim), &mut uploads, |_| true).await
}

/// `trow_upload_bytes` of a node.
async fn staged_bytes(cluster: &Cluster, node: usize) -> Result<u64> {
    Ok(metrics::read(&cluster.nodes[node], "trow_upload_bytes", &[]).await? as u64)
}

/// The rows of one victim that need no help of the program.
async fn rows(victim: Victim) -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    row(&mut cluster, victim, "after the POST", async |cluster, nodes, cast| {
        after_the_post(cluster, nodes, cast, victim).await
    })
    .await?;
    row(&mut cluster, victim, "in mid-PATCH", async |cluster, nodes, cast| {
        in_mid_patch(cluster, nodes, cast, victim).await
    })
    .await?;
    cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_survive_the_kill_of_their_home() {
    scenario("upload home killed", LIMIT, rows(Victim::Home)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_survive_the_kill_of_their_mirror() {
    scenario("upload mirror killed", LIMIT, rows(Victim::Mirror)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_survive_the_kill_of_the_leader() {
    scenario("leader killed under uploads", LIMIT, rows(Victim::Leader)).await;
}

/// The rows whose moment lies between two steps of the program.
#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use chaos_tests::binary;
    use chaos_tests::standstill::{Standstill, node_of};

    const REACHED: Duration = Duration::from_secs(60);

    /// Kills the victim when every upload's request stands still at `point`, then lets it go on.
    async fn strike(
        cluster: &mut Cluster,
        stand: &Standstill,
        (point, uploads): (&'static str, usize),
        victim: usize,
        stands: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let armed = stand.arm(point)?;
        for pid in armed.reached(uploads, REACHED).await? {
            let node = node_of(cluster, pid).context("a process that is no node stands still")?;
            ensure!(stands(node), "{} came to {point}", cluster.nodes[node].name);
        }
        cluster.nodes[victim].kill();
        drop(armed);
        Ok(())
    }

    async fn before_a_chunk_is_told(
        cluster: &mut Cluster,
        nodes: &[Client],
        (cast, victim): (Cast, Victim),
        stand: &Standstill,
    ) -> Result<()> {
        let mut uploads = begin_all(cluster, nodes, cast).await?;
        let all: Vec<&Client> = nodes.iter().collect();
        for upload in &mut uploads {
            upload.push(&all, upload.chunk).await?;
        }
        let count = uploads.len();
        let requests = uploads.iter_mut().enumerate().map(|(turn, upload)| {
            let front = cast.front(victim, turn);
            async move { Ok((front == cast.victim(victim), upload.patch(&nodes[front], None).await?)) }
        });
        let at_home = |node| node == cast.home;
        let strike = strike(cluster, stand, ("chunk-written", count), cast.victim(victim), at_home);
        let (under_way, ()) = futures::future::try_join(try_join_all(requests), strike).await?;
        check_in_hand("before the acknowledgement", &under_way, 202)?;
        conclude(cluster, nodes, cast.victim(victim), &mut uploads, |_| true).await
    }

    async fn in_the_put(
        cluster: &mut Cluster,
        nodes: &[Client],
        (cast, victim): (Cast, Victim),
        stand: &Standstill,
        point: &'static str,
    ) -> Result<()> {
        let mut uploads = begin_all(cluster, nodes, cast).await?;
        let all: Vec<&Client> = nodes.iter().collect();
        try_join_all(uploads.iter_mut().map(|upload| {
            let last = upload.content.len().saturating_sub(upload.chunk);
            upload.push(&all, last)
        }))
        .await?;
        let count = uploads.len();
        let requests = uploads.iter().enumerate().map(|(turn, upload)| {
            let front = cast.front(victim, turn);
            async move { Ok((front == cast.victim(victim), upload.put(&nodes[front], true).await)) }
        });
        // It is held by the home, and committed by the node that the client talks to.
        let fronts = [cast.front(victim, 0), cast.front(victim, 1)];
        let stands = |node| if point == "whole-written" { node == cast.home } else { fronts.contains(&node) };
        let strike = strike(cluster, stand, (point, count), cast.victim(victim), stands);
        let (under_way, ()) = futures::future::try_join(try_join_all(requests), strike).await?;
        check_in_hand(point, &under_way, 201)?;
        // Both nodes have the last chunk, so that it may be left out when the request is repeated.
        conclude(cluster, nodes, cast.victim(victim), &mut uploads, |turn| turn < 2).await
    }

    async fn rows(victim: Victim) -> Result<()> {
        let stand = Standstill::new()?;
        let plan = stand.plan(Plan::of(3).program(binary::planted()));
        let mut cluster = Cluster::start(plan).await?;
        row(&mut cluster, victim, "before a chunk is told", async |cluster, nodes, cast| {
            before_a_chunk_is_told(cluster, nodes, (cast, victim), &stand).await
        })
        .await?;
        for point in ["whole-written", "before-commit", "after-commit"] {
            row(&mut cluster, victim, point, async |cluster, nodes, cast| {
                in_the_put(cluster, nodes, (cast, victim), &stand, point).await
            })
            .await?;
        }
        cluster.done();
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn uploads_survive_the_kill_of_their_home_between_steps() {
        scenario("upload home killed between steps", LIMIT, rows(Victim::Home)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn uploads_survive_the_kill_of_their_mirror_between_steps() {
        scenario("upload mirror killed between steps", LIMIT, rows(Victim::Mirror)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn uploads_survive_the_kill_of_the_leader_between_steps() {
        scenario("leader killed under uploads between steps", LIMIT, rows(Victim::Leader)).await;
    }
}
