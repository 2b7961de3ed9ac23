//! Uploads that nobody finishes cost a bounded amount of space for a bounded time, which is shown; uploads of
//! others, and `Location`s that were tampered with, are unknown.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos_tests::client::{Answer, Client, location};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::metrics;
use chaos_tests::report::scenario;
use chaos_tests::upload::{Gate, Upload};
use futures::stream;
use reqwest::{Body, Method};

const REPO: &str = "limits/blobs";
const LIMIT: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;

/// What a node says of its uploads: as home, as mirror, bytes; and the files in its data directory.
async fn figures(cluster: &Cluster, node: usize) -> Result<(u64, u64, u64, usize)> {
    let node = &cluster.nodes[node];
    let home = metrics::read(node, "trow_uploads", &["role=\"home\""]).await? as u64;
    let mirror = metrics::read(node, "trow_uploads", &["role=\"mirror\""]).await? as u64;
    let bytes = metrics::read(node, "trow_upload_bytes", &[]).await? as u64;
    Ok((home, mirror, bytes, node.staged().len()))
}

/// Waits until no node has an open upload, a staged byte or a staged file.
async fn all_empty(cluster: &Cluster, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    for node in 0..cluster.nodes.len() {
        while figures(cluster, node).await? != (0, 0, 0, 0) {
            let left = figures(cluster, node).await?;
            ensure!(Instant::now() < until, "{} still has {left:?}", cluster.nodes[node].name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn is(answer: &Answer, status: u16, code: &str) -> Result<()> {
    let said = answer.code().unwrap_or_default();
    ensure!(answer.status == status && said == code, "not {status} {code}: {answer}");
    Ok(())
}

fn is_too_many(answer: &Answer) -> Result<()> {
    is(answer, 429, "TOOMANYREQUESTS")?;
    let wait: Option<u64> = answer.header("retry-after").and_then(|text| text.parse().ok());
    ensure!(wait.is_some_and(|seconds| seconds > 0), "no Retry-After: {:?}", answer.headers);
    Ok(())
}

async fn expiry() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3).config("[uploads]\nexpiry = \"4s\"\n")).await?;
    let nodes = cluster.clients();
    all_empty(&cluster, Duration::from_secs(1)).await.context("at the start")?;

    let mut idle =
        Upload::begin_mirrored(&nodes[0], &cluster.nodes[1], REPO, Content::random(2 * MIB), MIB).await?;
    idle.push(&[&nodes[2]], MIB).await?;
    // Cancelled uploads that were mirrored elsewhere are gone by themselves; what is left is this one.
    let until = Instant::now() + Duration::from_secs(3);
    let shown = [(1, 0, MIB, 1), (0, 1, MIB, 1), (0, 0, 0, 0)];
    for (node, expected) in shown.into_iter().enumerate() {
        while figures(&cluster, node).await? != expected {
            let seen = figures(&cluster, node).await?;
            ensure!(Instant::now() < until, "{} shows {seen:?}, not {expected:?}", cluster.nodes[node].name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let status = cluster.admin.status(&nodes[2]).await?;
    for member in status["members"].as_array().context("members")? {
        let expected = if member["name"] == "n3" { (0, 0) } else { (1, MIB) };
        let uploads = &member["uploads"];
        let said = (uploads["sessions"].as_u64(), uploads["bytes"].as_u64());
        ensure!(said == (Some(expected.0), Some(expected.1)), "status says {member}");
    }

    // One that goes on slowly, and one whose body takes longer than the expiry, stay.
    let mut slow = Upload::begin(&nodes[1], REPO, Content::random(12), 1).await?;
    let mut long = Upload::begin(&nodes[2], REPO, Content::random(2 * MIB), 2 * MIB).await?;
    let gate = Gate::closed();
    let began = Instant::now();
    let steps = async {
        for end in 1..=12 {
            slow.push(&[&nodes[end % 3]], end as u64).await?;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        gate.open();
        slow.finish(&[&nodes[0]], false).await
    };
    let (steps, patched) = tokio::join!(steps, long.patch(&nodes[0], Some(&gate)));
    steps.context("an upload in small steps")?;
    ensure!(began.elapsed() > Duration::from_secs(8), "it went on for {:?}", began.elapsed());
    let patched = patched??;
    ensure!(patched.status == 202, "a body of {:?}: {patched}", began.elapsed());
    long.finish(&[&nodes[1]], false).await.context("an upload with a long body")?;

    all_empty(&cluster, Duration::from_secs(10)).await?;
    for node in &nodes {
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let answer = node.send("expired", node.request(method, &idle.location)).await?;
            is(&answer, 404, "BLOB_UPLOAD_UNKNOWN")?;
        }
        is(&idle.put(node, true).await?, 404, "BLOB_UPLOAD_UNKNOWN")?;
    }
    cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_idle_expires_and_frees_its_space() {
    scenario("uploads expire", LIMIT, expiry()).await;
}

/// A body that never ends, of as many bytes as anybody takes.
fn endless() -> Body {
    let piece = Bytes::from_static(&[7; 64 << 10]);
    Body::wrap_stream(stream::repeat_with(move || Ok::<_, std::convert::Infallible>(piece.clone())))
}

async fn limits() -> Result<()> {
    const SESSIONS: usize = 20;
    let config = format!("[uploads]\nmax_sessions = {SESSIONS}\nmax_bytes = \"8MiB\"\n");
    let mut cluster = Cluster::start(Plan::of(3).config(&config)).await?;
    let nodes = cluster.clients();

    // Each is on two nodes, so that 30 fit in 3 nodes of 20; of hundreds the others are refused.
    let (mut open, mut refused) = (Vec::new(), 0);
    for turn in 0..300 {
        let answer = nodes[turn % 3].start_upload(REPO).await?;
        match answer.status {
            202 => open.push(location(&answer).context("a Location")?),
            _ => {
                is_too_many(&answer)?;
                refused += 1;
            }
        }
    }
    ensure!(open.len() <= 3 * SESSIONS / 2 && open.len() > SESSIONS, "{} are open", open.len());
    ensure!(refused + open.len() == 300, "{refused} refused");
    for (index, node) in cluster.nodes.iter().enumerate() {
        let (home, mirror, _, files) = figures(&cluster, index).await?;
        ensure!(home + mirror <= SESSIONS as u64, "{} has {home} and {mirror}", node.name);
        ensure!(files <= SESSIONS, "{} has {files} staged files", node.name);
    }
    for location in &open {
        let cancelled = nodes[1].send("DELETE", nodes[1].request(Method::DELETE, location)).await?;
        ensure!(cancelled.status == 204, "DELETE: {cancelled}");
    }
    all_empty(&cluster, Duration::from_secs(20)).await?;

    // Bytes are bounded too, an endless PATCH ends, and what was taken of it goes with its upload.
    for node in &nodes {
        let begun = node.start_upload(REPO).await?;
        ensure!(begun.status == 202, "POST after the others are gone: {begun}");
        let at = location(&begun).context("a Location")?;
        let answer = node.send("PATCH", node.request(Method::PATCH, &at).body(endless())).await;
        // Whether the answer is read before the connection closes is the client's luck; a second
        // chunk is answered for certain.
        if let Ok(answer) = &answer {
            is_too_many(answer)?;
        }
        let asked = node.send("GET", node.request(Method::GET, &at)).await?;
        ensure!(asked.status == 204, "GET of a full upload: {asked}");
        let range = asked.header("range").context("a Range")?.to_owned();
        let last: u64 = range.strip_prefix("0-").context("0-")?.parse()?;
        ensure!(last < 8 * MIB, "the upload has {range}");
        let at = location(&asked).context("a Location")?;
        let more = node.request(Method::PATCH, &at).body(vec![7; MIB as usize]);
        is_too_many(&node.send("PATCH", more).await?)?;
        for index in 0..3 {
            let bytes = figures(&cluster, index).await?.2;
            ensure!(bytes <= 8 * MIB, "{} has {bytes} bytes staged", cluster.nodes[index].name);
        }
        let cancelled = node.send("DELETE", node.request(Method::DELETE, &at)).await?;
        ensure!(cancelled.status == 204, "DELETE: {cancelled}");
        all_empty(&cluster, Duration::from_secs(20)).await?;
    }
    let content = Content::random(6 * MIB);
    let pushed = nodes[0].push_blob(REPO, content, &content.digest()).await?;
    ensure!(pushed.status == 201, "a push afterwards: {pushed}");
    cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_uploads_and_staged_bytes_are_bounded_on_each_node() {
    scenario("upload limits", LIMIT, limits()).await;
}

async fn leftovers() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let content = Content::random(3 * MIB);
    let mut upload = Upload::begin_mirrored(&nodes[0], &cluster.nodes[1], REPO, content, MIB).await?;
    upload.push(&[&nodes[0]], 2 * MIB).await?;
    for node in [0, 1] {
        ensure!(!cluster.nodes[node].staged().is_empty(), "n{} has nothing staged", node + 1);
    }
    // Everybody who had it is gone at once, and so is the upload.
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    for node in [0, 1] {
        ensure!(!cluster.nodes[node].staged().is_empty(), "a killed node keeps its files");
    }
    cluster.start_all().await?;
    all_empty(&cluster, Duration::from_secs(5)).await.context("after a restart")?;
    for node in &nodes {
        let asked = node.send("GET", node.request(Method::GET, &upload.location)).await?;
        is(&asked, 404, "BLOB_UPLOAD_UNKNOWN")?;
    }
    cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_process_staged_is_removed_when_a_node_starts() {
    scenario("staged leftovers", LIMIT, leftovers()).await;
}

/// GET, PATCH, PUT and DELETE of `location` are 404 BLOB_UPLOAD_UNKNOWN through `node`.
async fn unknown(node: &Client, location: &str, upload: &Upload) -> Result<()> {
    let mark = if location.contains('?') { '&' } else { '?' };
    let put = format!("{location}{mark}digest={}", upload.digest);
    for (method, path) in
        [(Method::GET, location), (Method::PATCH, location), (Method::PUT, &*put), (Method::DELETE, location)]
    {
        let mut request = node.request(method.clone(), path);
        if method == Method::PATCH || method == Method::PUT {
            request = request.body(vec![1; 10]);
        }
        let answer = node.send("foreign", request).await?;
        is(&answer, 404, "BLOB_UPLOAD_UNKNOWN").with_context(|| format!("{method} {path}"))?;
    }
    Ok(())
}

async fn foreign() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let mut upload = Upload::begin(&nodes[0], REPO, Content::random(3 * MIB), MIB).await?;
    let other = Upload::begin(&nodes[0], REPO, Content::random(10), 10).await?;
    upload.push(&[&nodes[1]], MIB).await?;
    let (path, state) = upload.location.split_once("?_state=").context("the state is in the Location")?;
    let (_, others) = other.location.split_once("?_state=").context("the state is in the Location")?;
    let mut tampered = vec![
        upload.location.replace(REPO, "limits/other"),
        path.to_owned(),
        format!("{path}?_state="),
        format!("{path}?_state={others}"),
        format!("{path}?_state={state}A"),
        format!("{path}?_state={}", &state[..state.len() - 1]),
        format!("{path}?_state=%7B%22offset%22%3A0%7D"),
    ];
    // Whatever the byte says, it is under the seal.
    for at in (0..state.len()).step_by(state.len() / 12) {
        let letter = if state.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut changed = state.to_owned();
        changed.replace_range(at..=at, letter);
        tampered.push(format!("{path}?_state={changed}"));
    }
    for node in &nodes {
        for location in &tampered {
            unknown(node, location, &upload).await?;
        }
    }

    // Out of order; and the upload is as it was.
    for node in &nodes {
        for range in [
            format!("0-{}", MIB - 1),
            format!("{}-{}", MIB + 1, 2 * MIB),
            format!("{}-{}", MIB - 1, 2 * MIB - 2),
        ] {
            let request = node.request(Method::PATCH, &upload.location).header("content-range", &range);
            let answer = node.send("PATCH", request.body(vec![0; MIB as usize])).await?;
            is(&answer, 416, "BLOB_UPLOAD_INVALID").with_context(|| range.clone())?;
            let told = answer.header("range").unwrap_or_default();
            ensure!(told == format!("0-{}", MIB - 1), "416 says {told}");
            ensure!(location(&answer).is_some(), "416 without a Location");
        }
    }
    let all: Vec<&Client> = nodes.iter().collect();
    upload.ask(&all).await?;
    ensure!(upload.acked == MIB, "{} bytes", upload.acked);
    upload.push(&all, 2 * MIB).await?;
    upload.finish(&all, true).await?;
    for node in &nodes {
        let late = node.request(Method::PATCH, &upload.location).body(vec![0; 10]);
        is(&node.send("PATCH", late).await?, 404, "BLOB_UPLOAD_UNKNOWN").context("PATCH after close")?;
        let late = node.request(Method::GET, &upload.location);
        is(&node.send("GET", late).await?, 404, "BLOB_UPLOAD_UNKNOWN").context("GET after close")?;
    }
    cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_others_and_tampered_locations_are_unknown() {
    scenario("foreign uploads", LIMIT, foreign()).await;
}
