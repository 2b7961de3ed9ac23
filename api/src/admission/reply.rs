//! The answer to a review, within what an API server takes.
//!
//! Always holds: it bears the review's uid; a denial has code 403 and says for each image why; a warning is one
//! line of at most 256 characters, and all of them at most 4,096, since API servers cut off what is more; keys of
//! audit annotations are valid. Never does: decide.

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::review::{API_VERSION, KIND};

/// The longest warning, in characters.
const WARNING_MAX: usize = 256;
/// What all warnings of an answer have at most, in characters.
const WARNINGS_MAX: usize = 4096;
/// What a message or an annotation has at most, in characters; a Pod may have thousands of containers.
const TEXT_MAX: usize = 16 << 10;

/// What a review is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Why it is denied, image by image; allowed when there is no reason.
    pub(super) denied: Vec<String>,
    /// What whoever asked is told, though it is allowed.
    pub(super) warnings: Vec<String>,
    /// For the API server's audit log: keys and values.
    pub(super) audit: Vec<(&'static str, String)>,
    /// Operations of a JSON Patch.
    pub(super) patch: Vec<Value>,
}

impl Answer {
    /// A denial for this reason alone.
    pub(super) fn deny(why: impl Into<String>) -> Answer {
        Answer { denied: vec![why.into()], ..Answer::default() }
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.denied.is_empty()
    }

    /// As a reply to the review with this uid.
    pub(super) fn reply(self, uid: &str) -> Response {
        Json(self.document(uid)).into_response()
    }

    fn document(self, uid: &str) -> Value {
        let mut response = Map::new();
        response.insert("uid".to_owned(), uid.into());
        response.insert("allowed".to_owned(), self.is_allowed().into());
        if !self.is_allowed() {
            let message = joined(&self.denied, "; ");
            let status =
                json!({ "status": "Failure", "message": message, "reason": "Forbidden", "code": 403 });
            response.insert("status".to_owned(), status);
        }
        if !self.patch.is_empty() {
            response.insert("patchType".to_owned(), "JSONPatch".into());
            let patch = STANDARD.encode(Value::Array(self.patch).to_string());
            response.insert("patch".to_owned(), patch.into());
        }
        if !self.warnings.is_empty() {
            response.insert("warnings".to_owned(), within(self.warnings).into());
        }
        if !self.audit.is_empty() {
            let audit =
                self.audit.into_iter().map(|(key, text)| (key.to_owned(), cut(&text, TEXT_MAX).into()));
            response.insert("auditAnnotations".to_owned(), Value::Object(audit.collect()));
        }
        json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response })
    }
}

/// As many of the reasons as fit, and how many more there are.
pub(super) fn joined(reasons: &[String], between: &str) -> String {
    let mut all = String::new();
    for (index, reason) in reasons.iter().enumerate() {
        if index > 0 && all.len() + reason.len() > TEXT_MAX {
            return format!("{all}{between}and {} more", reasons.len() - index);
        }
        if index > 0 {
            all.push_str(between);
        }
        all.push_str(&cut(reason, TEXT_MAX));
    }
    all
}

/// As many of the warnings as an API server passes on, and how many more there are.
fn within(warnings: Vec<String>) -> Vec<String> {
    let mut left = WARNINGS_MAX - WARNING_MAX;
    let mut kept = Vec::new();
    let total = warnings.len();
    for warning in warnings {
        let warning = cut(&warning, WARNING_MAX);
        let length = warning.chars().count();
        let Some(rest) = left.checked_sub(length) else {
            kept.push(format!("and {} more images", total - kept.len()));
            return kept;
        };
        left = rest;
        kept.push(warning);
    }
    kept
}

/// Text of one line, of at most so many characters.
fn cut(text: &str, max: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().nth(max).is_none() {
        return text.chars().map(plain).collect();
    }
    text.chars().take(max - 3).map(plain).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_kubernetes_reads_it() {
        let denial = Answer { denied: vec!["a".into(), "b".into()], ..Answer::default() };
        assert_eq!(
            denial.document("u-1"),
            json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {
                    "uid": "u-1",
                    "allowed": false,
                    "status": { "status": "Failure", "message": "a; b", "reason": "Forbidden", "code": 403 },
                },
            })
        );
        let patch = vec![json!({ "op": "replace", "path": "/spec/containers/0/image", "value": "a" })];
        let audit = vec![("verdict", "allow".to_owned())];
        let warnings = vec!["careful".to_owned()];
        let document = Answer { denied: Vec::new(), warnings, audit, patch: patch.clone() }.document("u-2");
        let response = &document["response"];
        assert_eq!(response["allowed"], true);
        assert!(response.get("status").is_none());
        assert_eq!(response["warnings"], json!(["careful"]));
        assert_eq!(response["auditAnnotations"], json!({ "verdict": "allow" }));
        assert_eq!(response["patchType"], "JSONPatch");
        let decoded = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&decoded).unwrap(), Value::Array(patch));
    }

    #[test]
    fn texts_stay_within_the_limits_of_api_servers() {
        let warnings: Vec<String> = (0..1000).map(|n| format!("{n}\n{}", "ä".repeat(n))).collect();
        let kept = within(warnings);
        assert!(kept.iter().all(|warning| warning.chars().count() <= WARNING_MAX && !warning.contains('\n')));
        assert!(kept.iter().map(|warning| warning.chars().count()).sum::<usize>() <= WARNINGS_MAX);
        assert_eq!(kept.last().unwrap(), &format!("and {} more images", 1000 - (kept.len() - 1)));

        let reasons: Vec<String> = (0..5000).map(|n| format!("reason {n}")).collect();
        let all = joined(&reasons, "; ");
        assert!(all.len() < TEXT_MAX + 64 && all.starts_with("reason 0; reason 1; "), "{}", all.len());
        assert!(all.ends_with(" more"));
        assert_eq!(joined(&reasons[..2], "; "), "reason 0; reason 1");
        assert!(joined(&["x".repeat(1 << 20)], "; ").len() <= TEXT_MAX);
    }
}
