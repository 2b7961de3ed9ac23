//! What a request says about its sender: the one reader of `Authorization`.
//!
//! Always holds: no other header counts, whatever a proxy or a client writes into `Forwarded`,
//! `X-Forwarded-User` and the like. Never does: say whether the credentials are right.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The credentials of a request. Not to be printed.
pub(super) enum Credentials {
    /// None were sent.
    None,
    /// A token.
    Bearer(String),
    /// A name and a password, which need not be text.
    Basic { user: String, password: Vec<u8> },
    /// Something was sent that is none of these.
    Unreadable,
}

impl Credentials {
    pub(super) fn of(headers: &HeaderMap) -> Credentials {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = sent.next() else { return Credentials::None };
        if sent.next().is_some() {
            return Credentials::Unreadable;
        }
        let Some((scheme, credentials)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return Credentials::Unreadable;
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Credentials::Bearer(credentials.trim().to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Credentials::Unreadable;
        }
        basic(credentials.trim()).unwrap_or(Credentials::Unreadable)
    }
}

fn basic(encoded: &str) -> Option<Credentials> {
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    let password = decoded[colon + 1..].to_vec();
    // How podman, buildah and skopeo say that they have none.
    if user.is_empty() && password.is_empty() {
        return Some(Credentials::None);
    }
    Some(Credentials::Basic { user, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, as text.
    fn read(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        match Credentials::of(&headers) {
            Credentials::None => "none".to_owned(),
            Credentials::Bearer(token) => format!("bearer {token}"),
            Credentials::Basic { user, password } => {
                format!("basic {user} {}", String::from_utf8_lossy(&password))
            }
            Credentials::Unreadable => "unreadable".to_owned(),
        }
    }

    #[test]
    fn what_can_be_read_two_ways_is_not_read() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        assert_eq!(read(&[]), "none");
        assert_eq!(read(&["Bearer abc"]), "bearer abc");
        assert_eq!(read(&["bearer abc "]), "bearer abc");
        assert_eq!(read(&[&basic("alice:se:cret")]), "basic alice se:cret");
        assert_eq!(read(&[&basic("alice:")]), "basic alice ");
        assert_eq!(read(&[&basic(":secret")]), "basic  secret");
        assert_eq!(read(&[&basic(":")]), "none");
        let twice = basic("alice:secret");
        for bad in ["Bearer", "abc", "Basic abc", "Basic !", "Digest abc", ""] {
            assert_eq!(read(&[bad]), "unreadable", "{bad}");
        }
        assert_eq!(read(&[&basic("alice")]), "unreadable");
        assert_eq!(read(&[&twice, &twice]), "unreadable");
        let latin = format!("Basic {}", BASE64_STANDARD.encode(b"\xe9:x"));
        assert_eq!(read(&[&latin]), "unreadable");
    }
}
