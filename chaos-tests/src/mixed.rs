//! Clients that push and pull without a pause and forgive nothing but a refused connection.
//!
//! Blobs go up in one request, in two and in several, from a few KiB to 64 MiB; images are pushed and
//! tags moved; everything that was acknowledged is read back by tag and by digest, and each byte checked.
//! Whatever is not the right answer is a [`Failure`]. Tags are shared by all clients and recorded in a
//! history, whose judge knows what a reader of a tag may see.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream;
use rand::Rng;
use rand::seq::IndexedRandom;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method};
use tokio::task::JoinSet;
use trow_raft::Digest;

use crate::client::{Answer, Unknown, location};
use crate::content::Content;
use crate::history::{Event, History, Kind, Op};
use crate::image::{Image, MANIFEST};
use crate::kept::{Kept, Reply};
use crate::load::Acked;
use crate::process::Node;

/// How many tags all clients move.
const TAGS: usize = 12;
/// What a big blob has.
const BIG: u64 = 64 << 20;
/// And a middling one.
const MIDDLE: u64 = 1 << 20;

/// Something that a client must not see.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When, since the load began.
    pub at: Duration,
    /// Which operation.
    pub what: &'static str,
    /// What was seen instead of the right answer.
    pub saw: String,
    /// The status was 5xx.
    pub is_5xx: bool,
    /// A body ended too early.
    pub is_short: bool,
}

/// What the clients did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Operations that ended well.
    pub done: u64,
    /// Of them, those with a 64 MiB blob.
    pub big: u64,
    /// Everything that did not.
    pub failures: Vec<Failure>,
    /// The operation that took longest: how long, when it began, which.
    pub longest: Option<(Duration, Duration, &'static str)>,
    /// Refused connections.
    pub refused: u64,
    /// Kept connections that were found closed.
    pub replaced: u64,
    /// Answers about tags that said that they are stale, as they may when no leader confirms them in time.
    pub stale: u64,
    /// Requests that met the close of an idle connection half-way.
    pub crossed: u64,
}

/// What the clients share.
#[derive(Debug)]
pub struct Shared {
    /// What was seen of tags.
    pub history: History,
    repo: String,
    began: Instant,
    acked: Mutex<Vec<Acked>>,
    big: Mutex<Vec<Digest>>,
    /// Big blobs that may still be pushed.
    big_left: AtomicUsize,
    tally: Mutex<Tally>,
    done: AtomicU64,
    stop: AtomicBool,
}

