//! Clients at work: pushing images and moving tags, reading both back, through every node.
//!
//! A few tags are shared by all clients, so that each has many writers and readers at once; what was
//! acknowledged is kept for the [`audit`](crate::audit) at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::task::JoinSet;
use trow_raft::Digest;

use crate::client::{Answer, Client, Unknown};
use crate::content::Content;
use crate::history::{Event, History, Kind, Op};
use crate::image::{Image, MANIFEST};

/// How many tags all clients move.
const TAGS: usize = 4;

/// What was acknowledged.
#[derive(Clone, Debug)]
pub enum Acked {
    /// A blob in a repository.
    Blob(String, Digest),
    /// A manifest in a repository, under a tag.
    Manifest(String, Image),
}

/// What the clients share.
#[derive(Debug, Default)]
pub struct Shared {
    /// What they did and saw.
    pub history: History,
    acked: Mutex<Vec<Acked>>,
    stop: AtomicBool,
}

impl Shared {
    /// Everything acknowledged so far.
    pub fn acked(&self) -> Vec<Acked> {
        self.acked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn ack(&self, acked: Acked) {
        self.acked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(acked);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Clients that work until they are told to stop.
#[derive(Debug)]
pub struct Load {
    /// What they share.
    pub shared: Arc<Shared>,
    clients: JoinSet<()>,
}

impl Load {
    /// `count` clients, spread over `nodes`, which may be dead at times.
    pub fn start(count: usize, nodes: &[Client]) -> Self {
        // Names of its own, so that what an earlier load left under a tag is not taken for wrong.
        let (shared, name) = (Arc::new(Shared::default()), format!("load-{:08x}", rand::random::<u32>()));
        let mut clients = JoinSet::new();
        let nodes: Vec<Client> =
            nodes.iter().map(|node| node.clone().within(Duration::from_secs(20))).collect();
        for index in 0..count {
            clients.spawn(work(index, name.clone(), nodes.clone(), Arc::clone(&shared)));
        }
        Load { shared, clients }
    }

    /// Lets each client finish what it is doing.
    pub async fn stop(mut self) -> Arc<Shared> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.shared
    }
}

/// One client: pushes and reads, through each node in turn.
async fn work(index: usize, name: String, nodes: Vec<Client>, shared: Arc<Shared>) {
    let mut turn = index;
    let mut proc = shared.history.proc();
    while !shared.stopped() {
        turn += 1;
        let (dice, len, tag) = {
            let mut rng = rand::rng();
            (rng.random_range(0..100), rng.random_range(1..200_000), rng.random_range(0..TAGS))
        };
        let (repo, tag) = (format!("{name}/r{}", tag % 2), format!("t{tag}"));
        let step = Step { node: &nodes[turn % nodes.len()], shared: &shared, repo: &repo, proc };
        let known = match dice {
            0..40 => step.push_image(&tag, len).await,
            40..60 => step.read_tag(&tag).await,
            60..80 => step.read_manifest().await,
            _ => step.read_blob().await,
        };
        if !known {
            proc = shared.history.proc();
            // A node that is dead answers at once; do not spend the machine on asking it.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// One operation of one client.
struct Step<'a> {
    node: &'a Client,
    shared: &'a Shared,
    repo: &'a str,
    proc: u64,
}

impl Step<'_> {
    fn event(&self, kind: Kind, f: Op, repo: &str) -> Event {
        Event::new(self.proc, &self.node.node, kind, f, repo)
    }

    /// Records the end of a mutation; false when the proc must retire.
    fn mutated(&self, f: Op, begun: &Event, answer: &Result<Answer, Unknown>) -> bool {
        let mut end = Event { kind: Kind::Info, ..begun.clone() };
        match answer {
            Ok(answer) => {
                (end.status, end.log_id, end.code) = (Some(answer.status), answer.log_id(), answer.code());
                end.kind = match answer.status {
                    200..300 => Kind::Ok,
                    500.. => Kind::Info,
                    _ => Kind::Fail,
                };
            }
            Err(unknown) => end.code = Some(unknown.to_string()),
        }
        end.f = f;
        let known = end.kind != Kind::Info;
        self.shared.history.record(end);
        known
    }

    async fn push_image(&self, tag: &str, len: u64) -> bool {
        let image = Image::random(&[len]);
        for (digest, content) in &image.blobs {
            if !self.push_blob(*content, digest).await {
                return false;
            }
        }
        let begun = Event {
            tag: Some(tag.to_owned()),
            digest: Some(image.digest.to_string()),
            ..self.event(Kind::Invoke, Op::PutTag, self.repo)
        };
        self.shared.history.record(begun.clone());
        let answer = self.node.put_manifest(self.repo, tag, MANIFEST, image.manifest.clone()).await;
        let known = self.mutated(Op::PutTag, &begun, &answer);
        if answer.is_ok_and(|answer| answer.ok()) {
            self.shared.ack(Acked::Manifest(self.repo.to_owned(), image));
        }
        known
    }

    async fn push_blob(&self, content: Content, digest: &Digest) -> bool {
        let begun =
            Event { digest: Some(digest.to_string()), ..self.event(Kind::Invoke, Op::PushBlob, self.repo) };
        self.shared.history.record(begun.clone());
        let way = rand::rng().random_range(0..3);
        let answer = match way {
            0 => self.node.push_blob(self.repo, content, digest).await,
            1 => self.node.push_blob_by_patch(self.repo, content, digest).await,
            _ => self.node.push_blob_by_post(self.repo, content, digest).await,
        };
        let known = self.mutated(Op::PushBlob, &begun, &answer);
        let ok = answer.is_ok_and(|answer| answer.ok());
        if ok {
            self.shared.ack(Acked::Blob(self.repo.to_owned(), *digest));
        }
        known && ok
    }

    async fn read_tag(&self, tag: &str) -> bool {
        let begun = Event { tag: Some(tag.to_owned()), ..self.event(Kind::Invoke, Op::GetTag, self.repo) };
        self.shared.history.record(begun.clone());
        let answer = self.node.manifest(self.repo, tag).await;
        self.read(begun, answer.map(|answer| (Digest::sha256(&answer.body), answer)))
    }

    async fn read_manifest(&self) -> bool {
        let manifests = self.shared.acked().into_iter().filter_map(|acked| match acked {
            Acked::Manifest(repo, image) => Some((repo, image.digest)),
            Acked::Blob(..) => None,
        });
        let Some((repo, digest)) = pick(manifests) else { return true };
        let begun =
            Event { digest: Some(digest.to_string()), ..self.event(Kind::Invoke, Op::GetManifest, &repo) };
        self.shared.history.record(begun.clone());
        let answer = self.node.manifest(&repo, &digest.to_string()).await;
        self.read(begun, answer.map(|answer| (Digest::sha256(&answer.body), answer)))
    }

    async fn read_blob(&self) -> bool {
        let blobs = self.shared.acked().into_iter().filter_map(|acked| match acked {
            Acked::Blob(repo, digest) => Some((repo, digest)),
            Acked::Manifest(..) => None,
        });
        let Some((repo, digest)) = pick(blobs) else { return true };
        let begun =
            Event { digest: Some(digest.to_string()), ..self.event(Kind::Invoke, Op::PullBlob, &repo) };
        self.shared.history.record(begun.clone());
        let pulled = self.node.pull_blob(&repo, &digest).await.map(|pulled| {
            let answer =
                Answer { status: pulled.status, headers: Default::default(), body: Default::default() };
            (pulled.digest, answer)
        });
        self.read(begun, pulled)
    }

    /// Records the end of a read; false when the proc must retire.
    fn read(&self, begun: Event, answer: Result<(Digest, Answer), Unknown>) -> bool {
        let mut end = begun;
        match answer {
            Ok((digest, answer)) => {
                end.kind = match answer.status {
                    200..300 => Kind::Ok,
                    500.. => Kind::Info,
                    _ => Kind::Fail,
                };
                (end.status, end.log_id, end.stale) = (Some(answer.status), answer.log_id(), answer.stale());
                if end.kind == Kind::Ok {
                    end.digest = Some(digest.to_string());
                }
                if end.kind != Kind::Ok {
                    end.code = answer.code();
                }
            }
            Err(unknown) => (end.kind, end.code) = (Kind::Info, Some(unknown.to_string())),
        }
        let known = end.kind != Kind::Info;
        self.shared.history.record(end);
        known
    }
}

fn pick<T>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    let index = (0..all.len()).collect::<Vec<_>>().choose(&mut rand::rng()).copied()?;
    Some(all.swap_remove(index))
}
