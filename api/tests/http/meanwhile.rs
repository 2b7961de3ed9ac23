//! A policy that is replaced while a review is under way.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use trow_api::pull::{Content, PullError, Pulled, Relayed, UpstreamName, Upstreams};
use trow_api::route::Reference;
use trow_raft::{Digest, Evidence};

use crate::reviews;
use crate::support::{BOUND, IMAGE, Registry};
use crate::webhook::{Webhook, allowing, set_policy};

/// Has every manifest, and says so when it is let.
struct Slow {
    asked: mpsc::UnboundedSender<()>,
    let_go: std::sync::Arc<Semaphore>,
}

#[async_trait]
impl Upstreams for Slow {
    fn needs_user(&self, _: &UpstreamName) -> bool {
        false
    }

    async fn manifest(&self, _: &UpstreamName, _: &Reference, _: bool) -> Result<Pulled, PullError> {
        self.asked.send(()).expect("the test lasts longer");
        self.let_go.acquire().await.expect("it is never closed").forget();
        let digest = Digest::sha256(b"any");
        Ok(Pulled { digest, media_type: IMAGE.into(), size: 3, bytes: None, index: 0, stale: None })
    }

    async fn blob_size(&self, _: &UpstreamName, _: &Digest) -> Result<u64, PullError> {
        Err(PullError::NotFound)
    }

    async fn blob(
        &self,
        _: &UpstreamName,
        _: &Digest,
        _: &(dyn for<'s> Fn(u64) -> Option<Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError> {
        Err(PullError::NotFound)
    }

    async fn tags(&self, _: &UpstreamName, _: Option<usize>, _: Option<&str>) -> Result<Relayed, PullError> {
        Err(PullError::NotFound)
    }

    async fn referrers(&self, _: &UpstreamName, _: &Digest, _: Option<&str>) -> Result<Relayed, PullError> {
        Err(PullError::NotFound)
    }

    async fn hold(&self, _: &UpstreamName, _: &Digest) -> Option<(u64, Vec<Evidence>)> {
        None
    }
}

#[tokio::test]
async fn a_review_is_decided_by_the_policy_that_came_while_its_images_were_looked_up() {
    let registry = Registry::start().await;
    let (asked, mut looked_up) = mpsc::unbounded_channel();
    let let_go = std::sync::Arc::new(Semaphore::new(0));
    let slow = std::sync::Arc::new(Slow { asked, let_go: let_go.clone() });
    let webhook = Webhook::over(&registry, Duration::from_secs(300), slow).await;
    let requiring = |image: &str| {
        json!({ "version": 1, "default": "deny", "allow": [{ "image": image, "require": ["exists"] }] })
            .to_string()
    };
    let review = reviews::of_image("quay.io/team/app:1");
    let old = requiring("quay.io/team/*");
    set_policy(&registry, &old).await;

    let others = allowing(&["ghcr.io/**"]);
    let replaced = async {
        looked_up.recv().await.unwrap();
        set_policy(&registry, &others).await;
        let_go.add_permits(1);
    };
    let judged = async { tokio::join!(webhook.validate(&review), replaced).0 };
    let message = tokio::time::timeout(BOUND, judged).await.unwrap().expect("let in by the policy before");
    assert!(message.contains("denied by default"), "{message}");

    // By the same rule of another policy it is looked up again, and let in.
    set_policy(&registry, &old).await;
    let wider = requiring("quay.io/**");
    let replaced = async {
        looked_up.recv().await.unwrap();
        set_policy(&registry, &wider).await;
        // A machine that stands still may have it looked up more often.
        let_go.add_permits(100);
        looked_up.recv().await.unwrap();
    };
    let judged = async { tokio::join!(webhook.validate(&review), replaced).0 };
    assert_eq!(tokio::time::timeout(BOUND, judged).await.unwrap(), None);
}