/// Clients at work until they are told to stop.
#[derive(Debug)]
pub struct Mixed {
    /// What they share.
    pub shared: Arc<Shared>,
    clients: JoinSet<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mixed {
    /// `count` clients of all `nodes`, which push at most `big` blobs of 64 MiB.
    pub fn start(count: usize, nodes: &[Node], big: usize) -> Self {
        let shared = Arc::new(Shared {
            history: History::default(),
            repo: format!("mixed-{:08x}/app", rand::random::<u32>()),
            began: Instant::now(),
            acked: Mutex::default(),
            big: Mutex::default(),
            big_left: AtomicUsize::new(big),
            tally: Mutex::default(),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut clients = JoinSet::new();
        for index in 0..count {
            let proc = shared.history.proc();
            let one = One { shared: shared.clone(), http: Kept::new(nodes, index), proc };
            clients.spawn(one.work());
        }
        Mixed { shared, clients }
    }

    /// Lets each client finish what it is doing.
    pub async fn stop(mut self) -> (Arc<Shared>, Tally) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let tally = lock(&self.shared.tally).clone();
        (self.shared, tally)
    }
}

impl Shared {
    /// Operations that ended well so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Things so far that no client may see.
    pub fn failures(&self) -> usize {
        lock(&self.tally).failures.len()
    }

    /// How long the load has been running.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Everything acknowledged so far.
    pub fn acked(&self) -> Vec<Acked> {
        lock(&self.acked).clone()
    }
}

/// Why an operation failed, in words.
struct Wrong {
    saw: String,
    status: u16,
}

impl From<Unknown> for Wrong {
    fn from(unknown: Unknown) -> Self {
        Wrong { saw: unknown.to_string(), status: 0 }
    }
}

impl Wrong {
    fn answer(what: &str, reply: &Reply) -> Self {
        let Reply { node, answer, len, .. } = reply;
        Wrong { saw: format!("{what} through {node}: {answer} ({len} bytes)"), status: answer.status }
    }
}

type Done = Result<(), Wrong>;

/// One client.
struct One {
    shared: Arc<Shared>,
    http: Kept,
    proc: u64,
}

impl One {
    async fn work(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let (dice, turn, len) = {
                let mut rng = rand::rng();
                (rng.random_range(0..1000), rng.random_range(0..4), rng.random_range(1..128 << 10))
            };
            if turn == 0 {
                self.http.move_on();
            }
            let (began, since) = (Instant::now(), self.shared.elapsed());
            let (what, ended) = match dice {
                0..15 if self.may_push_big() => ("push 64 MiB", self.push_blob(Content::random(BIG)).await),
                0..15 => ("pull 64 MiB", self.pull_big().await),
                15..45 => ("push 1 MiB", self.push_blob(Content::random(MIDDLE)).await),
                45..200 => ("push blob", self.push_blob(Content::random(len)).await),
                200..360 => ("push image", self.push_image(len >> 3).await),
                360..600 => ("read tag", self.read_tag().await),
                600..720 => ("read manifest", self.read_manifest().await),
                720..900 => ("pull blob", self.pull_blob().await),
                900..960 => ("head blob", self.head_blob().await),
                _ => ("read what is not there", self.read_absent().await),
            };
            let took = began.elapsed();
            let mut tally = lock(&self.shared.tally);
            if tally.longest.is_none_or(|(longest, ..)| took > longest) {
                tally.longest = Some((took, since, what));
            }
            match ended {
                Ok(()) => {
                    tally.done += 1;
                    tally.big += u64::from(what.ends_with("64 MiB"));
                    self.shared.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(Wrong { saw, status }) => {
                    let (is_5xx, is_short) = (status >= 500, saw.contains("short body"));
                    tally.failures.push(Failure {
                        at: self.shared.elapsed(),
                        what,
                        saw: format!("{saw}, after {took:.1?}"),
                        is_5xx,
                        is_short,
                    });
                }
            }
        }
        let mut tally = lock(&self.shared.tally);
        tally.refused += self.http.refused;
        tally.replaced += self.http.replaced;
        tally.crossed += self.http.crossed;
    }

    fn may_push_big(&self) -> bool {
        let left = &self.shared.big_left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// The right answer has this status.
    fn expect(&self, what: &str, reply: Reply, status: u16) -> Result<Reply, Wrong> {
        if reply.answer.status == status { Ok(reply) } else { Err(Wrong::answer(what, &reply)) }
    }

    /// Sends a part of `content`, `from..to`, with a length or without.
    async fn body(
        &mut self,
        (method, path): (Method, &str),
        (content, from, to): (Content, u64, u64),
        extra: &[(&str, String)],
    ) -> Result<Reply, Unknown> {
        let sent = self.http.send(method, path, |mut request| {
            request = request.header(CONTENT_TYPE, "application/octet-stream");
            for (name, value) in extra {
                request = request.header(*name, value);
            }
            let pieces = stream::iter(content.part(from..to).map(Ok::<_, std::convert::Infallible>));
            request.body(if from == to { Body::from("") } else { Body::wrap_stream(pieces) })
        });
        sent.await
    }

    async fn push_blob(&mut self, content: Content) -> Done {
        let digest = content.digest();
        let ways = if content.len() < MIDDLE { 3 } else { 4 };
        let way = rand::rng().random_range(0..ways);
        let pushed = match way {
            0 => self.push_at_once(content, &digest).await,
            1 => self.push_in_parts(content, &digest, 0).await,
            2 => self.push_in_parts(content, &digest, 1).await,
            _ => self.push_in_parts(content, &digest, 4).await,
        };
        pushed?;
        let repo = self.shared.repo.clone();
        lock(&self.shared.acked).push(Acked::Blob(repo, digest));
        if content.len() == BIG {
            lock(&self.shared.big).push(digest);
        }
        Ok(())
    }

    /// In a single POST.
    async fn push_at_once(&mut self, content: Content, digest: &Digest) -> Done {
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.shared.repo);
        let length = [(CONTENT_LENGTH.as_str(), content.len().to_string())];
        let sent = self.body((Method::POST, &path), (content, 0, content.len()), &length).await?;
        self.expect("POST blob", sent, 201).map(drop)
    }

    /// By POST, so many PATCHes (the only one streamed as docker does), and a PUT with what is left. The
    /// requests go through one node, or each through another.
    async fn push_in_parts(&mut self, content: Content, digest: &Digest, patches: u64) -> Done {
        let wander = rand::rng().random_range(0..3) == 0;
        let path = format!("/v2/{}/blobs/uploads/", self.shared.repo);
        let zero = [(CONTENT_LENGTH.as_str(), "0".to_owned())];
        let started = self.body((Method::POST, &path), (content, 0, 0), &zero).await?;
        let mut reply = self.expect("POST upload", started, 202)?;
        let (mut from, end) = (0, content.len());
        for patch in 0..patches {
            if wander {
                self.http.move_on();
            }
            let path = location(&reply.answer).ok_or_else(|| Wrong::answer("no Location", &reply))?;
            let to = if patches == 1 { end } else { end / (patches + 1) * (patch + 1) };
            let chunk = [
                ("content-range", format!("{from}-{}", to - 1)),
                (CONTENT_LENGTH.as_str(), (to - from).to_string()),
            ];
            let extra = if patches == 1 { &[][..] } else { &chunk };
            let sent = self.body((Method::PATCH, &path), (content, from, to), extra).await?;
            reply = self.expect("PATCH upload", sent, 202)?;
            let range = format!("0-{}", to - 1);
            if reply.answer.header("range") != Some(&range) {
                return Err(Wrong::answer(&format!("Range is not {range}"), &reply));
            }
            from = to;
        }
        if wander {
            self.http.move_on();
        }
        let path = location(&reply.answer).ok_or_else(|| Wrong::answer("no Location", &reply))?;
        let mark = if path.contains('?') { '&' } else { '?' };
        let length = [(CONTENT_LENGTH.as_str(), (end - from).to_string())];
        let path = format!("{path}{mark}digest={digest}");
        let sent = self.body((Method::PUT, &path), (content, from, end), &length).await?;
        self.expect("PUT upload", sent, 201).map(drop)
    }

    fn begin(&self, f: Op, tag: &str, digest: Option<&Digest>) -> Event {
        let event = Event::new(self.proc, self.http.node(), Kind::Invoke, f, &self.shared.repo);
        let event = Event { tag: Some(tag.to_owned()), digest: digest.map(ToString::to_string), ..event };
        self.shared.history.record(event.clone());
        event
    }

    /// Records the end of an operation on a tag; after one of unknown outcome this client is another.
    fn end(&mut self, begun: Event, sent: &Result<Reply, Unknown>) {
        let mut end = begun;
        match sent {
            Ok(Reply { answer, node, .. }) => {
                (end.status, end.log_id, end.stale) = (Some(answer.status), answer.log_id(), answer.stale());
                end.code = answer.code();
                end.node.clone_from(node);
                end.kind = match answer.status {
                    200..300 => Kind::Ok,
                    500.. => Kind::Info,
                    _ => Kind::Fail,
                };
                if end.f == Op::GetTag && end.kind == Kind::Ok {
                    end.digest = Some(Digest::sha256(&answer.body).to_string());
                }
            }
            Err(unknown) => (end.kind, end.code) = (Kind::Info, Some(unknown.to_string())),
        }
        let known = end.kind != Kind::Info;
        self.shared.history.record(end);
        if !known {
            self.proc = self.shared.history.proc();
        }
    }

    async fn push_image(&mut self, layer: u64) -> Done {
        let image = Image::random(&[layer.max(1)]);
        for (digest, content) in &image.blobs {
            match content.len() {
                0..100 => self.push_at_once(*content, digest).await?,
                _ => self.push_in_parts(*content, digest, 1).await?,
            }
        }
        let tag = format!("t{}", rand::rng().random_range(0..TAGS));
        let begun = self.begin(Op::PutTag, &tag, Some(&image.digest));
        let path = format!("/v2/{}/manifests/{tag}", self.shared.repo);
        let put = |request: hyper::http::request::Builder| {
            request.header(CONTENT_TYPE, MANIFEST).body(Body::from(image.manifest.clone()))
        };
        let sent = self.http.send(Method::PUT, &path, put).await;
        self.end(begun, &sent);
        self.expect("PUT manifest", sent?, 201)?;
        lock(&self.shared.acked).push(Acked::Manifest(self.shared.repo.clone(), image));
        Ok(())
    }

    async fn get(&mut self, method: Method, path: &str) -> Result<Reply, Unknown> {
        self.http.send(method, path, |request| request.header(ACCEPT, MANIFEST).body(Body::from(""))).await
    }

    async fn read_tag(&mut self) -> Done {
        let tag = format!("t{}", rand::rng().random_range(0..TAGS));
        let begun = self.begin(Op::GetTag, &tag, None);
        let sent = self.get(Method::GET, &format!("/v2/{}/manifests/{tag}", self.shared.repo)).await;
        self.end(begun, &sent);
        let reply = sent?;
        match &reply.answer {
            Answer { status: 200, .. } => {
                lock(&self.shared.tally).stale += u64::from(reply.answer.stale());
                Ok(())
            }
            // Until somebody pushed it; the judge knows whether somebody had.
            Answer { status: 404, .. } => Ok(()),
            _ => Err(Wrong::answer("GET tag", &reply)),
        }
    }

    fn pick<T>(&self, which: impl Fn(&Acked) -> Option<T>) -> Option<T> {
        let acked = lock(&self.shared.acked);
        // What was pushed last is the likeliest to be where it must be found.
        let recent = acked.len().saturating_sub(400);
        let from = if rand::rng().random_range(0..2) == 0 { recent } else { 0 };
        (0..8).find_map(|_| which(acked[from..].choose(&mut rand::rng())?))
    }

    async fn read_manifest(&mut self) -> Done {
        let image = self.pick(|acked| match acked {
            Acked::Manifest(_, image) => Some((image.digest, image.manifest.clone())),
            Acked::Blob(..) => None,
        });
        let Some((digest, bytes)) = image else { return Ok(()) };
        let reply = self.get(Method::GET, &format!("/v2/{}/manifests/{digest}", self.shared.repo)).await?;
        let reply = self.expect("GET manifest", reply, 200)?;
        if reply.answer.body == bytes { Ok(()) } else { Err(Wrong::answer("other bytes", &reply)) }
    }

    async fn pull(&mut self, digest: Digest) -> Done {
        let reply = self.get(Method::GET, &format!("/v2/{}/blobs/{digest}", self.shared.repo)).await?;
        let reply = self.expect("GET blob", reply, 200)?;
        if reply.digest == digest { Ok(()) } else { Err(Wrong::answer("other bytes", &reply)) }
    }

    fn pick_blob(&self) -> Option<Digest> {
        let big = lock(&self.shared.big).clone();
        self.pick(|acked| match acked {
            Acked::Blob(_, digest) => (!big.contains(digest)).then_some(*digest),
            Acked::Manifest(_, image) => image.blobs.last().map(|(digest, _)| *digest),
        })
    }

    async fn pull_blob(&mut self) -> Done {
        let Some(digest) = self.pick_blob() else { return Ok(()) };
        self.pull(digest).await
    }

    async fn pull_big(&mut self) -> Done {
        let big = lock(&self.shared.big).choose(&mut rand::rng()).copied();
        let Some(digest) = big else { return Ok(()) };
        self.pull(digest).await
    }

    async fn head_blob(&mut self) -> Done {
        let Some(digest) = self.pick_blob() else { return Ok(()) };
        let reply = self.get(Method::HEAD, &format!("/v2/{}/blobs/{digest}", self.shared.repo)).await?;
        self.expect("HEAD blob", reply, 200).map(drop)
    }

    async fn read_absent(&mut self) -> Done {
        let reply = self.get(Method::GET, &format!("/v2/{}/manifests/absent", self.shared.repo)).await?;
        self.expect("GET absent", reply, 404).map(drop)
    }
}
