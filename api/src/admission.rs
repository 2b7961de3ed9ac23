//! Which images Kubernetes may run: the webhooks that its API servers ask.
//!
//! Owns how a review is read (`review`), which images of an object are judged (`images`) and under which names
//! (`names`), whether this node may say what holds (`gate`) and whether it stood still (`pause`), what rules need to
//! know (`facts`), the decisions (`judge`), what is rewritten (`mutate`), and the answer (`reply`); what is decided
//! for those who only ask (`explain`, `offline`), and of which rules they are warned (`through`). Always holds:
//! whatever goes wrong denies, with the reason; what changes no image passes, also while nothing else does. Never
//! does: keep anything of a review, or say what the policy is.

mod explain;
mod facts;
mod gate;
mod images;
mod judge;
mod metrics;
mod mutate;
mod names;
mod offline;
mod pause;
mod reply;
mod review;
mod through;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;
use tracing::Span;
use trow_raft::Metadata;

pub use explain::Explainer;
pub use metrics::AdmissionMetrics;
pub use mutate::ORIGINAL_IMAGES;
pub use offline::{Assumed, Offline};

use crate::blobs::Blobs;
use crate::body::{Incoming, Room};
use crate::error::{Error, Problem};
use crate::metrics::HttpMetrics;
use crate::policy::{Decision, Mode, Verdict};
use crate::pull::{Prefixes, Upstreams};
use crate::query::Query;
use crate::server::{self, Common, Label};
use crate::signature::{Purpose, Verifier};
use gate::{Closed, Gate, Standing};
use images::{Named, Subject};
use judge::{Case, Judge};
use reply::Answer;
use review::Asked;

