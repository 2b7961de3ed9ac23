//! Many clients at once, each on a connection of its own, for a time or up to a number.
//!
//! Always holds: no operation's number is used twice; what fails is counted, never repeated
//! silently, unless the load says that it may be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connection::Connection;
use super::target::Target;
use super::work::Work;

/// A client that fails as often as this ends.
const TOO_MANY: u64 = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// What is done, by how many, until when.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) target: Target,
    pub(super) work: Arc<Work>,
    pub(super) clients: usize,
    /// The number of the next operation.
    pub(super) numbers: Arc<AtomicU64>,
    /// Operations with this number or a higher one are not done.
    pub(super) limit: u64,
    /// No operation begins after this long.
    pub(super) time: Duration,
    /// How often an operation that failed is tried again.
    pub(super) retries: u32,
}

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// From the first operation's begin to the last one's end.
    pub(super) elapsed: Duration,
    /// How long each took that succeeded, in microseconds.
    pub(super) latencies: Vec<u32>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Round {
    /// Operations that succeeded.
    pub(super) fn operations(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// Operations that succeeded, in each second.
    pub(super) fn rate(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    fn failed(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }

    fn add(&mut self, mut other: Round) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latencies.append(&mut other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

impl Load {
    /// Runs it to its end.
    pub(super) async fn run(self) -> Round {
        let ready = Arc::new(tokio::sync::Barrier::new(self.clients));
        let mut clients = JoinSet::new();
        for client in 0..self.clients {
            clients.spawn(self.clone().client(client, ready.clone()));
        }
        let mut all = Round::default();
        while let Some(done) = clients.join_next().await {
            match done {
                Ok(round) => all.add(round),
                Err(error) => all.failed(format!("a client ended: {error}")),
            }
        }
        all
    }

    /// One client: connects, waits for the others, and works.
    async fn client(self, client: usize, ready: Arc<tokio::sync::Barrier>) -> Round {
        let mut round = Round::default();
        let mut connection = self.target.connect(client).await.map_err(|error| error.to_string());
        ready.wait().await;
        let begin = Instant::now();
        while begin.elapsed() < self.time && round.errors < TOO_MANY {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            if number >= self.limit {
                break;
            }
            let mut left = self.retries;
            loop {
                let at = Instant::now();
                let done = match &mut connection {
                    Ok(connection) => self.work.once(connection, number).await,
                    Err(why) => Err(why.clone()),
                };
                let Err(why) = done else {
                    round.latencies.push(u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX));
                    break;
                };
                // What the connection carries is not known after a failure.
                connection = self.reconnect(client).await;
                if left == 0 {
                    round.failed(why);
                    break;
                }
                left -= 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
        round.elapsed = begin.elapsed();
        round
    }

    async fn reconnect(&self, client: usize) -> Result<Connection, String> {
        self.target.connect(client).await.map_err(|error| error.to_string())
    }
}
