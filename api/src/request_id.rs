//! The id that follows a request across nodes and into every log line.
//!
//! Accepted from the client when it is short and plain, else made. Whoever forwards a request to
//! another node sends [`current`] along in the header [`HEADER`].

use std::fmt;
use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, in requests and in replies.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// 1 to 128 letters, digits, `-`, `_`, `.` and `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

tokio::task_local! {
    static CURRENT: RequestId;
}

impl RequestId {
    /// The client's own, or a random one.
    pub fn accept(headers: &HeaderMap) -> Self {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        match headers.get(HEADER) {
            Some(value) if (1..=128).contains(&value.len()) && value.as_bytes().iter().all(plain) => {
                RequestId(value.clone())
            }
            _ => RequestId::random(),
        }
    }

    /// A random one: 32 hex digits.
    pub fn random() -> Self {
        let hex = hex::encode(rand::random::<[u8; 16]>());
        RequestId(HeaderValue::from_str(&hex).unwrap_or(HeaderValue::from_static("none")))
    }

    /// As the value of [`HEADER`].
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Runs `work` for this request: [`current`] gives the id inside. A task spawned within needs
    /// its own scope.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }
}

/// The id of the request this task works for, if it works for one.
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(RequestId::clone).ok()
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_accepted() {
        let accept = |id: &str| {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_str(id).unwrap())]);
            RequestId::accept(&headers).to_string()
        };
        assert_eq!(accept("a.B-1_2:3"), "a.B-1_2:3");
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_eq!(accept(bad).len(), 32, "{bad:?} was accepted");
        }
    }
}