/// The largest review, in bytes. A request to an API server has at most 3 MiB, and an object that it keeps 1.5 MiB, of
/// which a review of an update has two.
const REVIEW_MAX: usize = 4 << 20;
/// Bytes of reviews that are read at once.
const REVIEW_ROOM: usize = 64 << 20;
/// Memory for what is read of them: a body that is made for it takes two hundred times its bytes.
const READ_ROOM: usize = 128 << 20;
/// A longer one is read where it holds up no other work.
const SHORT: usize = 256 << 10;
/// How long a review waits for that room.
const REVIEW_WAIT: Duration = Duration::from_secs(2);
/// How long facts are looked for, at most: API servers wait 10 s unless they are told otherwise.
const FACTS: Duration = Duration::from_secs(5);
/// How often it is looked what holds, when that has changed once it is decided.
const LOOKS: usize = 3;
/// How many characters of a text are logged.
const LOGGED: usize = 256;
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
    let room = |bytes| Room::of("review", Problem::ReviewTooLarge, bytes, REVIEW_WAIT);
    let (room, read_room) = (room(REVIEW_ROOM), room(READ_ROOM));
    let webhooks = Arc::new(Webhooks { gate, judge, metrics: admission.metrics, room, read_room });
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
    read_room: Room,
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
        let mut read_taken = Some(self.read_room.reserve(review::weight(&bytes)).await?);
        let review = read(webhook, bytes).await?;
        if webhook == Webhook::Validate {
            read_taken.take();
        }
        let answer = match review.subject {
            Ok((Subject::Nothing, _)) => Answer::default(),
            Ok((Subject::Images { is_pod: false, .. }, _)) if webhook == Webhook::Mutate => Answer::default(),
            Ok((Subject::Images { images, .. }, asked)) => {
                let review = Reviewed { uid: &review.uid, asked: &asked, images: &images, patience };
                self.judged(webhook, review).await?
            }
            // The validating webhook says so, and decides.
            Err(_) if webhook == Webhook::Mutate => Answer::default(),
            Err(why) => {
                tracing::info!(
                    uid = review.uid,
                    why = brief(&why),
                    "a review was not understood, so its request is denied"
                );
                Answer::deny(format!("the review cannot be understood, so the request is denied: {why}"))
            }
        };
        Ok(answer.reply(&review.uid))
    }

    async fn judged(&self, webhook: Webhook, review: Reviewed<'_>) -> Result<Answer, Error> {
        match self.by_what_holds(webhook, &review).await {
            Ok(answer) => Ok(answer),
            Err(Closed::State(cause)) => Err(Error::internal(&cause)),
            Err(Closed::Because(_)) if webhook == Webhook::Mutate => Ok(Answer::default()),
            Err(Closed::Because(why)) => {
                self.metrics.decided("deny", "noQuorum".to_owned());
                let (uid, user) = (review.uid, brief(&review.asked.user_info.username));
                let namespace = brief(review.asked.namespace());
                tracing::warn!(uid, user, namespace, why, "a review is denied unjudged");
                Ok(Answer::deny(why))
            }
        }
    }

    /// Decides by what holds; again if it does not any more once that is done, which takes as long as facts are
    /// looked for. What the last look saw was so after the review had come, whatever came then.
    async fn by_what_holds(&self, webhook: Webhook, review: &Reviewed<'_>) -> Result<Answer, Closed> {
        let until = Instant::now() + review.patience;
        let mut look = self.gate.look(until).await?;
        let mut looks = 1;
        loop {
            let standing = &look.standing;
            let others = self.judge.others(&standing.policy).map_err(Closed::State)?;
            let case = Case {
                standing,
                namespace: review.asked.namespace(),
                others: &others,
                purpose: if review.asked.is_dry_run() { Purpose::Try } else { Purpose::Run },
                deadline: until.into(),
            };
            if webhook == Webhook::Mutate {
                let patch = mutate::patch(&self.judge, case, &review.asked.object, review.images).await;
                return Ok(Answer { patch, ..Answer::default() });
            }
            let decisions = self.judge.decide(case, review.images).await;
            if self.gate.still_holds(&look)? || looks == LOOKS {
                self.record(review, standing, &decisions);
                return Ok(verdict(standing, review.images, &decisions));
            }
            look = self.gate.look(until).await?;
            looks += 1;
        }
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
                user = brief(&asked.user_info.username),
                namespace = brief(asked.namespace()),
                kind = brief(&asked.kind.kind),
                object = brief(asked.name()),
                dry_run = asked.is_dry_run(),
                container = brief(&named.name),
                image = brief(&decision.image),
                verdict,
                rule = %decision.rule,
                revision = standing.revision,
                stale_s = standing.stale.map(|age| age.as_secs()),
                why = brief(&decision.why),
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

/// What was read of a review.
struct Read {
    uid: String,
    subject: Result<(Subject, Asked), String>,
}

async fn read(webhook: Webhook, bytes: Bytes) -> Result<Read, Error> {
    if bytes.len() <= SHORT {
        return understood(webhook, &bytes);
    }
    let read = tokio::task::spawn_blocking(move || understood(webhook, &bytes));
    read.await.unwrap_or_else(|cause| Err(Error::internal(&cause)))
}

fn understood(webhook: Webhook, bytes: &[u8]) -> Result<Read, Error> {
    let review = review::parse(bytes)?;
    let subject = review.asked.and_then(|mut asked| {
        let subject = images::subject(&asked)?;
        // The mutating webhook looks at annotations as well.
        asked.old_object = Value::Null;
        if webhook == Webhook::Validate {
            asked.object = Value::Null;
        }
        Ok((subject, asked))
    });
    Ok(Read { uid: review.uid, subject })
}

/// The beginning of a text that somebody else wrote, for the log, which quotes it.
fn brief(text: &str) -> &str {
    text.char_indices().nth(LOGGED).map_or(text, |(end, _)| &text[..end])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_a_review_is_short() {
        assert_eq!(brief("team"), "team");
        assert_eq!(brief(&"ä".repeat(LOGGED)), "ä".repeat(LOGGED));
        assert_eq!(brief(&"ä".repeat(1 << 20)), "ä".repeat(LOGGED));
    }
}
