//! Forgetting cached manifests that nobody asks for, so that the agreed state does not grow for ever.
//!
//! Neither the age of a manifest nor whether a tag points to it says whether it is of use: an image that is
//! pulled by digest every day has no tag, and a build of last year has one. So nodes note what is asked for
//! ([`Asked`]), each manifest at most about once a day, and the leader has those reclaimed that nobody asked for
//! in [`KEEP`], and sooner the least recently wanted when they take much of the room that there is for them.
//! Always holds: time is state time; what is pinned, what an index that stays names, and what somebody asked for
//! in the last days stays.
//! Never does: unlink files, or make a pull wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use trow_raft::command::SYSTEM;
use trow_raft::limits::CACHED_MAX;
use trow_raft::metadata::{NoQuorum, ProposeError};
use trow_raft::name::CACHED;
use trow_raft::{Command, Digest, Metadata, RepoName, StateError, View};

use crate::replicated::Agreement;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a cached manifest stays that nobody asks for.
pub const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// What somebody asked for this lately stays however much there is, since it is noted about once a day; those who
/// flood the cache with new manifests take nothing from those who use it.
const STAYS: Duration = Duration::from_secs(2 * 24 * 3600);
/// When all together weigh more than this, those that were not asked for the longest go until they weigh less.
const ROOM: Room = Room { high: CACHED_MAX / 4 * 3, low: CACHED_MAX / 2 };
/// How often the leader looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Manifests of one entry of the log, and of one look at the state.
const BATCH: usize = 1000;
/// How long to gather more that was asked for before it is proposed.
const GATHER: Duration = Duration::from_secs(1);
/// What waits to be proposed; what is beyond that is noted when it is asked for again.
const WAITING: usize = 4096;

