//! Random requests against a small model of what a registry is: to one node, and to three of a
//! cluster in rotation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use reqwest::{Method, Response};
use serde_json::Value;
use trow_raft::Digest;

use crate::peers::Peers;
use crate::support::{IMAGE, Registry, image};

const REPOS: u8 = 2;
const LAYERS: u8 = 3;
const TAGS: u8 = 3;

/// One request. Numbers name a repository, a layer (and the image of it) and a tag.
#[derive(Clone, Copy, Debug)]
enum Step {
    PushBlob(u8, u8),
    Mount(u8, u8, u8),
    DeleteBlob(u8, u8),
    Tag(u8, u8, u8),
    DeleteTag(u8, u8),
    DeleteManifest(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (repo, layer, tag) = (0..REPOS, 0..LAYERS, 0..TAGS);
    prop_oneof![
        3 => (repo.clone(), layer.clone()).prop_map(|(r, l)| Step::PushBlob(r, l)),
        1 => (repo.clone(), repo.clone(), layer.clone()).prop_map(|(r, f, l)| Step::Mount(r, f, l)),
        2 => (repo.clone(), layer.clone()).prop_map(|(r, l)| Step::DeleteBlob(r, l)),
        4 => (repo.clone(), tag.clone(), layer.clone()).prop_map(|(r, t, l)| Step::Tag(r, t, l)),
        1 => (repo.clone(), tag).prop_map(|(r, t)| Step::DeleteTag(r, t)),
        1 => (repo, layer).prop_map(|(r, l)| Step::DeleteManifest(r, l)),
    ]
}

/// What a repository has: blobs and manifests by their layer, and tags.
#[derive(Default)]
struct Repo {
    blobs: BTreeSet<u8>,
    manifests: BTreeSet<u8>,
    tags: BTreeMap<u8, u8>,
}

/// The status that the model expects of a step.
fn expected(repos: &mut [Repo], step: Step) -> u16 {
    match step {
        Step::PushBlob(r, l) => {
            repos[usize::from(r)].blobs.insert(l);
            201
        }
        Step::Mount(r, from, l) if repos[usize::from(from)].blobs.contains(&l) => {
            repos[usize::from(r)].blobs.insert(l);
            201
        }
        Step::Mount(..) => 202,
        Step::DeleteBlob(r, l) => {
            let repo = &mut repos[usize::from(r)];
            match (repo.manifests.contains(&l), repo.blobs.contains(&l)) {
                (true, _) => 405,
                (false, true) => {
                    repo.blobs.remove(&l);
                    202
                }
                (false, false) => 404,
            }
        }
        Step::Tag(r, t, l) => {
            let repo = &mut repos[usize::from(r)];
            if !repo.blobs.contains(&l) {
                return 404;
            }
            repo.manifests.insert(l);
            repo.tags.insert(t, l);
            201
        }
        Step::DeleteTag(r, t) => match repos[usize::from(r)].tags.remove(&t) {
            Some(_) => 202,
            None => 404,
        },
        Step::DeleteManifest(r, l) => {
            let repo = &mut repos[usize::from(r)];
            repo.tags.retain(|_, layer| *layer != l);
            if repo.manifests.remove(&l) { 202 } else { 404 }
        }
    }
}

/// One run's names and content, so that runs do not meet.
struct Run<'a> {
    registries: &'a [Registry],
    turn: &'a AtomicUsize,
    number: usize,
}

