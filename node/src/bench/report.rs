//! The figures: how they come of rounds, and how they are written down.

use serde::Serialize;

use super::load::Round;
use super::metrics::Spent;

/// What `trow bench run` and `trow bench read` found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The addresses of the registry.
    pub servers: Vec<String>,
    /// The address of the one that it is compared with.
    pub peer: Option<String>,
    /// Connections at once, one operation at a time on each.
    pub clients: usize,
    /// Seconds of a round.
    pub round_seconds: f64,
    /// Rounds of each row.
    pub rounds: u32,
    /// What was written to, or read from.
    pub repository: String,
    /// One for each kind of operation.
    pub rows: Vec<Row>,
    /// Operations that failed, of all rows.
    pub errors: u64,
    /// Why the first one of them failed.
    pub first_error: Option<String>,
    /// What was not deleted, and why; null when nothing was left.
    pub left: Option<String>,
}

/// One kind of operation.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which.
    pub case: String,
    /// The registry.
    pub server: Figures,
    /// The one that it is compared with.
    pub peer: Option<Figures>,
    /// The registry's rate by the peer's, round by round.
    pub ratio: Option<Ratio>,
    /// What each node whose ops listener was given spent.
    pub nodes: Vec<Spent>,
}

/// What a registry did.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Operations in each second: the median of the rounds.
    pub rate: f64,
    /// Milliseconds that half of all operations stayed below.
    pub p50_ms: f64,
    /// Milliseconds that 99 of 100 operations stayed below.
    pub p99_ms: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed.
    pub errors: u64,
}

/// Quotients of rounds that followed each other.
#[derive(Debug, Serialize)]
pub struct Ratio {
    /// The one in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// What `trow bench fill` did.
#[derive(Debug, Serialize)]
pub struct FillReport {
    /// The addresses of the registry.
    pub servers: Vec<String>,
    /// What the repositories' names begin with.
    pub prefix: String,
    /// Manifests that are there now.
    pub manifests: u64,
    /// Repositories that they are in.
    pub repositories: u64,
    /// The number of the first manifest that was put; those before were there.
    pub from: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// The puts.
    pub figures: Figures,
    /// Why the first one of those that failed did so.
    pub first_error: Option<String>,
    /// What each node whose ops listener was given spent.
    pub nodes: Vec<Spent>,
}

impl Figures {
    /// Of rounds of the same kind.
    pub(super) fn of(rounds: &[Round]) -> Figures {
        let mut latencies: Vec<u32> =
            rounds.iter().flat_map(|round| round.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        Figures {
            rate: median(rounds.iter().map(Round::rate).collect()),
            p50_ms: f64::from(quantile(&latencies, 50)) / 1000.0,
            p99_ms: f64::from(quantile(&latencies, 99)) / 1000.0,
            operations: latencies.len() as u64,
            errors: rounds.iter().map(|round| round.errors).sum(),
        }
    }
}

impl Ratio {
    /// Of rounds that took turns.
    pub(super) fn of(server: &[Round], peer: &[Round]) -> Option<Ratio> {
        let quotients: Vec<f64> = server
            .iter()
            .zip(peer)
            .map(|(server, peer)| server.rate() / peer.rate().max(f64::EPSILON))
            .collect();
        let min = quotients.iter().copied().min_by(f64::total_cmp)?;
        let max = quotients.iter().copied().max_by(f64::total_cmp)?;
        Some(Ratio { median: median(quotients), min, max })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => 0.0,
        Some(upper) if values.len() % 2 == 1 => *upper,
        Some(upper) => (values[middle - 1] + upper) / 2.0,
    }
}

/// The value that `percent` of the sorted ones do not exceed.
fn quantile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn round(operations: usize, latency: u32) -> Round {
        Round { elapsed: Duration::from_secs(1), latencies: vec![latency; operations], ..Round::default() }
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!((quantile(&hundred, 50), quantile(&hundred, 99)), (50, 99));
        assert_eq!((quantile(&[7], 50), quantile(&[7], 99)), (7, 7));
        assert_eq!(quantile(&[], 99), 0);
    }

    #[test]
    fn the_rate_is_the_median_of_the_rounds() {
        let figures = Figures::of(&[round(10, 1000), round(1000, 2000), round(30, 3000)]);
        assert_eq!((figures.rate, figures.p50_ms, figures.operations), (30.0, 2.0, 1040));
        assert_eq!(median(vec![1.0, 2.0, 3.0, 10.0]), 2.5);
    }

    #[test]
    fn a_ratio_compares_rounds_that_followed_each_other() {
        let ratio = Ratio::of(&[round(20, 1), round(30, 1)], &[round(10, 1), round(10, 1)]).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 2.5, 3.0));
    }
}
