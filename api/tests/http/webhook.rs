//! A node's webhooks over HTTP, beside a registry over the same metadata.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use prometheus_client::registry::Registry as Counters;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use trow_api::pull::{Prefixes, Upstreams};
use trow_api::{Admission, AdmissionMetrics, HttpMetrics};
use trow_raft::Command;

use crate::support::{BOUND, Registry};

pub struct Webhook {
    pub counters: Counters,
    address: String,
    client: Client,
}

/// The names of the registries in these tests.
pub const HOSTNAMES: [&str; 2] = ["trow.test", "trow.test:5000"];

impl Webhook {
    pub async fn start(registry: &Registry) -> Webhook {
        Webhook::with(registry, Duration::from_secs(300)).await
    }

    pub async fn with(registry: &Registry, max_staleness: Duration) -> Webhook {
        Webhook::over(registry, max_staleness, registry.upstreams.clone()).await
    }

    /// With other registries that are not those of the registry beside it.
    pub async fn over(
        registry: &Registry,
        max_staleness: Duration,
        upstreams: Arc<dyn Upstreams>,
    ) -> Webhook {
        let mut counters = Counters::default();
        let admission = Admission {
            metadata: registry.metadata.clone(),
            blobs: registry.blobs.clone(),
            upstreams,
            node: "n1".into(),
            hostnames: HOSTNAMES.map(str::to_owned).to_vec(),
            prefixes: Prefixes::from([("hub".parse().unwrap(), "docker.io".parse().unwrap())]),
            max_staleness,
            requests: HttpMetrics::register(&mut counters),
            metrics: AdmissionMetrics::register(&mut counters),
            adopt: |_, _| (),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = trow_api::admission::router(admission);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Webhook { counters, address, client: Client::builder().timeout(BOUND).build().unwrap() }
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    pub async fn send(&self, path: &str, review: &Value) -> Response {
        self.post(path).json(review).send().await.unwrap()
    }

    /// The answer to a review: its response, after a look at what every answer has.
    pub async fn ask(&self, path: &str, review: &Value) -> Value {
        let response = self.send(path, review).await;
        assert_eq!(response.status(), 200, "{review}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        assert!(answer["response"]["allowed"].is_boolean());
        answer["response"].clone()
    }

    /// Why the review is denied, or nothing.
    pub async fn validate(&self, review: &Value) -> Option<String> {
        let response = self.ask("/validate-image", review).await;
        if response["allowed"] == true {
            assert!(response.get("status").is_none());
            return None;
        }
        assert_eq!(response["status"]["code"], 403);
        Some(response["status"]["message"].as_str().unwrap().to_owned())
    }

    /// The object of the review as it is after the mutation, and the number of operations.
    pub async fn mutate(&self, review: &Value) -> (Value, usize) {
        let response = self.ask("/mutate-image", review).await;
        assert_eq!(response["allowed"], true);
        let mut object = review["request"]["object"].clone();
        let Some(patch) = response["patch"].as_str() else { return (object, 0) };
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
        for operation in &patch {
            apply(&mut object, operation);
        }
        (object, patch.len())
    }
}

/// RFC 6902's `add` to an object, `remove` from one, and `replace`, which are all that are sent.
fn apply(object: &mut Value, operation: &Value) {
    let (path, value) = (operation["path"].as_str().unwrap(), operation["value"].clone());
    match operation["op"].as_str().unwrap() {
        "replace" => *object.pointer_mut(path).expect("what is replaced is there") = value,
        "add" => {
            let (parent, key) = path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
            parent
                .expect("what is added to is there")
                .insert(key.replace("~1", "/").replace("~0", "~"), value);
        }
        "remove" => {
            let (parent, key) = path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
            let removed = parent.remove(&key.replace("~1", "/").replace("~0", "~"));
            removed.expect("what is removed is there");
        }
        other => panic!("{other}"),
    }
}

/// Sets the policy, as an administrator would.
pub async fn set_policy(registry: &Registry, policy: &str) {
    let document = Bytes::copy_from_slice(policy.as_bytes());
    let command = Command::SetPolicy { base: None, document };
    registry.metadata.propose("test", command).await.unwrap();
}

/// The image of the first container of an object.
pub fn first_image(pod: &Value) -> &str {
    pod.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap()
}

/// A policy that allows these patterns, and nothing else.
pub fn allowing(patterns: &[&str]) -> String {
    let rules: Vec<Value> = patterns.iter().map(|pattern| json!({ "image": pattern })).collect();
    json!({ "version": 1, "default": "deny", "allow": rules }).to_string()
}
