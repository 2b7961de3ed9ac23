//! Deleting what a run pushed, as far as the registry lets it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::load::Load;
use super::target::Target;
use super::work::Work;

/// Deleting is given up after this long.
const TIME: Duration = Duration::from_secs(60);

/// Deletes what is at `paths`; what was not deleted, if anything. No blob is asked for before all
/// manifests are gone: one that is referred to is refused.
pub(super) async fn clean(target: &Target, clients: usize, paths: Vec<String>) -> Option<String> {
    let (manifests, blobs) = paths.into_iter().partition(|path: &String| path.contains("/manifests/"));
    match delete(target, clients, "manifests", manifests).await {
        None => delete(target, clients, "blobs", blobs).await,
        left => left.map(|left| format!("{left}, and its blobs")),
    }
}

async fn delete(target: &Target, clients: usize, what: &str, paths: Vec<String>) -> Option<String> {
    let all = paths.len() as u64;
    let load = |clients: usize, work: &Arc<Work>, numbers: &Arc<AtomicU64>, limit: u64| Load {
        target: target.clone(),
        work: work.clone(),
        clients,
        numbers: numbers.clone(),
        limit,
        time: TIME,
        retries: 0,
    };
    let (work, numbers) = (Arc::new(Work::Delete { paths }), Arc::new(AtomicU64::new(0)));
    // The first one alone: a registry that does not let its like be deleted is not asked a thousand times.
    let mut done = load(1, &work, &numbers, all.min(1)).run().await;
    if done.errors == 0 {
        numbers.store(1, std::sync::atomic::Ordering::Relaxed);
        let rest = load(clients, &work, &numbers, all).run().await;
        done.latencies.extend(rest.latencies);
        done.first_error = rest.first_error;
    }
    let left = all - done.operations();
    let why = done.first_error.unwrap_or_else(|| "time is up".to_owned());
    (left > 0).then(|| format!("{left} {what} at {}: {why}", target.url()))
}
