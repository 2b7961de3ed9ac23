//! `If-Match` and `If-None-Match` as compare-and-set on a tag (RFC 9110 section 13).

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::json;
use trow_raft::command::TagCondition;

use crate::error::{Error, Problem};

/// The condition of a request, if it has one.
///
/// # Errors
/// `ManifestInvalid`: anything but `If-Match: "<digest>"` and `If-None-Match: *`, or both.
pub(super) fn of(request: &HeaderMap) -> Result<Option<TagCondition>, Error> {
    let one = |name| -> Result<Option<&str>, Error> {
        let mut values = request.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| malformed()),
            (Some(_), Some(_)) => Err(malformed()),
        }
    };
    match (one(IF_MATCH)?, one(IF_NONE_MATCH)?) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(TagCondition::Absent)),
        (Some(text), None) => {
            let digest =
                text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(malformed)?;
            digest.parse().map(|digest| Some(TagCondition::Is(digest))).map_err(|_| malformed())
        }
        _ => Err(malformed()),
    }
}

/// 400: there is no tag that the condition could be about.
pub(super) fn only_tags() -> Error {
    Error::new(Problem::ManifestInvalid, "If-Match and If-None-Match are about tags; this request names none")
        .detail(json!({ "header": "If-Match" }))
}

fn malformed() -> Error {
    let why =
        "a condition on a tag is either If-Match: \"<digest>\", quoted and not weak, or If-None-Match: *";
    Error::new(Problem::ManifestInvalid, why).detail(json!({ "header": "If-Match" }))
}

#[cfg(test)]
mod tests {
    use trow_raft::Digest;

    use super::*;

    #[test]
    fn only_strong_quoted_conditions_are_read() {
        let digest = Digest::sha256(b"x");
        let read = |pairs: &[(http::HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name, value.parse().unwrap());
            }
            of(&headers).map_err(|error| error.problem())
        };
        let quoted = format!("\"{digest}\"");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(IF_MATCH, &quoted)]), Ok(Some(TagCondition::Is(digest))));
        assert_eq!(read(&[(IF_NONE_MATCH, "*")]), Ok(Some(TagCondition::Absent)));
        let weak = format!("W/{quoted}");
        let bare = digest.to_string();
        let two = format!("{quoted}, {quoted}");
        for bad in [weak.as_str(), &bare, &two, "*", "", "\"x\""] {
            assert_eq!(read(&[(IF_MATCH, bad)]), Err(Problem::ManifestInvalid), "{bad}");
        }
        assert_eq!(read(&[(IF_NONE_MATCH, &quoted)]), Err(Problem::ManifestInvalid));
        assert_eq!(read(&[(IF_MATCH, &quoted), (IF_NONE_MATCH, "*")]), Err(Problem::ManifestInvalid));
        assert_eq!(read(&[(IF_MATCH, &quoted), (IF_MATCH, &quoted)]), Err(Problem::ManifestInvalid));
    }
}
