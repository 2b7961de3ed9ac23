//! One upload in chunks, by a client that does not give up.
//!
//! It does what the contract allows and no more: after an answer that did not come, or a 503, it asks any
//! node how far the upload is, and goes on from there; the last request it repeats as it is. Always holds:
//! a byte that was once acknowledged is never missing later, or the upload fails with a violation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Body, Method};
use tokio::sync::watch;
use trow_raft::Digest;

use crate::client::{Answer, Client, Unknown, location};
use crate::content::Content;
use crate::process::Node;

/// An upload is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions that nobody could answer.
const PAUSE: Duration = Duration::from_millis(200);

/// An upload that was begun.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What is uploaded.
    pub content: Content,
    /// Its digest.
    pub digest: Digest,
    /// To which repository.
    pub repo: String,
    /// Where the upload goes on, as was last said.
    pub location: String,
    /// Bytes that were acknowledged.
    pub acked: u64,
    /// Bytes of a chunk.
    pub chunk: u64,
}

/// A body that stands still in its middle.
#[derive(Debug)]
pub struct Gate {
    reached: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Closed.
    pub fn closed() -> Self {
        Gate { reached: watch::Sender::new(false), open: watch::Sender::new(false) }
    }

    /// Resolves when the body stands still.
    pub async fn reached(&self) {
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    /// Lets the body go on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Upload {
    /// Begins one of `content` in chunks of `chunk` bytes through `node`.
    pub async fn begin(node: &Client, repo: &str, content: Content, chunk: u64) -> Result<Self> {
        let answer = node.start_upload(repo).await?;
        ensure!(answer.status == 202, "POST through {}: {answer}", node.node);
        let location = location(&answer).context("a Location")?;
        let digest = content.digest();
        Ok(Upload { content, digest, repo: repo.to_owned(), location, acked: 0, chunk })
    }

    /// As [`Upload::begin`], mirrored by `mirror`: which node that is is seen in its data directory, and an
    /// upload that has another is cancelled. A node that has just started may be silent to `node` for a
    /// second, and is asked to mirror nothing until then.
    pub async fn begin_mirrored(
        node: &Client,
        mirror: &Node,
        repo: &str,
        content: Content,
        chunk: u64,
    ) -> Result<Self> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let before = mirror.staged();
            let upload = Upload::begin(node, repo, content, chunk).await?;
            if mirror.staged().iter().any(|file| !before.contains(file)) {
                return Ok(upload);
            }
            let cancelled =
                node.send("DELETE upload", node.request(Method::DELETE, &upload.location)).await?;
            ensure!(cancelled.status == 204, "DELETE: {cancelled}");
            tokio::time::sleep(PAUSE / 10).await;
        }
        bail!("no upload begun at {} had the mirror {} in {PATIENCE:?}", node.node, mirror.name)
    }

    /// The end of the chunk that comes next.
    pub fn next_end(&self) -> u64 {
        (self.acked + self.chunk).min(self.content.len())
    }

    /// Where the body of the next chunk stands still at a gate.
    pub fn middle(&self) -> u64 {
        self.acked.midpoint(self.next_end())
    }

    /// Sends the next chunk through `node`, standing still in its middle at `gate`.
    pub async fn patch(&mut self, node: &Client, gate: Option<&Gate>) -> Result<Result<Answer, Unknown>> {
        let (begin, end) = (self.acked, self.next_end());
        let request = node
            .request(Method::PATCH, &self.location)
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{begin}-{}", end - 1))
            .header("content-length", end - begin)
            .body(self.body(begin, end, gate));
        let answer = node.send("PATCH upload", request).await;
        if let Some(answer) = answer.as_ref().ok().filter(|answer| answer.status == 202) {
            self.take_in(answer, 0)?;
            ensure!(self.acked == end, "PATCH through {} to {end}: Range says {}", node.node, self.acked);
        }
        Ok(answer)
    }

    /// Sends chunks until `end` bytes are acknowledged, each through the next of `nodes`.
    pub async fn push(&mut self, nodes: &[&Client], end: u64) -> Result<()> {
        for turn in 0.. {
            if self.acked >= end {
                break;
            }
            let node = nodes[turn % nodes.len()];
            match self.patch(node, None).await? {
                Ok(answer) if answer.status == 202 => {}
                // The chunk was there already.
                Ok(answer) if answer.status == 416 => self.take_in(&answer, 1)?,
                Ok(answer) if answer.status != 503 => {
                    bail!("PATCH at {} through {}: {answer}", self.acked, node.node)
                }
                Ok(_) | Err(_) => self.ask(nodes).await?,
            }
        }
        Ok(())
    }

    /// Asks `nodes` in turn how far the upload is, until one knows.
    pub async fn ask(&mut self, nodes: &[&Client]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        for node in nodes.iter().cycle() {
            let asked = node.send("GET upload", node.request(Method::GET, &self.location)).await;
            match &asked {
                Ok(answer) if answer.status == 204 => return self.take_in(answer, 0),
                Ok(answer) if answer.status != 503 => {
                    bail!(
                        "the upload of {} acknowledged bytes: GET through {}: {answer}",
                        self.acked,
                        node.node
                    )
                }
                Ok(_) | Err(_) => ensure!(Instant::now() < until, "GET upload: nobody knows: {asked:?}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The last request, once, through `node`; with what is left of the content if `with_rest`.
    pub async fn put(&self, node: &Client, with_rest: bool) -> Result<Answer, Unknown> {
        let (begin, end) = (self.acked, if with_rest { self.content.len() } else { self.acked });
        let mark = if self.location.contains('?') { '&' } else { '?' };
        let path = format!("{}{mark}digest={}", self.location, self.digest);
        let request = node.request(Method::PUT, &path).header("content-length", end - begin);
        node.send("PUT upload", request.body(self.body(begin, end, None))).await
    }

    /// The last request through each of `nodes` in turn until one says 201.
    pub async fn finish(&self, nodes: &[&Client], with_rest: bool) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        for node in nodes.iter().cycle() {
            let answer = self.put(node, with_rest).await;
            match &answer {
                Ok(answer) if answer.status == 201 => return Ok(()),
                Ok(answer) if answer.status != 503 => bail!("PUT through {}: {answer}", node.node),
                Ok(_) | Err(_) => ensure!(Instant::now() < until, "PUT: not done in time: {answer:?}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Takes in what a node says of the upload, which has at least `least` bytes.
    fn take_in(&mut self, answer: &Answer, least: u64) -> Result<()> {
        self.location = location(answer).context("a Location")?;
        let range = answer.header("range").context("a Range")?;
        let last: u64 = range.strip_prefix("0-").and_then(|last| last.parse().ok()).context("0-<last>")?;
        // An upload of nothing is told like one of a byte.
        let said = if last == 0 && self.acked.max(least) == 0 && answer.status != 202 { 0 } else { last + 1 };
        ensure!(said >= self.acked, "{} bytes were acknowledged, now there are {said}", self.acked);
        self.acked = said;
        Ok(())
    }

    fn body(&self, begin: u64, end: u64, gate: Option<&Gate>) -> Body {
        let middle = if gate.is_some() { begin.midpoint(end) } else { end };
        let (first, second) = (self.content.part(begin..middle), self.content.part(middle..end));
        let gate = gate.map(|gate| (gate.reached.clone(), gate.open.subscribe()));
        let wait = stream::once(async move {
            if let Some((reached, mut open)) = gate {
                reached.send_replace(true);
                let _ = open.wait_for(|open| *open).await;
            }
            Bytes::new()
        });
        let all = stream::iter(first).chain(wait).chain(stream::iter(second));
        let all = all.filter(|piece| std::future::ready(!piece.is_empty()));
        Body::wrap_stream(all.map(Ok::<_, std::convert::Infallible>))
    }
}
