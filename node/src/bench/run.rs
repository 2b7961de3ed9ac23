//! Rounds of one kind of operation after another, the registry and its peer in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use indicatif::ProgressBar;
use trow_raft::{Digest, RepoName};

use super::BenchError;
use super::clean::clean;
use super::connection::Ask;
use super::content::{self, Blob};
use super::filled::Filled;
use super::load::{Load, Round};
use super::metrics::Counters;
use super::report::{Figures, Ratio, Report, Row};
use super::target::{Address, Target};
use super::work::{self, Case, Work};

/// Who is measured, and how long.
#[derive(Debug)]
pub struct Plan {
    /// The registry.
    pub server: Target,
    /// What it is compared with.
    pub peer: Option<Target>,
    /// The ops listeners of the registry's nodes, if they are to be read.
    pub ops: Vec<Address>,
    /// Connections at once.
    pub clients: usize,
    /// How long each round takes.
    pub round: Duration,
    /// Rounds of each row.
    pub rounds: u32,
}

/// `trow bench run`: pushes a little of its own and measures reads and pushes of it.
#[derive(Debug)]
pub struct Run {
    /// Who, and how long.
    pub plan: Plan,
    /// What; each is a row.
    pub cases: Vec<Case>,
}

/// `trow bench read`: reads what was filled, at random.
#[derive(Debug)]
pub struct Reads {
    /// Who, and how long.
    pub plan: Plan,
    /// What was filled.
    pub filled: Filled,
}

/// What one registry was given before measuring: the same for both.
struct Prepared {
    repository: RepoName,
    config: Blob,
    small: Blob,
    middle: Blob,
    large: Blob,
    manifest: Bytes,
    /// What the pushed blobs begin from.
    base: Bytes,
}

/// The tag of the manifest that is read.
const TAG: &str = "read";

impl Plan {
    async fn answers(&self) -> Result<(), BenchError> {
        self.server.answers().await?;
        if let Some(peer) = &self.peer {
            peer.answers().await?;
        }
        Counters::read(&self.ops).await.map(drop)
    }

    /// All rounds of one kind of operation.
    async fn row(
        &self,
        case: &str,
        work: Work,
        errors: &mut Errors,
        bar: &ProgressBar,
    ) -> Result<(Row, [u64; 2]), BenchError> {
        bar.set_message(case.to_owned());
        let work = Arc::new(work);
        let numbers = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let load = |target: &Target, numbers: &Arc<AtomicU64>| Load {
            target: target.clone(),
            work: work.clone(),
            clients: self.clients,
            numbers: numbers.clone(),
            limit: u64::MAX,
            time: self.round,
            retries: 0,
        };
        let (mut server, mut peer) = (Vec::new(), Vec::new());
        let mut counted = vec![Counters::default(); self.ops.len()];
        for _ in 0..self.rounds {
            let before = Counters::read(&self.ops).await?;
            server.push(load(&self.server, &numbers[0]).run().await);
            let after = Counters::read(&self.ops).await?;
            for (sum, (before, after)) in counted.iter_mut().zip(before.iter().zip(&after)) {
                sum.add(before, after);
            }
            bar.inc(1);
            if let Some(target) = &self.peer {
                peer.push(load(target, &numbers[1]).run().await);
                bar.inc(1);
            }
        }
        server.iter().chain(&peer).for_each(|round| errors.add(case, round));
        let figures = Figures::of(&server);
        let nodes = self.ops.iter().zip(&counted).map(|(ops, sum)| sum.spent(ops, figures.operations));
        let row = Row {
            case: case.to_owned(),
            nodes: nodes.collect(),
            server: figures,
            peer: self.peer.is_some().then(|| Figures::of(&peer)),
            ratio: Ratio::of(&server, &peer),
        };
        Ok((row, numbers.map(|numbers| numbers.load(Ordering::Relaxed))))
    }