impl Run<'_> {
    /// Each request goes to the next node.
    fn next(&self) -> &Registry {
        &self.registries[self.turn.fetch_add(1, Ordering::Relaxed) % self.registries.len()]
    }

    fn repo(&self, r: u8) -> String {
        format!("run{}/repo{r}", self.number)
    }

    fn layer(&self, l: u8) -> String {
        format!("layer {l} of run {}", self.number)
    }

    fn manifest(&self, l: u8) -> String {
        image(&self.layer(l)).to_string()
    }

    fn blob(&self, l: u8) -> Digest {
        Digest::sha256(self.layer(l).as_bytes())
    }

    async fn send(&self, step: Step) -> Response {
        let registry = self.next();
        match step {
            Step::PushBlob(r, l) => {
                let path = format!("/v2/{}/blobs/uploads/?digest={}", self.repo(r), self.blob(l));
                registry.request(Method::POST, &path).body(self.layer(l)).send().await.unwrap()
            }
            Step::Mount(r, from, l) => {
                let (repo, from) = (self.repo(r), self.repo(from));
                let path = format!("/v2/{repo}/blobs/uploads/?mount={}&from={from}", self.blob(l));
                registry.request(Method::POST, &path).send().await.unwrap()
            }
            Step::DeleteBlob(r, l) => {
                registry.delete(&format!("/v2/{}/blobs/{}", self.repo(r), self.blob(l))).await
            }
            Step::Tag(r, t, l) => {
                registry.put_manifest(&self.repo(r), &format!("t{t}"), IMAGE, &self.manifest(l)).await
            }
            Step::DeleteTag(r, t) => registry.delete(&format!("/v2/{}/manifests/t{t}", self.repo(r))).await,
            Step::DeleteManifest(r, l) => {
                let digest = Digest::sha256(self.manifest(l).as_bytes());
                registry.delete(&format!("/v2/{}/manifests/{digest}", self.repo(r))).await
            }
        }
    }

    /// Everything a client can see is as the model says.
    async fn compare(&self, repos: &[Repo]) {
        for (r, repo) in (0u8..).zip(repos) {
            let name = self.repo(r);
            for l in 0..LAYERS {
                let blob = self.next().head(&format!("/v2/{name}/blobs/{}", self.blob(l))).await;
                assert_eq!(blob.status() == 200, repo.blobs.contains(&l), "blob {l} of {name}");
                let digest = Digest::sha256(self.manifest(l).as_bytes());
                let manifest = self.next().head(&format!("/v2/{name}/manifests/{digest}")).await;
                assert_eq!(manifest.status() == 200, repo.manifests.contains(&l), "manifest {l} of {name}");
            }
            let listed: Value = self.next().get(&format!("/v2/{name}/tags/list")).await.json().await.unwrap();
            let listed: Vec<String> = serde_json::from_value(listed["tags"].clone()).unwrap();
            let tags: Vec<String> = repo.tags.keys().map(|t| format!("t{t}")).collect();
            assert_eq!(listed, tags, "{name}");
            for (t, l) in &repo.tags {
                let got = self.next().get(&format!("/v2/{name}/manifests/t{t}")).await;
                assert_eq!(got.text().await.unwrap(), self.manifest(*l), "t{t} of {name}");
            }
        }
    }
}

/// Steps that give what the model says, in `cases` runs of up to 40.
fn compare(runtime: &tokio::runtime::Runtime, registries: &[Registry], cases: u32) {
    let (number, turn) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let config =
        ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..Default::default() };
    let steps = proptest::collection::vec(step(), 1..40);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let run = Run { registries, turn: &turn, number };
            let work = async {
                let mut repos: Vec<Repo> = Vec::new();
                for r in 0..REPOS {
                    // Every repository is there from the start, and has the config of all images.
                    run.next().push_blob(&run.repo(r), b"{}").await;
                    repos.push(Repo::default());
                }
                for step in steps {
                    let want = expected(&mut repos, step);
                    let got = run.send(step).await.status().as_u16();
                    if got != want {
                        return Err(TestCaseError::fail(format!("{step:?} gave {got}, not {want}")));
                    }
                }
                // Once through each node.
                for _ in registries {
                    run.compare(&repos).await;
                    run.next();
                }
                Ok(())
            };
            runtime.block_on(work)
        })
        .unwrap();
}

#[test]
fn random_requests_leave_what_the_model_has() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = runtime.block_on(Registry::start());
    compare(&runtime, &[registry], 16);
}

#[test]
fn random_requests_to_three_nodes_in_rotation_leave_what_the_model_has() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let peers = runtime.block_on(Peers::start(3));
    let registries: Vec<Registry> =
        runtime.block_on(async { futures::future::join_all((1..=3).map(|node| peers.registry(node))).await });
    compare(&runtime, &registries, 12);
}
