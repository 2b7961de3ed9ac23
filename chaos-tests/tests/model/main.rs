//! Random calls against a small model of what a registry is, each request through the next node.
//!
//! After each change everything it touched is read through every node at once; at the end of a run
//! everything there is. `TROW_RUNS` says how many runs there are, `TROW_SEED` repeats them. A run that
//! fails is made shorter as long as it fails.

mod changes;
mod content;
mod reads;
mod state;
mod step;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::audit;
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::front::{Front, strict};
use chaos_tests::report::scenario;
use futures::future::try_join_all;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use changes::Writer;
use content::Content;
use reads::Reader;
use state::Model;
use step::Step;

/// Runs, unless `TROW_RUNS` says how many.
const RUNS: u32 = 6;
/// What one run may take; most take a few seconds.
const RUN: Duration = Duration::from_secs(60);
/// What making a failure shorter may take.
const SHRINK: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_leave_what_the_model_has_on_one_node() {
    check(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_leave_what_the_model_has_on_three_nodes_in_rotation() {
    check(3).await;
}

async fn check(nodes: usize) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let runs = number("TROW_RUNS").map_or(RUNS, |runs| runs as u32);
    let seed = number("TROW_SEED").unwrap_or_else(rand::random);
    eprintln!("model on {nodes}: {runs} runs; TROW_RUNS={runs} TROW_SEED={seed} repeats them");
    let limit = Duration::from_secs(120) + RUN * runs + SHRINK;
    scenario(&format!("model on {nodes}"), limit, all(nodes, runs, seed)).await;
}

async fn all(nodes: usize, runs: u32, seed: u64) -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(nodes)).await?;
    let front = Front::start(&cluster.nodes, &cluster.root().join("front.jsonl")).await?;
    let token = std::fs::read_to_string(&cluster.admin.token_file).context("read the admin token")?;
    let clients = cluster.clients();
    let config = Config {
        cases: runs,
        max_shrink_time: SHRINK.as_millis() as u32,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let (number, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let effects = Mutex::new(BTreeMap::new());
    let run = async |steps: Vec<Step>| {
        // Names of its own for each, those of a failure that is made shorter too.
        let content = &Content::of(number.fetch_add(1, Ordering::Relaxed));
        sent.fetch_add(steps.len(), Ordering::Relaxed);
        let client = front.client();
        let walk = Walk {
            writer: Writer { client: &client, token: token.trim(), content },
            reader: Reader { client: &client, content },
            nodes: &clients,
            effects: &effects,
        };
        let model = walk.take(&steps).await?;
        for client in &clients {
            let reader = Reader { client, content };
            reader
                .everything(&model)
                .await
                .with_context(|| format!("at the end, through {}", client.node))?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let runtime = tokio::runtime::Handle::current();
    let began = Instant::now();
    let judged = tokio::task::block_in_place(|| {
        TestRunner::new_with_rng(config, random).run(&step::steps(), |steps| {
            let done = runtime.block_on(async { tokio::time::timeout(RUN, run(steps)).await });
            let done = done.unwrap_or_else(|_| Err(anyhow::anyhow!("not done after {RUN:?}")));
            done.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
    });
    judged.map_err(|error| anyhow::anyhow!("TROW_SEED={seed}: {error}"))?;
    let passed = front.passed()?;
    let (calls, took) = (sent.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
    eprintln!("model on {nodes}: {calls} calls, {} requests in {took:.1} s", passed.len());
    eprintln!("model on {nodes}: took effect: {:?}", effects.lock().unwrap_or_else(PoisonError::into_inner));
    strict(&passed, &cluster.nodes)?;
    ensure!(passed.len() > calls, "fewer requests than calls");
    audit::same_state(&cluster.admin, &clients).await?;
    cluster.done();
    Ok(())
}

/// One run: who makes the changes, who reads, and the nodes that are asked what came of a change.
struct Walk<'a> {
    writer: Writer<'a>,
    reader: Reader<'a>,
    nodes: &'a [Client],
    /// How many changes of each kind took effect.
    effects: &'a Mutex<BTreeMap<String, usize>>,
}

impl Walk<'_> {
    /// Takes the steps; what must be there then.
    async fn take(&self, steps: &[Step]) -> Result<Model> {
        let mut model = Model::new();
        for (index, step) in step::first().chain(steps.iter().cloned()).enumerate() {
            self.step(&mut model, &step).await.with_context(|| format!("step {index}, {step:?}"))?;
        }
        Ok(model)
    }

    async fn step(&self, model: &mut Model, step: &Step) -> Result<()> {
        let (writer, reader, before) = (&self.writer, &self.reader, model.last);
        match *step {
            Step::Push { repo, blob, form } => writer.push(model, repo, blob, form).await?,
            Step::PushWrong { repo, blob } => writer.push_wrong(repo, blob).await?,
            Step::Cancel { repo, blob } => writer.cancel(repo, blob).await?,
            Step::Mount { repo, from, blob } => writer.mount(model, repo, from, blob).await?,
            Step::DeleteBlob { repo, blob } => writer.delete_blob(model, repo, blob).await?,
            Step::Put { repo, tag, manifest, guess } => {
                let condition = guess.condition(model.repo(repo), tag);
                writer.put(model, repo, tag, manifest, condition).await?;
            }
            Step::PutTags { repo, manifest, ref tags } => {
                writer.put_tags(model, repo, manifest, tags).await?;
            }
            Step::PutWrong { repo, manifest } => writer.put_wrong(repo, manifest).await?,
            Step::DeleteTag { repo, tag, guess } => {
                let condition = guess.condition(model.repo(repo), tag);
                writer.delete_tag(model, repo, tag, condition).await?;
            }
            Step::DeleteManifest { repo, manifest } => writer.delete_manifest(model, repo, manifest).await?,
            Step::ReadBlob { repo, blob } => return reader.blob(model, repo, blob).await,
            Step::ReadManifest { repo, manifest } => return reader.manifest(model, repo, manifest).await,
            Step::ReadTag { repo, tag } => return reader.tag(model, repo, tag).await,
            Step::Tags { repo, page } => return reader.tags(model, repo, page).await,
            Step::Catalog { page } => return reader.catalog(model, page).await,
            Step::Referrers { repo, subject } => return reader.referrers(model, repo, subject).await,
        }
        if model.last > before {
            let (kind, mut effects) =
                (format!("{step:?}"), self.effects.lock().unwrap_or_else(PoisonError::into_inner));
            let kind = kind.split(' ').next().unwrap_or_default().to_owned();
            *effects.entry(kind).or_default() += 1;
        }
        self.look(model, step).await.context("right after it")
    }

    /// What a change touched, through every node.
    async fn look(&self, model: &Model, step: &Step) -> Result<()> {
        let content = self.reader.content;
        let looks =
            self.nodes.iter().map(async |client| look(&Reader { client, content }, model, step).await);
        try_join_all(looks).await?;
        Ok(())
    }
}

/// What a change touched, through one node.
async fn look(reader: &Reader<'_>, model: &Model, step: &Step) -> Result<()> {
    match *step {
        Step::Push { repo, blob, .. }
        | Step::PushWrong { repo, blob }
        | Step::Cancel { repo, blob }
        | Step::Mount { repo, blob, .. }
        | Step::DeleteBlob { repo, blob } => reader.blob(model, repo, blob).await,
        Step::Put { repo, tag, manifest, .. } => {
            reader.tag(model, repo, tag).await?;
            reader.manifest(model, repo, manifest).await
        }
        Step::PutTags { repo, manifest, ref tags } => {
            for tag in tags {
                reader.tag(model, repo, *tag).await?;
            }
            reader.manifest(model, repo, manifest).await
        }
        Step::DeleteTag { repo, tag, .. } => reader.tag(model, repo, tag).await,
        Step::PutWrong { repo, manifest } | Step::DeleteManifest { repo, manifest } => {
            reader.manifest(model, repo, manifest).await?;
            reader.tags(model, repo, 2).await
        }
        _ => Ok(()),
    }
}
