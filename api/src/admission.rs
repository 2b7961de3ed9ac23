//! Which images Kubernetes may run: the webhooks that its API servers ask.
//!
//! Owns how a review is read (`review`), which images of an object are judged (`images`) and under which names
//! (`names`), whether this node may say what holds (`gate`), what rules need to know (`facts`), the decisions
//! (`judge`), what is rewritten (`mutate`), and the answer (`reply`). Always holds: whatever goes wrong denies, with
//! the reason; what changes no image passes, also while nothing else does. Never does: keep anything of a review,
//! or say what the policy is.

mod explain;
mod facts;
mod gate;
mod images;
mod judge;
mod metrics;
mod mutate;
mod names;
mod reply;
mod review;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, header};
use tracing::Span;
use trow_raft::Metadata;

pub use explain::{Explainer, by_name};
pub use metrics::AdmissionMetrics;
pub use mutate::ORIGINAL_IMAGES;

use crate::blobs::Blobs;
use crate::body::{Incoming, Room};
use crate::error::{Error, Problem};
use crate::metrics::HttpMetrics;
use crate::policy::{Decision, Mode, Verdict};
use crate::pull::{Prefixes, Upstreams};
use crate::query::Query;
use crate::server::{self, Common, Label};
use crate::signature::Verifier;
use gate::{Closed, Gate, Standing};
use images::{Named, Subject};
use judge::{Case, Judge};
use reply::Answer;
use review::Asked;

/// The largest review, in bytes. An object has at most 3 MiB on its way to an API server, and an update two of them.
const REVIEW_MAX: usize = 8 << 20;
/// Bytes of reviews that are read at once.
const REVIEW_ROOM: usize = 64 << 20;
/// How long a review waits for that room.
const REVIEW_WAIT: Duration = Duration::from_secs(2);
/// How long facts are looked for, at most: API servers wait 10 s unless they are told otherwise.
const FACTS: Duration = Duration::from_secs(5);
/// Images of a review for which an event is logged each.
const EVENTS: usize = 100;

/// What the webhooks are made of.
pub struct Admission {
    /// What the cluster agrees on.
    pub metadata: Metadata,
    /// Where blob bytes are.
    pub blobs: Arc<dyn Blobs>,
    /// What upstream registries have.
    pub upstreams: Arc<dyn Upstreams>,
    /// This node's name, for `Trow-Node`.
    pub node: String,
    /// `server.hostnames`: images of these registries are ours.
    pub hostnames: Vec<String>,
    /// `prefixes`: what is below one of these is of that upstream registry.
    pub prefixes: Prefixes,
    /// `webhook.max_staleness`: how long the policy holds without a quorum.
    pub max_staleness: Duration,
    /// Where requests are counted.
    pub requests: HttpMetrics,
    /// Where decisions are counted.
    pub metrics: AdmissionMetrics,
    /// Makes a request's span a part of the trace that its headers name.
    pub adopt: fn(&Span, &HeaderMap),
}

/// The webhook listener's router: `POST /validate-image` and `/mutate-image`. Needs a Tokio runtime.
pub fn router(admission: Admission) -> Router {
    let Admission { metadata, blobs, upstreams, node, hostnames, prefixes, max_staleness, .. } = admission;
    let signatures = Verifier::new(metadata.clone(), blobs.clone(), upstreams.clone());
    let sources = facts::Sources { metadata: metadata.clone(), blobs, upstreams, signatures };
    let judge = Judge { names: names::Names::new(&hostnames, &prefixes), sources };
    let gate = Gate::new(metadata, max_staleness);
    let room = Room::of("review", Problem::ReviewTooLarge, REVIEW_ROOM, REVIEW_WAIT);
    let webhooks = Arc::new(Webhooks { gate, judge, metrics: admission.metrics, room });
    let other_method = |request: Request| async move { server::method_not_allowed("POST", request.method()) };
    let other_path = || async { Error::new(Problem::NoSuchPath, "there is no such path").into_response() };
    let router = Router::new()
        .route("/validate-image", post(validate).fallback(other_method))
        .route("/mutate-image", post(mutate_image).fallback(other_method))
        .fallback(other_path)
        .with_state(webhooks);
    server::with_common(router, Common::new(&node, admission.requests, admission.adopt))
}

