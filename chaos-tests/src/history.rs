//! What clients did and saw, in the order in which one harness process recorded it.
//!
//! One line of JSON per event. An operation is an `invoke` and at most one completion by the same
//! `proc`; a mutation that timed out, was reset or answered 5xx completes as `info`: it may have taken
//! effect then, later, or never. After an `info` its proc does nothing more.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sent.
    Invoke,
    /// Answered as wished.
    Ok,
    /// Answered, and had no effect.
    Fail,
    /// The outcome is unknown.
    Info,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Push a blob.
    PushBlob,
    /// Read a whole blob.
    PullBlob,
    /// Push a manifest under a tag.
    PutTag,
    /// Read a tag.
    GetTag,
    /// Read a manifest by digest.
    GetManifest,
    /// Something done to the cluster.
    Fault,
}

impl Op {
    /// Everything that clients do.
    pub const EACH: [Op; 5] = [Op::PushBlob, Op::PullBlob, Op::PutTag, Op::GetTag, Op::GetManifest];
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds on the monotonic clock since the history began.
    pub t: u64,
    /// Who.
    pub proc: u64,
    /// Through which node, or to which.
    pub node: String,
    /// How far.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What.
    pub f: Op,
    /// In which repository; for a fault, which.
    pub repo: String,
    /// Under which tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Which content: of a push what is pushed, of a read what came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `Trow-Log-Id` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<u64>,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The OCI error code, or why the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The answer said that it is stale.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl Event {
    /// An event with only the fields that each has.
    pub fn new(proc: u64, node: &str, kind: Kind, f: Op, repo: &str) -> Self {
        Event {
            t: 0,
            proc,
            node: node.to_owned(),
            kind,
            f,
            repo: repo.to_owned(),
            tag: None,
            digest: None,
            log_id: None,
            status: None,
            code: None,
            stale: false,
        }
    }
}

/// Records events of many tasks at once.
#[derive(Debug)]
pub struct History {
    began: Instant,
    procs: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Default for History {
    fn default() -> Self {
        History { began: Instant::now(), procs: AtomicU64::new(1), events: Mutex::new(Vec::new()) }
    }
}

impl History {
    /// A number for a process that no other has.
    pub fn proc(&self) -> u64 {
        self.procs.fetch_add(1, Ordering::Relaxed)
    }

    /// Records `event` as of now.
    pub fn record(&self, mut event: Event) {
        let mut events = self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        event.t = self.began.elapsed().as_nanos() as u64;
        events.push(event);
    }

    /// Records something done to `node`.
    pub fn fault(&self, node: &str, what: &str) {
        self.record(Event::new(0, node, Kind::Info, Op::Fault, what));
    }

    /// Whether an operation of each kind was acknowledged.
    pub fn has_each_kind(&self) -> bool {
        let events = self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Op::EACH.iter().all(|op| events.iter().any(|event| event.f == *op && event.kind == Kind::Ok))
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Writes all events as lines of JSON.
    pub fn write(&self, file: &Path) -> Result<()> {
        let mut out = BufWriter::new(File::create(file)?);
        for event in self.events() {
            serde_json::to_writer(&mut out, &event)?;
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }
}

/// Reads a history back from lines of JSON.
pub fn parse(text: &str) -> Result<Vec<Event>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| Ok(serde_json::from_str(line)?)).collect()
}