/// Why nothing was forgotten this time. It is tried again.
#[derive(Debug, thiserror::Error)]
enum ForgetError {
    #[error(transparent)]
    NoQuorum(#[from] NoQuorum),
    #[error("read the state")]
    State(#[from] StateError),
    #[error("propose")]
    Propose(#[from] ProposeError),
}

/// How much cached manifests may weigh.
#[derive(Clone, Copy)]
struct Room {
    high: u64,
    low: u64,
}

/// Notes what is asked for. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub struct Asked {
    agreed: Agreement,
    tell: mpsc::Sender<(RepoName, Digest)>,
}

impl Asked {
    /// Over the agreed state. Needs a Tokio runtime.
    pub fn new(agreed: Agreement) -> Asked {
        let (tell, told) = mpsc::channel(WAITING);
        tokio::spawn(propose_asked(agreed.clone(), told));
        Asked { agreed, tell }
    }

    /// Somebody asked for a manifest, which may be cached or not.
    pub fn note(&self, repo: &RepoName, digest: &Digest) {
        let due = (self.agreed.view)().and_then(|view| is_due(&view, repo, digest));
        if due.unwrap_or(false) {
            // When there are too many it is noted the next time.
            let _ = self.tell.try_send((repo.clone(), *digest));
        }
    }
}

/// Whether nobody is known to have asked for it in the last day.
fn is_due(view: &View, repo: &RepoName, digest: &Digest) -> Result<bool, StateError> {
    let Some(at) = view.asked_for(repo, digest)? else { return Ok(false) };
    Ok(view.time()?.saturating_sub(at) >= DAY.as_millis() as u64)
}

async fn propose_asked(agreed: Agreement, mut told: mpsc::Receiver<(RepoName, Digest)>) {
    while let Some(first) = told.recv().await {
        let mut asked = BTreeSet::from([first]);
        sleep(GATHER).await;
        while asked.len() < BATCH
            && let Ok(more) = told.try_recv()
        {
            asked.insert(more);
        }
        // Another node, or the batch before, may have said so.
        let Ok(view) = (agreed.view)() else { continue };
        asked.retain(|(repo, digest)| is_due(&view, repo, digest).unwrap_or(false));
        drop(view);
        if asked.is_empty() {
            continue;
        }
        let command = Command::WantCached { manifests: asked.into_iter().collect() };
        if let Err(error) = (agreed.propose)(SYSTEM, command).await {
            tracing::debug!(cause = %error, "what was asked for is noted when it is asked for again");
        }
    }
}

/// Has the leader, if this node leads, forget what is due, again and again.
pub async fn run(metadata: Metadata) {
    let agreed = Agreement::from(&metadata);
    loop {
        sleep(EVERY).await;
        if metadata.leadership().leader != Some(metadata.id()) {
            continue;
        }
        match pass(&agreed, ROOM).await {
            Ok(0) => {}
            Ok(proposed) => tracing::info!(proposed, "cached manifests that nobody asked for were forgotten"),
            Err(error) => {
                tracing::info!(cause = %error, "no cached manifests were forgotten; it is tried again within the hour");
            }
        }
    }
}

/// Goes once through all that is cached; how many were found that nobody asks for.
async fn pass(agreed: &Agreement, room: Room) -> Result<u64, ForgetError> {
    let keep = crowded(agreed, room).await?;
    let mut after: Option<(RepoName, Digest)> = None;
    let mut proposed = 0;
    loop {
        let view = (agreed.confirmed)().await?;
        let before = view.time()?.saturating_sub(KEEP.as_millis() as u64).max(keep);
        let from = after.clone();
        // It reads many rows.
        let found = tokio::task::spawn_blocking(move || unused(&view, from, before)).await;
        let found = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        if !found.unused.is_empty() {
            proposed += found.unused.len() as u64;
            (agreed.propose)(SYSTEM, Command::ReclaimCached { manifests: found.unused, before }).await?;
        }
        after = found.last;
        if after.is_none() {
            return Ok(proposed);
        }
    }
}

/// The state time before which those that nobody asked for since must go to make room; 0 when there is enough.
async fn crowded(agreed: &Agreement, room: Room) -> Result<u64, ForgetError> {
    let view = (agreed.confirmed)().await?;
    let weight = view.cached_bytes()?;
    if weight <= room.high {
        return Ok(0);
    }
    let limit = view.time()?.saturating_sub(STAYS.as_millis() as u64);
    drop(view);
    let (mut ages, mut after) = (BTreeMap::<u64, u64>::new(), None);
    loop {
        let view = (agreed.view)()?;
        let from = after.take();
        let looked = tokio::task::spawn_blocking(move || weighed(&view, from, limit)).await;
        let (found, last) = looked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        for (asked_for, weight) in found {
            *ages.entry(asked_for).or_default() += weight;
        }
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let (mut excess, mut before) = (weight.saturating_sub(room.low), 0);
    for (asked_for, weight) in ages {
        if excess == 0 {
            break;
        }
        before = asked_for + 1;
        excess = excess.saturating_sub(weight);
    }
    tracing::warn!(
        weight,
        most = CACHED_MAX,
        left = excess,
        "cached manifests take much of their room in the state, and those that were not asked for the longest are forgotten; if it repeats, see who pulls so many images, and say with upstream.allow what may be pulled"
    );
    Ok(before)
}

/// Where to go on after a part; none after the last.
type Next = Option<(RepoName, Digest)>;

/// Of a part of what is cached, when each that may go was last asked for and what it weighs.
fn weighed(view: &View, after: Next, limit: u64) -> Result<(Vec<(u64, u64)>, Next), StateError> {
    let part = view.cached(CACHED, after.as_ref().map(|(repo, digest)| (repo, digest)), BATCH)?;
    let last = part.last().filter(|_| part.len() == BATCH).map(|last| (last.repo.clone(), last.digest));
    let mut found = Vec::new();
    for one in part.into_iter().filter(|one| one.asked_for < limit) {
        let weight = view.cached_weight(&one.repo, &one.digest)?;
        found.extend(weight.map(|weight| (one.asked_for, weight)));
    }
    Ok((found, last))
}

/// A part of what is cached.
struct Found {
    unused: Vec<(RepoName, Digest)>,
    /// Where the next part begins; none after the last.
    last: Option<(RepoName, Digest)>,
}

/// Of a part those that may go: apply looks again.
fn unused(view: &View, after: Option<(RepoName, Digest)>, before: u64) -> Result<Found, StateError> {
    let pinned = view.pinned()?;
    let part = view.cached(CACHED, after.as_ref().map(|(repo, digest)| (repo, digest)), BATCH)?;
    let last = part.last().filter(|_| part.len() == BATCH).map(|last| (last.repo.clone(), last.digest));
    let mut unused = Vec::new();
    for one in part.into_iter().filter(|one| one.asked_for < before) {
        let key = (one.repo, one.digest);
        // A child goes a round after what names it.
        if !pinned.contains(&key) && view.parents(&key.0, &key.1)?.is_empty() {
            unused.push(key);
        }
    }
    Ok(Found { unused, last })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trow_raft::command::NewManifest;
    use trow_raft::{Generation, Member, MemberState, NodeId, Outcome, Reference};

    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    fn manifest(text: &str, children: &[Digest]) -> NewManifest {
        NewManifest {
            digest: Digest::sha256(text.as_bytes()),
            media_type: "m".into(),
            artifact_type: None,
            bytes: Bytes::from(text.to_owned()),
            blobs: Vec::new(),
            children: children.to_vec(),
            subject: None,
            descriptor: None,
        }
    }

    async fn done(metadata: &Metadata, command: Command) {
        assert_eq!(metadata.propose("test", command).await.unwrap().outcome, Outcome::Done);
    }

    fn left(metadata: &Metadata) -> BTreeSet<Digest> {
        let cached = metadata.local().cached(CACHED, None, 99).unwrap();
        cached.into_iter().map(|one| one.digest).collect()
    }

    /// A cluster of one.
    async fn alone() -> (Metadata, tempfile::TempDir) {
        let (dir, me) = (tempfile::tempdir().unwrap(), NodeId(1));
        let metadata = Metadata::open(trow_raft::Settings::alone(me, dir.path())).await.unwrap();
        metadata.initialize(BTreeSet::from([me])).await.unwrap();
        let member = Member {
            id: me,
            name: "n1".into(),
            zone: String::new(),
            state: MemberState::Active,
            generation: Generation(1),
            max_level: trow_raft::command::LEVEL,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        };
        tokio::time::timeout(BOUND, metadata.birth(1, vec![member])).await.unwrap();
        (metadata, dir)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_nobody_asks_for_is_forgotten_and_what_somebody_asks_for_is_not() {
        let (metadata, _dir) = alone().await;
        let repo: RepoName = "f/quay.io/app".parse().unwrap();
        let [pulled, tagged, pinned, child] =
            ["pulled", "tagged", "pinned", "child"].map(|text| manifest(text, &[]));
        let index = manifest("index", &[child.digest]);
        let tag = Some(("v1".parse().unwrap(), 0));
        for (manifest, tag) in
            [(&pulled, None), (&tagged, tag), (&pinned, None), (&child, None), (&index, None)]
        {
            let (repo, manifest) = (repo.clone(), manifest.clone());
            done(&metadata, Command::PutCached { repo, manifest, tag }).await;
        }
        let pin = (repo.clone(), Reference::Digest(pinned.digest));
        done(&metadata, Command::SetPins { add: vec![pin], remove: Vec::new() }).await;
        let agreed = Agreement::from(&metadata);
        let asked = Asked::new(agreed.clone());
        asked.note(&repo, &pulled.digest);
        assert!(!is_due(&metadata.local(), &repo, &pulled.digest).unwrap(), "it came today");

        let days = |days: u32| Command::Tick { elapsed: (days * DAY).as_millis() as u64 };
        done(&metadata, days(25)).await;
        assert_eq!(pass(&agreed, ROOM).await.unwrap(), 0, "it is too early");
        asked.note(&repo, &pulled.digest);
        asked.note(&repo, &Digest::sha256(b"never here"));
        let noted = async {
            while is_due(&metadata.local(), &repo, &pulled.digest).unwrap() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(BOUND, noted).await.expect("it is noted");
        done(&metadata, days(6)).await;

        assert_eq!(pass(&agreed, ROOM).await.unwrap(), 2);
        let digests = |of: &[&NewManifest]| of.iter().map(|one| one.digest).collect::<BTreeSet<_>>();
        assert_eq!(left(&metadata), digests(&[&pulled, &pinned, &child]), "the child was named until now");
        assert_eq!(pass(&agreed, ROOM).await.unwrap(), 1);
        assert_eq!(left(&metadata), digests(&[&pulled, &pinned]));
        done(&metadata, days(31)).await;
        assert_eq!(pass(&agreed, ROOM).await.unwrap(), 1);
        assert_eq!(left(&metadata), digests(&[&pinned]));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn when_there_are_too_many_the_least_recently_wanted_go_first() {
        let (metadata, _dir) = alone().await;
        let repo: RepoName = "f/quay.io/app".parse().unwrap();
        let agreed = Agreement::from(&metadata);
        let days = |days: u32| Command::Tick { elapsed: (days * DAY).as_millis() as u64 };
        // One a day, each of the same weight.
        let all: Vec<NewManifest> = (0..10).map(|n| manifest(&n.to_string(), &[])).collect();
        for one in &all {
            let (repo, manifest) = (repo.clone(), one.clone());
            done(&metadata, Command::PutCached { repo, manifest, tag: None }).await;
            done(&metadata, days(1)).await;
        }
        let pin = (repo.clone(), Reference::Digest(all[1].digest));
        done(&metadata, Command::SetPins { add: vec![pin], remove: Vec::new() }).await;
        // The oldest is asked for again.
        done(&metadata, Command::WantCached { manifests: vec![(repo.clone(), all[0].digest)] }).await;
        let one = all[0].weight();
        assert_eq!(metadata.local().cached_bytes().unwrap(), 10 * one);
        let kept = |numbers: &[usize]| numbers.iter().map(|n| all[*n].digest).collect::<BTreeSet<_>>();
        let room = |high: u64, low: u64| Room { high: high * one, low: low * one };
        assert_eq!(pass(&agreed, room(10, 5)).await.unwrap(), 0, "there is room");
        // Four must go, of which one is pinned; it is made up for the next time.
        assert_eq!(pass(&agreed, room(9, 6)).await.unwrap(), 3);
        assert_eq!(left(&metadata), kept(&[0, 1, 5, 6, 7, 8, 9]));
        // What was asked for in the last days stays, however much it is.
        assert_eq!(pass(&agreed, room(0, 0)).await.unwrap(), 3);
        assert_eq!(left(&metadata), kept(&[0, 1, 8, 9]));
        assert_eq!(metadata.local().cached_bytes().unwrap(), 4 * one);
    }
}
