//! `trow cluster status` says how a cluster is, and what to do, before anything else.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::admin::Admin;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::report::scenario;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);
const HEALTHY: &str = "healthy: 3 nodes answer, every blob has its copies";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_begins_with_the_verdict_and_what_to_do() {
    scenario("status", Duration::from_secs(180), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let first = cluster.nodes[0].client();
    let pushed = Image::random(&[10_000, 20_000]).push(&first, "said/image", "v1").await?;
    ensure!(pushed.status == 201, "the push: {pushed}");
    cluster.settled(LIMIT).await?;
    let (admin, asked) = (cluster.admin.clone(), cluster.nodes[0].client.clone());
    until(&admin, &asked, 0, &[&format!("{HEALTHY}\n\nNAME ")]).await?;
    again_and_again(&admin, &asked).await?;

    cluster.nodes[2].kill();
    let what =
        "to do: start n3 again, or add a node: the 2 that are up are too few for 3 copies of each blob";
    let said = ["DEGRADED: n3 has not been heard of for ", "; 3 blobs are below 3 copies\n", what];
    until(
        &admin,
        &asked,
        0,
        &[said.as_slice(), &["to do: if n3 is gone for good: trow cluster remove n3"]].concat(),
    )
    .await?;

    cluster.nodes[1].kill();
    let said = ["NO QUORUM: 1 of 3 voters answer this node; ", "to do: start n2 and n3, or mend the network"];
    until(&admin, &asked, 3, &said).await?;

    // Silence is said after a while; who comes back before that was never away.
    let log = cluster.nodes[0].log.clone();
    logged(&log, (1, 0)).await?;
    cluster.start_all().await?;
    cluster.settled(LIMIT).await?;
    until(&admin, &asked, 0, &["healthy: 3 nodes answer"]).await?;
    logged(&log, (1, 1)).await?;
    cluster.done();
    Ok(())
}

/// Waits until the log says of both nodes at least so many times that they are silent, and are heard
/// again: each silence once. On a busy machine there may be more of them.
async fn logged(log: &Path, expected: (usize, usize)) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let text = std::fs::read_to_string(log)?;
        let found = ["n2", "n3"].map(|name| {
            let about =
                |what: &str| text.lines().filter(|line| line.contains(what) && line.contains(name)).count();
            (about("a member is silent"), about("a member is heard again"))
        });
        let enough = |(silent, heard): (usize, usize)| silent >= expected.0 && heard >= expected.1;
        if found.into_iter().all(enough) {
            let once = found.iter().all(|(silent, heard)| heard <= silent && *silent <= heard + 1);
            ensure!(once, "of n2 and n3 n1 logged (silent, heard again) {found:?}");
            return Ok(());
        }
        ensure!(Instant::now() < until, "of n2 and n3 n1 logged (silent, heard again) {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the status begins with the first of `parts`, has the others, and ends with `code`.
async fn until(admin: &Admin, asked: &str, code: i32, parts: &[&str]) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let (ended, out, err) = admin.run(asked, &["cluster", "status"]).await?;
        let out = but_for_the_disk(&out);
        if ended == code && out.starts_with(parts[0]) && parts.iter().all(|part| out.contains(part)) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "wanted exit {code} and {parts:?}, got {ended} and\n{out}{err}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Without what is said of disks that are nearly full, which the machine's own may be.
fn but_for_the_disk(out: &str) -> String {
    let (verdict, rest) = out.split_once('\n').unwrap_or((out, ""));
    let Some((word, findings)) = verdict.split_once(": ") else { return out.to_owned() };
    let findings: Vec<&str> = findings.split("; ").filter(|found| !found.ends_with("of disk left")).collect();
    let verdict = match findings.is_empty() {
        true => HEALTHY.to_owned(),
        false => format!("{word}: {}", findings.join("; ")),
    };
    let rest = rest.lines().filter(|line| !line.starts_with("  to do: make room on the disk of "));
    std::iter::once(verdict.as_str()).chain(rest).collect::<Vec<_>>().join("\n")
}

/// `--watch` goes on saying it.
async fn again_and_again(admin: &Admin, asked: &str) -> Result<()> {
    let mut watching = Command::new(&admin.program)
        .args(["cluster", "status", "--watch", "100ms"])
        .env("TROW_SERVER", format!("http://{asked}"))
        .env("TROW_TOKEN_FILE", &admin.token_file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("its output")?).lines();
    let mut verdicts = 0;
    while verdicts < 3 {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.context("nothing more is said")??;
        verdicts += usize::from(but_for_the_disk(&line.context("the watch ended")?) == HEALTHY);
    }
    Ok(())
}