    fn report(&self, repository: String, rows: Vec<Row>, errors: Errors, left: Vec<String>) -> Report {
        Report {
            servers: self.server.urls(),
            peer: self.peer.as_ref().map(Target::url),
            clients: self.clients,
            round_seconds: self.round.as_secs_f64(),
            rounds: self.rounds,
            repository,
            rows,
            errors: errors.count,
            first_error: errors.first,
            left: (!left.is_empty()).then(|| left.join("; ")),
        }
    }

    /// Rounds of `rows` rows, of all targets.
    fn steps(&self, rows: usize) -> u64 {
        rows as u64 * u64::from(self.rounds) * if self.peer.is_some() { 2 } else { 1 }
    }
}

#[derive(Default)]
struct Errors {
    count: u64,
    first: Option<String>,
}

impl Errors {
    fn add(&mut self, case: &str, round: &Round) {
        self.count += round.errors;
        if let Some(why) = &round.first_error {
            self.first.get_or_insert_with(|| format!("{case}: {why}"));
        }
    }
}

impl Run {
    /// Measures, and deletes what was pushed.
    ///
    /// # Errors
    /// Nothing could be measured; an operation that fails later is in the report.
    pub async fn run(&self, repository: RepoName, bar: &ProgressBar) -> Result<Report, BenchError> {
        let plan = &self.plan;
        plan.answers().await?;
        bar.set_length(plan.steps(self.cases.len()));
        bar.set_message("preparing");
        let prepared = Prepared::new(repository);
        let targets: Vec<&Target> = std::iter::once(&plan.server).chain(&plan.peer).collect();
        for target in &targets {
            prepared.push(target).await?;
        }
        let (mut rows, mut errors) = (Vec::new(), Errors::default());
        let mut pushed = vec![prepared.paths(); targets.len()];
        for case in &self.cases {
            let (row, numbers) = plan.row(&case.name(), prepared.work(*case), &mut errors, bar).await?;
            rows.push(row);
            for (paths, count) in pushed.iter_mut().zip(numbers) {
                prepared.add_pushed(*case, count, paths);
            }
        }
        bar.set_message("deleting what was pushed");
        let mut left = Vec::new();
        for (target, paths) in targets.into_iter().zip(pushed) {
            left.extend(clean(target, plan.clients, paths).await);
        }
        Ok(plan.report(prepared.repository.as_str().to_owned(), rows, errors, left))
    }
}

impl Reads {
    /// Measures.
    ///
    /// # Errors
    /// Nothing could be measured, or the first or the last manifest is not there.
    pub async fn run(&self, bar: &ProgressBar) -> Result<Report, BenchError> {
        let (plan, filled) = (&self.plan, &self.filled);
        plan.answers().await?;
        for target in std::iter::once(&plan.server).chain(&plan.peer) {
            must_be_filled(target, filled).await?;
        }
        let works = [
            ("any-manifest-by-tag", Work::AnyByTag(filled.clone())),
            ("any-manifest-by-digest", Work::AnyByDigest(filled.clone())),
            ("any-page-of-tags", Work::AnyPage(filled.clone())),
        ];
        bar.set_length(plan.steps(works.len()));
        let (mut rows, mut errors) = (Vec::new(), Errors::default());
        for (case, work) in works {
            rows.push(plan.row(case, work, &mut errors, bar).await?.0);
        }
        Ok(plan.report(filled.prefix().to_owned(), rows, errors, Vec::new()))
    }
}

async fn must_be_filled(target: &Target, filled: &Filled) -> Result<(), BenchError> {
    let mut connection = target.reach(0).await?;
    for i in [0, filled.manifests().saturating_sub(1)] {
        let path = filled.path_by_tag(i);
        let missing =
            |why: String| BenchError::NotFilled { url: target.url(), why: format!("{path}: {why}") };
        let reply = connection.ask(Ask::new(Method::GET, &path)).await;
        let reply = reply.map_err(|error| missing(error.to_string()))?;
        content::is(&reply, StatusCode::OK).map_err(missing)?;
    }
    Ok(())
}

