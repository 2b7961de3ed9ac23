//! Filling a registry with many small manifests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use indicatif::ProgressBar;

use super::BenchError;
use super::connection::Ask;
use super::filled::Filled;
use super::load::{Load, Round};
use super::metrics::Counters;
use super::report::{Figures, FillReport};
use super::target::{Address, Target};
use super::work::Work;

/// An operation may meet an election: it is tried again for some seconds.
const RETRIES: u32 = 25;
/// No fill takes longer.
const TIME: Duration = Duration::from_secs(24 * 3600);
/// More than the clients that a fill that broke off can have had.
const MARGIN: u64 = 2048;
/// How often the progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

/// A fill; manifests are put in the order of their numbers, by many clients.
#[derive(Debug)]
pub struct Fill {
    /// What is filled.
    pub target: Target,
    /// The ops listeners of its nodes, if they are to be read.
    pub ops: Vec<Address>,
    /// With what.
    pub filled: Filled,
    /// By how many clients.
    pub clients: usize,
    /// Whether to begin after what is there already.
    pub resume: bool,
}

impl Fill {
    /// Fills.
    ///
    /// # Errors
    /// Nothing could be begun; what fails later is in the report.
    pub async fn run(&self, bar: &ProgressBar) -> Result<FillReport, BenchError> {
        self.target.answers().await?;
        let before = Counters::read(&self.ops).await?;
        bar.set_message("preparing repositories");
        self.prepare().await?;
        let from = if self.resume { self.missing().await? } else { 0 };
        bar.set_position(from);
        bar.reset_eta();
        bar.set_message("manifests");

        let numbers = Arc::new(AtomicU64::new(from));
        let mut load = self.load(Work::Fill(self.filled.clone()), self.filled.manifests());
        load.numbers = numbers.clone();
        let shown = async {
            loop {
                tokio::time::sleep(SHOWN).await;
                bar.set_position(numbers.load(Ordering::Relaxed).min(self.filled.manifests()));
            }
        };
        let round = tokio::select! {
            round = load.run() => round,
            () = shown => Round::default(),
        };
        let after = Counters::read(&self.ops).await?;
        Ok(self.report(from, round, &before, &after))
    }

    fn report(&self, from: u64, round: Round, before: &[Counters], after: &[Counters]) -> FillReport {
        let spent = self.ops.iter().zip(before.iter().zip(after)).map(|(ops, (before, after))| {
            let mut sum = Counters::default();
            sum.add(before, after);
            sum.spent(ops, round.operations())
        });
        FillReport {
            servers: self.target.urls(),
            prefix: self.filled.prefix().to_owned(),
            manifests: from + round.operations(),
            repositories: self.filled.repositories(),
            from,
            seconds: round.elapsed.as_secs_f64(),
            nodes: spent.collect(),
            first_error: round.first_error.clone(),
            figures: Figures::of(&[round]),
        }
    }

    fn load(&self, work: Work, limit: u64) -> Load {
        Load {
            target: self.target.clone(),
            work: Arc::new(work),
            clients: self.clients,
            numbers: Arc::default(),
            limit,
            time: TIME,
            retries: RETRIES,
        }
    }

    /// Each repository gets the config and the layer: pushed to the first, mounted in the others.
    async fn prepare(&self) -> Result<(), BenchError> {
        let wrong = |what: &'static str| {
            let url = self.target.url();
            move |why: String| BenchError::Prepare { url, what, why }
        };
        let mut connection = self.target.reach(0).await?;
        for blob in self.filled.blobs() {
            blob.push(&mut connection, &self.filled.repository(0)).await.map_err(wrong("push a blob"))?;
        }
        let load = self.load(Work::Mount(self.filled.clone()), self.filled.repositories());
        let mounted = load.run().await;
        mounted.first_error.map_or(Ok(()), |why| Err(wrong("mount a blob")(why)))
    }

    /// The number of a manifest before which none is missing: those that were put at once when a
    /// fill broke off are put again.
    async fn missing(&self) -> Result<u64, BenchError> {
        let mut connection = self.target.reach(0).await?;
        let (mut there, mut missing) = (0, self.filled.manifests());
        while there < missing {
            let middle = there + (missing - there) / 2;
            let path = self.filled.path_by_tag(middle);
            let wrong =
                |why| BenchError::Prepare { url: self.target.url(), what: "look for a manifest", why };
            let reply = connection.ask(Ask::new(Method::HEAD, &path)).await;
            match reply.map_err(|error| wrong(error.to_string()))?.status {
                StatusCode::OK => there = middle + 1,
                StatusCode::NOT_FOUND => missing = middle,
                status => return Err(wrong(status.to_string())),
            }
        }
        if there == self.filled.manifests() { Ok(there) } else { Ok(there.saturating_sub(MARGIN)) }
    }
}
