//! A client of the admission webhooks that knows what an API server knows: an address, and the bundle of
//! certificates from its configuration.
//!
//! Always holds: nothing is retried, and a verdict is an answer with the review's own uid. Never does: trust any
//! other certificate.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The webhooks of one node.
#[derive(Clone, Debug)]
pub struct Webhook {
    url: String,
    http: reqwest::Client,
}

/// What a node said of a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object may be.
    Allowed,
    /// It may not, and why.
    Denied(String),
}

impl Webhook {
    /// Those at `address`, by the certificates in `bundle` alone; connections are kept.
    ///
    /// # Errors
    /// The bundle has none.
    pub fn new(address: &str, bundle: &str) -> Result<Webhook> {
        let trusted = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).context("read the bundle")?;
        ensure!(!trusted.is_empty(), "the bundle is empty");
        crate::client::crypto();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only(trusted);
        let http = builder.timeout(Duration::from_secs(10)).build()?;
        Ok(Webhook { url: format!("https://{address}"), http })
    }

    /// Asks whether an object may be.
    ///
    /// # Errors
    /// There is no answer, or none to this review.
    pub async fn validate(&self, review: &Value) -> Result<Verdict> {
        Ok(self.ask(review).await?.0)
    }

    /// As [`Webhook::validate`], and whether the node says that no quorum confirmed the policy.
    ///
    /// # Errors
    /// As there.
    pub async fn ask(&self, review: &Value) -> Result<(Verdict, bool)> {
        let request = self.http.post(format!("{}/validate-image", self.url)).json(review);
        let reply = request.send().await.context("send a review")?;
        ensure!(reply.status() == 200, "a review is answered {}", reply.status());
        let answer: Value = reply.json().await.context("read an answer")?;
        let response = &answer["response"];
        ensure!(response["uid"] == review["request"]["uid"], "an answer to another review: {answer}");
        let verdict = match (response["allowed"].as_bool(), response["status"]["message"].as_str()) {
            (Some(true), _) => Verdict::Allowed,
            (Some(false), Some(message)) => Verdict::Denied(message.to_owned()),
            _ => anyhow::bail!("no verdict: {answer}"),
        };
        Ok((verdict, response["auditAnnotations"]["policy-age"].is_string()))
    }
}