/// The object of a review, and the images of it that are judged, each with its place; none for what is not
/// understood. For fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn judged_in(bytes: &[u8]) -> Option<(serde_json::Value, Vec<(String, String)>)> {
    let review = review::parse(bytes).ok()?;
    assert!(!review.uid.is_empty(), "nobody could be answered");
    let asked = review.asked.ok()?;
    let images = match images::subject(&asked).ok()? {
        Subject::Nothing => Vec::new(),
        Subject::Images { images, .. } => {
            images.into_iter().map(|named| (named.pointer, named.image)).collect()
        }
    };
    Some((asked.object, images))
}

struct Webhooks {
    gate: Arc<Gate>,
    judge: Judge,
    metrics: AdmissionMetrics,
    room: Room,
}

/// Which webhook is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Webhook {
    Validate,
    Mutate,
}

async fn validate(State(webhooks): State<Arc<Webhooks>>, request: Request) -> Response {
    webhooks.serve(Webhook::Validate, request).await
}

async fn mutate_image(State(webhooks): State<Arc<Webhooks>>, request: Request) -> Response {
    webhooks.serve(Webhook::Mutate, request).await
}

impl Webhooks {
    async fn serve(&self, webhook: Webhook, request: Request) -> Response {
        let began = Instant::now();
        let answer = self.answer(webhook, request).await;
        let label = match webhook {
            Webhook::Validate => "validate",
            Webhook::Mutate => "mutate",
        };
        self.metrics.reviewed(label, began.elapsed());
        let mut response = answer.unwrap_or_else(IntoResponse::into_response);
        response.extensions_mut().insert(Label(label));
        response
    }

    async fn answer(&self, webhook: Webhook, request: Request) -> Result<Response, Error> {
        let (head, body) = request.into_parts();
        let body = Incoming::new(&head.headers, body);
        if !is_json(&head.headers) {
            let why = "a review is sent as application/json";
            return Err(Error::new(Problem::MediaTypeUnsupported, why));
        }
        let patience = patience(&Query::parse(head.uri.query())?);
        let (bytes, _taken) = body.whole(REVIEW_MAX, &self.room).await?;
        let review = review::parse(&bytes)?;
        drop(bytes);
        let subject = review.asked.and_then(|asked| Ok((images::subject(&asked)?, asked)));
        let answer = match subject {
            Ok((Subject::Nothing, _)) => Answer::default(),
            Ok((Subject::Images { is_pod: false, .. }, _)) if webhook == Webhook::Mutate => Answer::default(),
            Ok((Subject::Images { images, .. }, asked)) => {
                let review = Reviewed { uid: &review.uid, asked: &asked, images: &images, patience };
                self.judged(webhook, review).await?
            }
            // The validating webhook says so, and decides.
            Err(_) if webhook == Webhook::Mutate => Answer::default(),
            Err(why) => {
                tracing::info!(uid = %review.uid, why, "a review was not understood, so its request is denied");
                Answer::deny(format!("the review cannot be understood, so the request is denied: {why}"))
            }
        };
        Ok(answer.reply(&review.uid))
    }

