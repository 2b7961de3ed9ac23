//! Scrapes nodes for as long as a scenario runs, and remembers what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::exposed::{Changes, METRICS};
use chaos_tests::metrics::{self, Family};
use tokio::task::JoinSet;

/// How often each node is scraped.
const EVERY: Duration = Duration::from_millis(100);

/// A series: node, sample, labels.
type Series = (String, String, String);

/// What was seen of a series: its family, its last value and its largest one, and whether it changed.
struct Value {
    family: String,
    last: f64,
    most: f64,
    changed: bool,
}

#[derive(Default)]
struct Seen {
    series: BTreeMap<Series, Value>,
    wrong: BTreeSet<String>,
}

/// Scrapes until it is dropped.
#[derive(Default)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

impl Watch {
    /// Begins with the nodes of `cluster`; those that do not answer yet, or any more, are skipped.
    pub fn nodes_of(&mut self, cluster: &Cluster) {
        for node in &cluster.nodes {
            let (name, ops, seen) = (node.name.clone(), node.ops.clone(), self.seen.clone());
            let name = format!("{name} at {ops}");
            self.tasks.spawn(async move {
                loop {
                    if let Ok(page) = metrics::scrape(&ops).await {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).page(&name, &page);
                    }
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
    }

    /// Waits until a sample of `name` was more than 0 once, on any node.
    pub async fn once(&self, name: &str) -> Result<()> {
        self.found(name, "", |value| value.most > 0.0).await
    }

    /// Waits until a sample of `name` with these labels has a value that `holds`, on any node.
    pub async fn until(&self, name: &str, labels: &str, holds: impl Fn(f64) -> bool) -> Result<()> {
        self.found(name, labels, |value| holds(value.last)).await
    }

    async fn found(&self, name: &str, labels: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let found = seen.series.iter().filter(|((_, sample, _), _)| sample == name);
                let mut found = found.filter(|((_, _, found), _)| found.contains(labels));
                if found.any(|(_, value)| holds(value)) {
                    return Ok(());
                }
            }
            ensure!(Instant::now() < until, "no node ever showed the value of {name}{{{labels}}} waited for");
            tokio::time::sleep(EVERY / 2).await;
        }
    }

    /// Compares what was seen with the list of what there is.
    pub fn judge(self) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = seen.wrong.clone();
        for metric in METRICS {
            let mut series = seen.series.values().filter(|value| value.family == metric.name).peekable();
            if series.peek().is_none() {
                wrong.insert(format!("{} is listed and no node shows it", metric.name));
            } else if metric.changes == Changes::Here && !series.any(|value| value.changed) {
                wrong.insert(format!("{} never changed", metric.name));
            }
        }
        let wrong: Vec<String> = wrong.into_iter().collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}

impl Seen {
    fn page(&mut self, node: &str, page: &str) {
        match metrics::families(page) {
            Ok(families) => families.iter().for_each(|(name, family)| self.family(node, name, family)),
            Err(error) => drop(self.wrong.insert(format!("{node}: {error:#}"))),
        }
    }

    fn family(&mut self, node: &str, name: &str, family: &Family) {
        let Some(metric) = METRICS.iter().find(|metric| metric.name == name) else {
            self.wrong.insert(format!("{name} is shown and not listed in chaos-tests/src/exposed.rs"));
            return;
        };
        if family.kind != metric.kind {
            self.wrong.insert(format!("{name} is a {} and listed as a {}", family.kind, metric.kind));
        }
        if family.help.is_empty() {
            self.wrong.insert(format!("{name} does not say what it is"));
        }
        let names = metric.samples();
        for sample in &family.samples {
            if !names.contains(&sample.name) {
                self.wrong.insert(format!("{name} has the sample {}", sample.name));
            }
            self.wrong.extend(metric.judge(&sample.labels));
            let labels = format!("{:?}", sample.labels);
            let value =
                Value { family: name.to_owned(), last: sample.value, most: sample.value, changed: false };
            let known = self.series.entry((node.to_owned(), sample.name.clone(), labels)).or_insert(value);
            known.changed |= known.last != sample.value;
            known.last = sample.value;
            known.most = known.most.max(sample.value);
        }
    }
}