impl Prepared {
    fn new(repository: RepoName) -> Prepared {
        let seed: u64 = rand::random();
        let (config, small) = (content::config(), Blob::random(4 << 10, seed));
        Prepared {
            repository,
            manifest: content::manifest(&config, &small, TAG),
            config,
            small,
            middle: Blob::random(256 << 10, seed ^ 1),
            large: Blob::random(1 << 20, seed ^ 2),
            base: Blob::random(4 << 10, seed ^ 3).bytes,
        }
    }

    fn blobs(&self) -> [&Blob; 4] {
        [&self.config, &self.small, &self.middle, &self.large]
    }

    /// Pushes it, and sees that it comes back.
    async fn push(&self, target: &Target) -> Result<(), BenchError> {
        let wrong = |what: &'static str| {
            let url = target.url();
            move |why: String| BenchError::Prepare { url, what, why }
        };
        let mut connection = target.reach(0).await?;
        let repository = self.repository.as_str();
        for blob in self.blobs() {
            blob.push(&mut connection, repository).await.map_err(wrong("push a blob"))?;
        }
        let put = content::put_manifest(&mut connection, repository, TAG, self.manifest.clone());
        put.await.map_err(wrong("push a manifest"))?;
        for blob in self.blobs() {
            let path = blob.path(repository);
            let reply = connection.fetch(Ask::new(Method::GET, &path)).await;
            let reply = reply.map_err(|error| wrong("read a blob")(error.to_string()))?;
            content::is(&reply, StatusCode::OK).map_err(wrong("read a blob"))?;
            if reply.body != blob.bytes {
                return Err(wrong("read a blob")("other bytes than were pushed".to_owned()));
            }
        }
        Ok(())
    }

    fn work(&self, case: Case) -> Work {
        let repository = self.repository.clone();
        let manifest = |method: Method, reference: &str| Work::Read {
            method,
            path: self.manifest_path(reference),
            length: self.manifest.len() as u64,
        };
        let blob = |blob: &Blob| Work::Read {
            method: Method::GET,
            path: blob.path(self.repository.as_str()),
            length: blob.bytes.len() as u64,
        };
        match case {
            Case::GetManifestByTag => manifest(Method::GET, TAG),
            Case::GetManifestByDigest => manifest(Method::GET, &Digest::sha256(&self.manifest).to_string()),
            Case::HeadManifestByTag => manifest(Method::HEAD, TAG),
            Case::GetBlob4KiB => blob(&self.small),
            Case::GetBlob256KiB => blob(&self.middle),
            Case::GetBlob1MiB => blob(&self.large),
            Case::PutManifest => {
                Work::Put { repository, config: self.config.clone(), layer: self.small.clone() }
            }
            Case::PushBlob4KiB => Work::Push { repository, base: self.base.clone() },
        }
    }

    fn manifest_path(&self, reference: &str) -> String {
        format!("/v2/{}/manifests/{reference}", self.repository)
    }

    /// What is deleted when all is done, manifests first.
    fn paths(&self) -> Vec<String> {
        let manifest = self.manifest_path(&Digest::sha256(&self.manifest).to_string());
        let blobs = self.blobs().map(|blob| blob.path(self.repository.as_str()));
        std::iter::once(manifest).chain(blobs).collect()
    }

    /// Adds what `count` operations of `case` pushed.
    fn add_pushed(&self, case: Case, count: u64, paths: &mut Vec<String>) {
        match case {
            Case::PutManifest => {
                let digest = |number| work::put_digest(&self.config, &self.small, number).to_string();
                let pushed: Vec<String> =
                    (0..count).map(|number| self.manifest_path(&digest(number))).collect();
                paths.splice(1..1, pushed);
            }
            Case::PushBlob4KiB => paths.extend(
                (0..count).map(|number| work::pushed(&self.base, number).path(self.repository.as_str())),
            ),
            _ => {}
        }
    }
}
