//! Reads an `AdmissionReview` of `admission.k8s.io/v1`, once, at the edge.
//!
//! Always holds: what is no review at all is the caller's mistake and gets no verdict; a review whose request
//! cannot be understood has a uid, and is answered with a denial that says why; how much memory one takes while it
//! is read is known before. Never does: look into the object.

use std::iter;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Problem};
use crate::route::shown;

/// The one version that is spoken here.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of both question and answer.
pub(super) const KIND: &str = "AdmissionReview";
/// The longest uid that is echoed; those of Kubernetes have 36 characters.
const UID_MAX: usize = 256;

/// A review: which one, and what is asked, or why that cannot be understood.
#[derive(Debug)]
pub(super) struct Review {
    /// Comes back in the answer.
    pub(super) uid: String,
    /// What the API server wants to know.
    pub(super) asked: Result<Asked, String>,
}

/// What is to happen with which object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    pub(super) kind: GroupKind,
    pub(super) operation: Operation,
    /// Empty for the object itself.
    #[serde(default)]
    pub(super) sub_resource: Option<String>,
    /// Empty for what has no namespace.
    #[serde(default)]
    pub(super) namespace: Option<String>,
    /// Of the object; empty while the API server is still to make one up.
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) user_info: UserInfo,
    #[serde(default)]
    pub(super) dry_run: Option<bool>,
    #[serde(skip)]
    pub(super) object: Value,
    #[serde(skip)]
    pub(super) old_object: Value,
}

/// What kind of object it is. Versions of a kind have their images in the same places.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GroupKind {
    #[serde(default)]
    pub(super) group: String,
    pub(super) kind: String,
}

/// Who asked the API server.
#[derive(Debug, Default, Deserialize)]
pub(super) struct UserInfo {
    #[serde(default)]
    pub(super) username: String,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Asked {
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(super) fn sub_resource(&self) -> &str {
        self.sub_resource.as_deref().unwrap_or_default()
    }

    /// Whether nothing of it is to last.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run.unwrap_or_default()
    }
}

/// Most memory, in bytes, that one more value of a document takes: the first entry of an object has room for four,
/// and an array that grows is there twice.
const VALUE: usize = 512;

/// How much memory a body takes at most while it is read, itself included, in bytes.
pub(super) fn weight(bytes: &[u8]) -> usize {
    let next = bytes.iter().skip(1).chain(iter::once(&b' '));
    let another = |byte: &u8, next: &u8| match byte {
        b',' => true,
        b'{' => *next != b'}',
        b'[' => *next != b']',
        _ => false,
    };
    bytes.len() * 2 + VALUE * bytes.iter().zip(next).filter(|(byte, next)| another(byte, next)).count()
}

/// Reads the body of a request.
///
/// # Errors
/// `ReviewInvalid`: it is no review of this version, or none that can be answered.
pub(super) fn parse(bytes: &[u8]) -> Result<Review, Error> {
    let whole: Value =
        serde_json::from_slice(bytes).map_err(|why| invalid(format!("the body is not valid JSON: {why}")))?;
    let text = |key: &str| whole.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if (version, kind) != (API_VERSION, KIND) {
        return Err(invalid(format!(
            "the body is {} of {}, and not {KIND} of {API_VERSION}: the webhook's configuration needs \
             admissionReviewVersions: [\"v1\"]",
            quoted(kind),
            quoted(version),
        )));
    }
    let Value::Object(mut whole) = whole else { return Err(invalid("the body is no JSON object")) };
    let Some(Value::Object(mut request)) = whole.remove("request") else {
        return Err(invalid("the review has no request"));
    };
    let uid = match request.get("uid") {
        Some(Value::String(uid)) if (1..=UID_MAX).contains(&uid.len()) => uid.clone(),
        _ => return Err(invalid("the review's request has no uid by which it can be answered")),
    };
    // Taken out, and not read once more, since they are large.
    let [object, old_object] = ["object", "oldObject"].map(|key| request.remove(key).unwrap_or_default());
    let asked = serde_json::from_value::<Asked>(Value::Object(request));
    let asked = asked.map(|asked| Asked { object, old_object, ..asked }).map_err(|why| why.to_string());
    Ok(Review { uid, asked })
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "nothing".to_owned() } else { format!("{:?}", shown(text)) }
}

fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Problem::ReviewInvalid, why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(request: Value) -> Value {
        json!({ "apiVersion": API_VERSION, "kind": KIND, "request": request })
    }

    #[test]
    fn what_is_no_review_is_refused() {
        let good = json!({ "uid": "u", "kind": { "kind": "Pod" }, "operation": "CREATE" });
        let cases = [
            Value::Null,
            json!([]),
            json!("AdmissionReview"),
            json!({}),
            json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": KIND, "request": good }),
            json!({ "apiVersion": "v1", "kind": "Pod" }),
            json!({ "apiVersion": API_VERSION, "kind": "admissionreview", "request": good }),
            json!({ "apiVersion": API_VERSION, "kind": KIND, "response": good }),
            review(Value::Null),
            review(json!([1])),
            review(json!({ "uid": "" })),
            review(json!({ "uid": 7 })),
            review(json!({ "uid": "u".repeat(UID_MAX + 1) })),
        ];
        for case in cases {
            let error = parse(case.to_string().as_bytes()).expect_err(&case.to_string());
            assert_eq!(error.problem(), Problem::ReviewInvalid);
        }
        for bytes in [&b""[..], b"{", b"\xff", b"{\"apiVersion\":\"\xff\"}", &b"[".repeat(4096)] {
            assert!(parse(bytes).is_err());
        }
    }

    #[test]
    fn a_review_that_is_not_understood_keeps_its_uid() {
        for request in [
            json!({ "uid": "u" }),
            json!({ "uid": "u", "kind": { "kind": "Pod" } }),
            json!({ "uid": "u", "kind": { "kind": "Pod" }, "operation": "*" }),
            json!({ "uid": "u", "kind": { "kind": "Pod" }, "operation": "create" }),
            json!({ "uid": "u", "kind": "Pod", "operation": "CREATE" }),
            json!({ "uid": "u", "kind": { "group": 1, "kind": "Pod" }, "operation": "CREATE" }),
            json!({ "uid": "u", "kind": { "kind": "Pod" }, "operation": "CREATE", "namespace": 1 }),
        ] {
            let review = parse(review(request.clone()).to_string().as_bytes()).unwrap();
            assert_eq!(review.uid, "u");
            assert!(review.asked.is_err(), "{request} was understood");
        }
    }

    #[test]
    fn the_memory_that_a_review_takes_is_known_before() {
        let entry = size_of::<Value>() + size_of::<String>() + size_of::<u64>();
        assert!(4 * entry + 64 < VALUE && 3 * size_of::<Value>() < VALUE);
        let of = |text: &str| weight(text.as_bytes());
        assert_eq!(of("{}[]\"\""), 12);
        assert_eq!(of(r#"{"a":[0,{"b":1}]}"#), 34 + 4 * VALUE);
        // What is made to be large weighs as much more than what is sent as it takes.
        assert!(of(&"[{\"\":0}],".repeat(1000)) > 3_000 * VALUE);
        let common = include_str!("../../tests/http/reviews/pod-create.json");
        assert!(of(common) < 40 * common.len(), "{} of {}", of(common), common.len());
    }

    #[test]
    fn what_the_api_server_leaves_out_is_empty() {
        let request = json!({ "uid": "u", "kind": { "kind": "Pod" }, "operation": "DELETE", "object": null });
        let asked = parse(review(request).to_string().as_bytes()).unwrap().asked.unwrap();
        assert_eq!((asked.namespace(), asked.name(), asked.sub_resource()), ("", "", ""));
        assert!(asked.object.is_null() && asked.old_object.is_null() && !asked.is_dry_run());
        assert_eq!((asked.operation, asked.user_info.username.as_str()), (Operation::Delete, ""));
    }
}
