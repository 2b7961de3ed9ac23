//! Clients on all nodes move the same tag at once under a condition: one wins, and every node says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos_tests::client::{Answer, Client};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::report::scenario;
use futures::future::try_join_all;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use trow_raft::Digest;

const REPO: &str = "raced/image";
const TAG: &str = "stable";
/// Clients on each node.
const CLIENTS: usize = 3;
const ROUNDS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_move_a_tag_from_the_same_digest_one_wins() {
    scenario("compare and set", Duration::from_secs(180), run()).await;
}

/// What a racer asks for.
#[derive(Clone)]
enum Wish {
    /// The tag is to point to the racer's image of this round, under this condition.
    Move(usize, HeaderName, String),
    /// The tag is to go, if it is this digest.
    Delete(String, String),
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let token = std::fs::read_to_string(&cluster.admin.token_file)?.trim().to_owned();
    let mut racers = Vec::new();
    for node in nodes.iter().flat_map(|node| std::iter::repeat_n(node, CLIENTS)) {
        let image = Image::random(&[100]);
        let pushed = image.push(node, REPO, &image.digest.to_string()).await?;
        ensure!(pushed.status == 201, "{pushed}");
        racers.push(Arc::new(Racer { node: node.clone(), image }));
    }
    let mut winners = BTreeSet::new();
    let mut now: Option<Digest> = None;
    for round in 0..ROUNDS {
        // Once in a while the tag goes, so that it is also raced into being.
        let delete = round % 8 == 7;
        let wish = match now {
            None => Wish::Move(round, IF_NONE_MATCH, "*".to_owned()),
            Some(digest) if delete => Wish::Delete(format!("\"{digest}\""), token.clone()),
            Some(digest) => Wish::Move(round, IF_MATCH, format!("\"{digest}\"")),
        };
        let answers = race(&racers, &wish, &nodes).await.with_context(|| format!("round {round}"))?;
        let won: Vec<usize> = (0..answers.len()).filter(|index| answers[*index].ok()).collect();
        ensure!(won.len() == 1, "round {round}: {} won: {:?}", won.len(), statuses(&answers));
        ensure!(answers.iter().all(|answer| answer.ok() || answer.status == 412), "{:?}", statuses(&answers));
        now = racers[won[0]].wins(&wish)?;
        winners.insert(racers[won[0]].node.node.clone());
    }
    // One node that always wins would mean that the others do not race.
    eprintln!("compare and set: {ROUNDS} rounds of {} clients, won through {winners:?}", racers.len());
    ensure!(winners.len() > 1, "only {winners:?} ever won");
    cluster.done();
    Ok(())
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// All racers ask at once; what each was answered. Who wins looks for it through every node before it
/// returns, while the others may still wait.
async fn race(racers: &[Arc<Racer>], wish: &Wish, nodes: &[Client]) -> Result<Vec<Answer>> {
    let start = Arc::new(Barrier::new(racers.len()));
    let asking = racers.iter().map(|racer| {
        let (racer, wish, start) = (Arc::clone(racer), wish.clone(), Arc::clone(&start));
        let nodes = nodes.to_vec();
        tokio::spawn(async move {
            start.wait().await;
            let answer = racer.ask(&wish).await?;
            if answer.ok() {
                racer.look(&nodes, &wish, &answer).await?;
            }
            Ok(answer)
        })
    });
    try_join_all(asking).await?.into_iter().collect()
}

/// One who races, with an image that nobody else has.
struct Racer {
    node: Client,
    image: Image,
}

impl Racer {
    /// The image's manifest as this round has it: who pushes what is there already takes nothing from
    /// the others, so nobody may.
    fn manifest(&self, round: usize) -> Result<Bytes> {
        let mut manifest: Value = serde_json::from_slice(&self.image.manifest)?;
        manifest["annotations"] = json!({"round": round.to_string()});
        Ok(Bytes::from(manifest.to_string()))
    }

    async fn ask(&self, wish: &Wish) -> Result<Answer> {
        let path = format!("/v2/{REPO}/manifests/{TAG}");
        let request = match wish {
            Wish::Move(round, name, value) => {
                let request = self.node.request(Method::PUT, &path).header(CONTENT_TYPE, MANIFEST);
                request.header(name, value).body(self.manifest(*round)?)
            }
            Wish::Delete(value, token) => {
                self.node.request(Method::DELETE, &path).bearer_auth(token).header(IF_MATCH, value)
            }
        };
        Ok(self.node.send("a race", request).await?)
    }

    /// Where the tag points when this racer's wish comes true.
    fn wins(&self, wish: &Wish) -> Result<Option<Digest>> {
        match wish {
            Wish::Move(round, ..) => Ok(Some(Digest::sha256(&self.manifest(*round)?))),
            Wish::Delete(..) => Ok(None),
        }
    }

    /// Every node shows what this racer won with `answer`.
    async fn look(&self, nodes: &[Client], wish: &Wish, answer: &Answer) -> Result<()> {
        let won = self.wins(wish)?;
        let looks = nodes.iter().map(async |node| {
            let seen = node.manifest(REPO, TAG).await?;
            let found = seen.ok().then(|| Digest::sha256(&seen.body));
            ensure!(found == won, "{} shows {found:?}, not {won:?}: {seen}", node.node);
            match won {
                Some(_) => ensure!(seen.log_id() == answer.log_id(), "{}: {:?}", node.node, seen.log_id()),
                None => ensure!(seen.status == 404 && seen.log_id() >= answer.log_id(), "{seen}"),
            }
            Ok(())
        });
        try_join_all(looks).await?;
        Ok(())
    }
}
