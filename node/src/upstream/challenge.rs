//! What a registry wants to be shown: its `WWW-Authenticate`.
//!
//! Owns the header's grammar (RFC 9110, section 11): schemes with parameters, tokens or quoted strings, between
//! commas. Always holds: what is not well-formed to its end is no challenge at all. Never does: believe a realm.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The longest header that is read.
const LENGTH_MAX: usize = 4096;

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password.
    Basic,
    /// A token of a token service.
    Bearer {
        /// Where the service is: whatever the registry wrote.
        realm: String,
        /// What the service calls the registry.
        service: Option<String>,
        /// What the token has to be for.
        scope: Option<String>,
    },
}

/// What the answer asks for; a token rather than a password when it lets one choose.
pub(super) fn of(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let found: Vec<Challenge> = values.filter_map(parse).flatten().collect();
    let bearer = found.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(found.first()).cloned()
}

/// The challenges of one header that are understood, if it is well-formed.
pub(super) fn parse(text: &str) -> Option<Vec<Challenge>> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let mut rest = Rest(text);
    let mut found = Vec::new();
    rest.commas();
    while !rest.0.is_empty() {
        let scheme = rest.token()?;
        let parameters = rest.parameters()?;
        let value =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => found.push(Challenge::Bearer {
                realm: value("realm")?,
                service: value("service"),
                scope: value("scope"),
            }),
            // Others are for others.
            _ => {}
        }
    }
    Some(found)
}

/// What of the header is not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn spaces(&mut self) -> bool {
        let trimmed = self.0.trim_start_matches([' ', '\t']);
        let any = trimmed.len() < self.0.len();
        self.0 = trimmed;
        any
    }

    /// Commas and spaces; whether there was a comma.
    fn commas(&mut self) -> bool {
        let trimmed = self.0.trim_start_matches([' ', '\t', ',']);
        let any = self.0[..self.0.len() - trimmed.len()].contains(',');
        self.0 = trimmed;
        any
    }

    fn token(&mut self) -> Option<&'a str> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let end = self.0.bytes().position(|b| !plain(b)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// The parameters up to the next scheme or the end, none twice.
    fn parameters(&mut self) -> Option<Vec<(String, String)>> {
        let mut found: Vec<(String, String)> = Vec::new();
        if !self.spaces() && !self.0.is_empty() && !self.0.starts_with(',') {
            return None;
        }
        loop {
            if !found.is_empty() && !self.commas() {
                return self.0.is_empty().then_some(found);
            }
            if found.is_empty() && self.commas() {
                return Some(found);
            }
            let before = self.0;
            if before.is_empty() {
                return Some(found);
            }
            let name = self.token()?.to_ascii_lowercase();
            self.spaces();
            let Some(rest) = self.0.strip_prefix('=') else {
                // It was the next scheme; the first thing after a scheme is none.
                self.0 = before;
                return (!found.is_empty()).then_some(found);
            };
            self.0 = rest;
            self.spaces();
            let value = if self.0.starts_with('"') { self.quoted()? } else { self.token()?.to_owned() };
            if found.iter().any(|(other, _)| *other == name) {
                return None;
            }
            found.push((name, value));
            self.spaces();
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let plain = |character: char| (!character.is_control() || character == '\t').then_some(character);
        let mut value = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(plain(characters.next()?.1)?),
                character => value.push(plain(character)?),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/nginx:pull"),
                )],
            ),
            (r#"bearer realm="https://a/t" , service=s"#, vec![bearer("https://a/t", Some("s"), None)]),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"Negotiate, Basic realm="x", Bearer realm="y""#,
                vec![Challenge::Basic, bearer("y", None, None)],
            ),
            (r#"Bearer REALM="a\"b\\c",error="insufficient_scope""#, vec![bearer("a\"b\\c", None, None)]),
            (
                r#"Bearer realm="a,b", scope="repository:x:pull,push""#,
                vec![bearer("a,b", None, Some("repository:x:pull,push"))],
            ),
            (r#", Basic realm=x ,"#, vec![Challenge::Basic]),
            ("", vec![]),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_no_challenge() {
        let long = format!("Bearer realm=\"{}\"", "a".repeat(LENGTH_MAX));
        for text in [
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"unended",
            "Bearer realm=\"a\" service=\"b\"",
            "Bearer realm=\"a\"x",
            "Bearer realm=",
            "Bearer realm",
            "Bearer realm=\"a\",realm=\"b\"",
            "Bearer realm=\"a\"\u{1}",
            "Bearer realm=\"a\u{1}\"",
            "Bearer realm=\"a\\\u{1}\"",
            "Bearer=realm",
            "Basic dXNlcg==",
            "Bearer \"realm\"=x",
            "Bearer realm=\"a\\",
            &long,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Bearer realm=".parse().unwrap());
        assert_eq!(of(&headers), Some(Challenge::Basic));
        headers.append(WWW_AUTHENTICATE, "Bearer realm=y".parse().unwrap());
        assert_eq!(of(&headers), Some(bearer("y", None, None)));
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
