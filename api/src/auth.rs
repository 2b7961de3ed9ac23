//! Who may: for now the one right there is, the administrator's.
//!
//! Without users everybody may pull and push, and what destroys takes the admin token. Compared
//! in constant time; never logged, never in a reply.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Problem};

/// The secret in `admin.token`, kept as its hash.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// The token's text; white space around it does not count.
    pub fn new(text: &str) -> Self {
        AdminToken(Sha256::digest(text.trim().as_bytes()).into())
    }

    /// Whether `Authorization` carries it: as a bearer token, or as the password of the Basic
    /// user `admin`. Takes the same time whatever is wrong with the secret.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let Some((scheme, credentials)) =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|v| v.split_once(' '))
        else {
            return false;
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is(credentials.trim());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let decoded = BASE64_STANDARD.decode(credentials.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let decoded = decoded.unwrap_or_default();
        let (user, password) = decoded.split_once(':').unwrap_or_default();
        self.is(password) & bool::from(user.as_bytes().ct_eq(b"admin"))
    }

    fn is(&self, text: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.0.ct_eq(&hash).into()
    }

    /// 401 unless [`Self::allows`].
    ///
    /// # Errors
    /// `Unauthorized`, with the challenge that clients know how to answer.
    pub fn require(&self, headers: &HeaderMap) -> Result<(), Error> {
        if self.allows(headers) {
            return Ok(());
        }
        let why = "this needs the admin token: as a bearer token, or as the password of user admin";
        let challenge = HeaderValue::from_static("Basic realm=\"trow\", charset=\"UTF-8\"");
        Err(Error::new(Problem::Unauthorized, why).header(WWW_AUTHENTICATE, challenge))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(authorization: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        AdminToken::new("s3cret\n").allows(&headers)
    }

    #[test]
    fn only_the_token_is_let_in() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        assert!(allowed("Bearer s3cret"));
        assert!(allowed("bearer s3cret"));
        assert!(allowed(&basic("admin:s3cret")));
        for bad in ["Bearer", "Bearer ", "Bearer s3cre", "s3cret", "Basic s3cret", "Basic !", "Digest s3cret"]
        {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(!allowed(&basic("root:s3cret")));
        assert!(!allowed(&basic("admin:")));
        assert!(!allowed(&basic("admin")));
        assert!(!AdminToken::new("x").allows(&HeaderMap::new()));
    }
}
