//! What a scenario found, as a person or a script reads it.
//!
//! Each scenario ends with one line of numbers on standard error, and with its history written below
//! `TROW_REPORT_DIR` when that is set. Violations end it with a panic that names each of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::check::{Expect, Violation, check};
use crate::history::{History, Kind, Op};

/// One scenario at a time in a process: the nodes of two at once on a small machine wait for each other, and what
/// one of them claims about time would be told of both.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs a scenario within `limit`, which begins once the program is built and the scenarios before it are done.
///
/// # Panics
/// The scenario fails, or its time is up.
pub async fn scenario(name: &str, limit: Duration, run: impl Future<Output = anyhow::Result<()>>) {
    // The first one of a process may build it, which takes minutes where nothing was built before.
    crate::binary::trow();
    let _alone = ALONE.lock().await;
    let began = Instant::now();
    match tokio::time::timeout(limit, run).await {
        Ok(Ok(())) => eprintln!("{name}: passed in {:.1} s", began.elapsed().as_secs_f64()),
        Ok(Err(error)) => panic!("{name}: {error:#}"),
        Err(_) => panic!("{name}: not done after {limit:?}"),
    }
}

/// Judges a history and says what it was made of.
///
/// # Errors
/// Every violation, one a line.
pub fn judge(name: &str, history: &History, expect: Expect) -> anyhow::Result<()> {
    let events = history.events();
    let count = |kind| events.iter().filter(|event| event.f != Op::Fault && event.kind == kind).count();
    let faults = events.iter().filter(|event| event.f == Op::Fault).count();
    eprintln!(
        "{name}: {} operations, {} acknowledged, {} refused, {} unknown, {faults} fault events",
        count(Kind::Invoke),
        count(Kind::Ok),
        count(Kind::Fail),
        count(Kind::Info),
    );
    if let Some(dir) = std::env::var_os("TROW_REPORT_DIR").map(PathBuf::from) {
        std::fs::create_dir_all(&dir)?;
        history.write(&dir.join(format!("{name}.jsonl")))?;
    }
    let violations = check(&events, expect);
    anyhow::ensure!(violations.is_empty(), "{} violations\n{}", violations.len(), list(&violations));
    Ok(())
}

fn list(violations: &[Violation]) -> String {
    let shown: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
    shown.join("\n")
}

/// The median and the worst of `times`.
pub fn median_and_worst(mut times: Vec<Duration>) -> Option<(Duration, Duration)> {
    times.sort();
    Some((*times.get(times.len() / 2)?, *times.last()?))
}
