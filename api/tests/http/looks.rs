//! How many looks at signatures there are at once, of registries that do not answer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use trow_api::policy::Fact;
use trow_api::pull::{Content, PullError, Pulled, Relayed, UpstreamName, Upstreams};
use trow_api::signature::{PublicKey, Purpose, Repository, Verifier};
use trow_raft::{Digest, Evidence, Reference};

use crate::support::{BOUND, Registry};

/// Questions that are open at once on a node, and those of them that are asked at once.
const OPEN: usize = 4096;
const AT_ONCE: usize = 32;

/// Registries that take every question and never answer.
#[derive(Default)]
struct Silent {
    waiting: AtomicUsize,
    most: AtomicUsize,
}

/// One who waits.
struct Waits<'a>(&'a Silent);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Upstreams for Silent {
    fn needs_user(&self, _: &UpstreamName) -> bool {
        false
    }

    async fn manifest(&self, _: &UpstreamName, _: &Reference, _: bool) -> Result<Pulled, PullError> {
        std::future::pending().await
    }

    async fn blob_size(&self, _: &UpstreamName, _: &Digest) -> Result<u64, PullError> {
        std::future::pending().await
    }

    async fn blob(
        &self,
        _: &UpstreamName,
        _: &Digest,
        _: &(dyn for<'s> Fn(u64) -> Option<Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError> {
        std::future::pending().await
    }

    async fn tags(&self, _: &UpstreamName, _: Option<usize>, _: Option<&str>) -> Result<Relayed, PullError> {
        std::future::pending().await
    }

    /// Asked once in every look.
    async fn referrers(&self, _: &UpstreamName, _: &Digest, _: Option<&str>) -> Result<Relayed, PullError> {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(waiting, Ordering::SeqCst);
        let _waits = Waits(self);
        std::future::pending().await
    }

    async fn hold(&self, _: &UpstreamName, _: &Digest) -> Option<(u64, Vec<Evidence>)> {
        None
    }
}

#[tokio::test]
async fn a_registry_that_does_not_answer_takes_only_so_many_looks() {
    let registry = Registry::start().await;
    let silent = Arc::new(Silent::default());
    let verifier = Verifier::new(registry.metadata.clone(), registry.blobs.clone(), silent.clone());
    let key = PublicKey::from_pem(include_str!("../../src/signature/fixtures/keys/ed25519.pem")).unwrap();
    let name = UpstreamName::new("slow.test".parse().unwrap(), &"app".parse().unwrap()).unwrap();
    let at = Repository::Upstream(name);
    let keys = [("release", &key)];
    // Nothing else runs on this thread until it waits. Whoever asked goes away at once, and the question stays open.
    for n in 0..OPEN {
        let image = Digest::sha256(&n.to_be_bytes());
        let answer = verifier.signed_by(Purpose::Run, &at, &image, 1, &keys).now_or_never();
        assert_eq!(answer, None, "{n} is open");
    }
    let another = verifier.signed_by(Purpose::Run, &at, &Digest::sha256(b"another"), 1, &keys).now_or_never();
    match another {
        Some(Fact::Unknown(why)) => assert!(why.contains("too many signatures at once; try again"), "{why}"),
        other => panic!("{other:?}"),
    }
    // One that is open already is joined.
    assert_eq!(
        verifier
            .signed_by(Purpose::Run, &at, &Digest::sha256(&0usize.to_be_bytes()), 1, &keys)
            .now_or_never(),
        None
    );

    let begun = async {
        while silent.waiting.load(Ordering::SeqCst) < AT_ONCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, begun).await.expect("looks are begun");
    // Every other one has had its turn to begin, had it been let.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(silent.most.load(Ordering::SeqCst), AT_ONCE);
}