    async fn judged(&self, webhook: Webhook, review: Reviewed<'_>) -> Result<Answer, Error> {
        let standing = match self.gate.standing().await {
            Ok(standing) => standing,
            Err(Closed::State(cause)) => return Err(Error::internal(&cause)),
            Err(Closed::Because(_)) if webhook == Webhook::Mutate => return Ok(Answer::default()),
            Err(Closed::Because(why)) => {
                self.metrics.decided("deny", "noQuorum".to_owned());
                let (uid, user) = (review.uid, &review.asked.user_info.username);
                tracing::warn!(uid, %user, namespace = review.asked.namespace(), why, "a review is denied unjudged");
                return Ok(Answer::deny(why));
            }
        };
        let others = self.judge.others(&standing.policy)?;
        let case = Case {
            standing: &standing,
            namespace: review.asked.namespace(),
            others: &others,
            deadline: (Instant::now() + review.patience).into(),
        };
        if webhook == Webhook::Mutate {
            let patch = mutate::patch(&self.judge, case, &review.asked.object, review.images).await;
            return Ok(Answer { patch, ..Answer::default() });
        }
        let decisions = self.judge.decide(case, review.images).await;
        self.record(&review, &standing, &decisions);
        Ok(verdict(&standing, review.images, &decisions))
    }

    /// Counts the decisions, and leaves an event of each in the log.
    fn record(&self, review: &Reviewed<'_>, standing: &Standing, decisions: &[Decision]) {
        let Reviewed { uid, asked, images, .. } = review;
        for (at, (named, decision)) in images.iter().zip(decisions).enumerate() {
            let verdict = outcome(decision);
            self.metrics.decided(verdict, metrics::label(&decision.rule));
            if at >= EVENTS {
                continue;
            }
            tracing::info!(
                uid,
                user = %asked.user_info.username,
                namespace = asked.namespace(),
                kind = %asked.kind.kind,
                object = asked.name(),
                dry_run = asked.is_dry_run(),
                container = %named.name,
                image = %decision.image,
                verdict,
                rule = %decision.rule,
                revision = standing.revision,
                stale_s = standing.stale.map(|age| age.as_secs()),
                why = %decision.why,
                "an image was judged"
            );
        }
        if images.len() > EVENTS {
            tracing::info!(
                uid,
                images = images.len(),
                "more images of this review were judged than have an event each"
            );
        }
    }
}

/// A review that is to be judged.
struct Reviewed<'a> {
    uid: &'a str,
    asked: &'a Asked,
    images: &'a [Named],
    patience: Duration,
}

/// What comes of a decision.
fn outcome(decision: &Decision) -> &'static str {
    match (decision.verdict, decision.mode) {
        (Verdict::Allow, _) => "allow",
        (Verdict::Deny, Mode::Enforce) => "deny",
        (Verdict::Deny, Mode::Warn) => "warn",
        (Verdict::Deny, Mode::Audit) => "audit",
    }
}

/// The answer that the decisions add up to.
fn verdict(standing: &Standing, images: &[Named], decisions: &[Decision]) -> Answer {
    let mut answer = Answer::default();
    let mut audited = Vec::new();
    for (named, decision) in images.iter().zip(decisions) {
        let sentence = || decision.sentence(Some(&named.name));
        match outcome(decision) {
            "deny" => answer.denied.push(sentence()),
            "warn" => answer.warnings.push(sentence()),
            "audit" => audited.push(sentence()),
            _ => {}
        }
    }
    let rules: Vec<String> = decisions
        .iter()
        .map(|decision| format!("{} {} by {}", decision.image, outcome(decision), decision.rule))
        .collect();
    answer.audit.push(("images", reply::joined(&rules, "; ")));
    if let Some(revision) = standing.revision {
        answer.audit.push(("policy-revision", revision.to_string()));
    }
    let would_deny: Vec<String> = answer.warnings.iter().cloned().chain(audited).collect();
    if !would_deny.is_empty() {
        answer.audit.push(("would-deny", reply::joined(&would_deny, "; ")));
    }
    if let Some(age) = standing.stale {
        answer.audit.push(("policy-age", format!("{} s: no quorum confirmed it", age.as_secs())));
    }
    answer
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

/// How long facts are looked for: half of what the API server waits, which it says as `timeout=10s`.
fn patience(query: &Query) -> Duration {
    let seconds = query.get("timeout").and_then(|text| text.strip_suffix('s')?.parse::<u32>().ok());
    let half = seconds.map(|seconds| Duration::from_secs(seconds.into()) / 2);
    half.map_or(FACTS, |half| half.min(FACTS))
}
