//! The official conformance program finds no fault, with one node and with three in strict rotation.
//!
//! Four runs with `TROW_CONFORMANCE=all`: as it comes, and with manifests that name what was never
//! pushed, each against a single node and against three nodes behind the front. Without it the one run
//! that asks most of a cluster: as it comes, against three nodes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::conformance::{Run, Totals};
use chaos_tests::front::{Front, strict};
use chaos_tests::report::scenario;
use chaos_tests::require;

const PROGRAM: &str =
    "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111";

/// Fewer checks than this are not the whole program. It has some more at this version.
const CHECKS: usize = 950;

/// One run must end within this.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_program_finds_no_fault() {
    let Some(program) = program() else { return };
    let all = std::env::var("TROW_CONFORMANCE").is_ok_and(|what| what == "all");
    let runs: &[(usize, bool)] =
        if all { &[(1, false), (1, true), (3, false), (3, true)] } else { &[(3, false)] };
    let limit = (LIMIT + Duration::from_secs(90)) * runs.len() as u32;
    scenario("conformance", limit, async {
        for (nodes, sparse) in runs {
            run(program.clone(), *nodes, *sparse).await.with_context(|| name(*nodes, *sparse))?;
        }
        Ok(())
    })
    .await;
}

/// Where the program is: `TROW_CONFORMANCE_BIN`, or installed.
fn program() -> Option<PathBuf> {
    match std::env::var_os("TROW_CONFORMANCE_BIN").filter(|path| !path.is_empty()) {
        Some(path) => Some(std::path::absolute(path).expect("absolute path")),
        None => require::go_tool("conformance", PROGRAM),
    }
}

fn name(nodes: usize, sparse: bool) -> String {
    format!("{nodes}-node{}", if sparse { "-sparse" } else { "" })
}

async fn run(program: PathBuf, nodes: usize, sparse: bool) -> Result<()> {
    let name = name(nodes, sparse);
    let config = format!("[registry]\nsparse = {sparse}\n");
    let cluster = Cluster::start(Plan::of(nodes).config(&config)).await?;
    let kept = std::env::var_os("TROW_REPORT_DIR").map(PathBuf::from);
    let results = kept.unwrap_or_else(|| cluster.root().to_owned()).join("conformance").join(&name);
    let results = std::path::absolute(results)?;
    std::fs::create_dir_all(&results)?;

    let token = std::fs::read_to_string(&cluster.admin.token_file).context("read the admin token")?;
    // A single node is asked directly, so that the front is no part of what passes.
    let front = match nodes {
        1 => None,
        _ => Some(Front::start(&cluster.nodes, &results.join("rotation.jsonl")).await?),
    };
    let registry = front.as_ref().map_or(&cluster.nodes[0].client, |front| &front.address).clone();
    let (token, began) = (token.trim().to_owned(), Instant::now());
    let report = Run { program, registry, token, sparse, results: results.clone() }.report(LIMIT).await?;
    let took = began.elapsed().as_secs_f64();
    eprintln!("conformance {name}: {} in {took:.1} s", report.totals);

    let faults = report.faults();
    ensure!(faults.is_empty(), "{}; reports in {}", faults.join("\n"), results.display());
    let Totals { passed, disabled, .. } = report.totals;
    ensure!(passed >= CHECKS, "only {passed} checks passed");
    ensure!(disabled == 0, "{disabled} checks were switched off");
    if let Some(front) = front {
        let passed = front.passed()?;
        strict(&passed, &cluster.nodes)?;
        ensure!(passed.len() >= CHECKS, "only {} requests went through the front", passed.len());
        eprintln!("conformance {name}: {} requests, each to the next node", passed.len());
    }
    cluster.done();
    Ok(())
}
