//! Proving to an upstream who asks: Basic, and tokens of a token service.
//!
//! Always holds: credentials go to the registry's own endpoint, to a token service of the same origin, to one that is
//! known to belong to it, or to one that the settings name, and nowhere else; tokens are asked for pulling one
//! repository, and one is asked for at a time. Never does: keep a token longer than its service said.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Url;
use serde::Deserialize;
use tokio::time::Instant;
use trow_api::pull::UpstreamName;

use super::answers::UpstreamError;
use super::body;
use super::budget::retry_after;
use super::challenge::Challenge;
use super::credentials::Login;
use super::hops::{self, Request, shown};
use super::meter::Kind;
use super::registry::{RETRY, Registry};

/// Token services that belong to a registry of another host: its endpoint's host, and theirs.
const BELONGS: [(&str, &str); 3] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];
/// What a token without a time lasts, as the token specification says, and the most that is believed.
const LASTS: Duration = Duration::from_secs(60);
const LASTS_MAX: Duration = Duration::from_secs(3600);
/// The largest answer of a token service.
const ANSWER_MAX: usize = 256 << 10;
/// Repositories whose tokens are kept.
const KEPT_MAX: usize = 4096;

/// What an upstream was last seen to want, and the tokens for it.
#[derive(Default)]
pub(super) struct Tokens {
    wanted: Mutex<Option<Challenge>>,
    kept: Mutex<HashMap<String, Arc<Slot>>>,
}

/// The token for a repository, locked while one is asked for.
type Slot = tokio::sync::Mutex<Option<Token>>;

struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    fn slot(&self, name: &UpstreamName) -> Arc<Slot> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let repo = name.repo().as_str();
        if !kept.contains_key(repo) && kept.len() >= KEPT_MAX {
            let now = Instant::now();
            kept.retain(|_, slot| {
                slot.try_lock().map_or(true, |token| token.as_ref().is_some_and(|token| token.until > now))
            });
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
        }
        kept.entry(repo.to_owned()).or_default().clone()
    }

    fn wanted(&self) -> Option<Challenge> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn want(&self, challenge: &Challenge) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge.clone());
    }
}

impl Registry {
    /// What to show with a request, going by what this upstream wanted before.
    pub(super) async fn authorization(
        &self,
        name: &UpstreamName,
        login: Option<&Login>,
    ) -> Result<Option<HeaderValue>, UpstreamError> {
        match self.tokens.wanted() {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(login.and_then(basic)),
            Some(challenge) => self.token(name, login, &challenge, None).await.map(Some),
        }
    }

    /// What to show to an upstream that answered with a challenge to `shown`. None when there is nothing else.
    pub(super) async fn answer(
        &self,
        name: &UpstreamName,
        login: Option<&Login>,
        challenge: &Challenge,
        shown: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, UpstreamError> {
        let header = match challenge {
            Challenge::Basic => login.and_then(basic),
            Challenge::Bearer { .. } => Some(self.token(name, login, challenge, shown).await?),
        };
        // What no login could answer must not keep those who have one from being asked again.
        if header.is_some() {
            self.tokens.want(challenge);
        }
        Ok(header.filter(|header| Some(header) != shown))
    }

    /// The token for a repository, if it is another than `refused`.
    async fn token(
        &self,
        name: &UpstreamName,
        login: Option<&Login>,
        challenge: &Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, UpstreamError> {
        let slot = self.tokens.slot(name);
        let mut kept = slot.lock().await;
        let valid = |token: &&Token| token.until > Instant::now() && Some(&token.header) != refused;
        if let Some(token) = kept.as_ref().filter(valid) {
            return Ok(token.header.clone());
        }
        *kept = None;
        let token = self.fetch_token(name, login, challenge).await?;
        let header = token.header.clone();
        *kept = Some(token);
        Ok(header)
    }

    async fn fetch_token(
        &self,
        name: &UpstreamName,
        login: Option<&Login>,
        challenge: &Challenge,
    ) -> Result<Token, UpstreamError> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Err(self.bad("wants a password where it wanted a token"));
        };
        let realm = self.realm(realm, login.is_some())?;
        let scope = pulling(scope.as_deref(), name);
        let request = request(&realm, service.as_deref(), &scope, login);
        let asked = Instant::now();
        let patience = self.settings.timeout;
        let sent = hops::send(&self.clients, &request, patience).await;
        self.meter.count(
            &self.host,
            Kind::Token,
            &request.method,
            sent.as_ref().ok().map(reqwest::Response::status),
        );
        let response = sent.map_err(|why| self.no_answer(why))?;
        let status = response.status();
        let at = shown(&realm);
        if !status.is_success() {
            let retry = retry_after(response.headers()).unwrap_or(RETRY);
            return Err(match status.as_u16() {
                403 if login.is_none() => self.denied(),
                401 | 403 => self
                    .unavailable(format_args!("its token service {at} does not accept this registry"), RETRY),
                300..=399 => self.bad(format_args!("its token service {at} redirects")),
                code => self.unavailable(format_args!("its token service {at} answered {code}"), retry),
            });
        }
        let bytes = body::whole(response, ANSWER_MAX, patience).await;
        let bytes =
            bytes.map_err(|_| self.unavailable(format_args!("its token service {at} broke off"), RETRY))?;
        let none = || self.bad(format_args!("its token service {at} gave no token"));
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| none())?;
        let token =
            answer.token.or(answer.access_token).filter(|token| !token.is_empty()).ok_or_else(none)?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| none())?;
        header.set_sensitive(true);
        let lasts = answer.expires_in.map_or(LASTS, Duration::from_secs).min(LASTS_MAX);
        // What is on its way when a token ends is refused.
        Ok(Token { header, until: asked + lasts.mul_f64(0.9) })
    }

    /// Where the token service is, if it may be asked by who has `secrets` to show.
    fn realm(&self, text: &str, secrets: bool) -> Result<Url, UpstreamError> {
        let bad = || self.bad("names a token service that is no https address");
        let url: Url = text.parse().map_err(|_| bad())?;
        let scheme = url.scheme() == "https" || (url.scheme() == "http" && self.settings.insecure);
        if !scheme || !url.has_host() || !url.username().is_empty() || url.password().is_some() {
            return Err(bad());
        }
        if secrets && !self.trusts(&url) {
            return Err(self.bad(format_args!(
                "names a token service, {}, that may not have its credentials; if it is the right one, add it to \
                 upstream.{:?}.realms",
                shown(&url),
                self.host.as_str()
            )));
        }
        Ok(url)
    }

    /// Whether credentials may be sent there.
    fn trusts(&self, realm: &Url) -> bool {
        let at = shown(realm);
        let belongs = BELONGS.iter().any(|(registry, service)| {
            self.endpoint.scheme() == "https" && shown(&self.endpoint) == *registry && at == *service
        });
        let secure = realm.scheme() == "https" || self.endpoint.scheme() == "http";
        let named = self.settings.realms.iter().any(|named| named.eq_ignore_ascii_case(&at));
        realm.origin() == self.endpoint.origin()
            || (realm.scheme() == "https" && belongs)
            || (secure && named)
    }
}

/// `pull` of the repository, as the registry calls it: it may call it otherwise than clients do.
fn pulling(scope: Option<&str>, name: &UpstreamName) -> String {
    let theirs = scope.and_then(|scope| {
        let (repository, _) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        (!repository.is_empty() && repository.bytes().all(plain)).then_some(repository)
    });
    // What one repository's challenge said is remembered for others: only its form carries over.
    let theirs = theirs.filter(|theirs| theirs.ends_with(name.repo().as_str()));
    format!("repository:{}:pull", theirs.unwrap_or(name.repo().as_str()))
}

fn request(realm: &Url, service: Option<&str>, scope: &str, login: Option<&Login>) -> Request {
    let mut url = realm.clone();
    let mut parameters = vec![("scope", scope)];
    parameters.extend(service.map(|service| ("service", service)));
    let (mut method, mut form) = (Method::GET, None);
    match login {
        Some(Login::Identity(token)) => {
            parameters.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "trow"),
                ("refresh_token", token),
            ]);
            method = Method::POST;
            form =
                Some(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish());
        }
        _ => {
            url.query_pairs_mut().extend_pairs(parameters);
        }
    }
    Request { method, url, headers: HeaderMap::new(), authorization: login.and_then(basic), form }
}

/// A user and a password as a header.
fn basic(login: &Login) -> Option<HeaderValue> {
    let Login::Password { user, password } = login else { return None };
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
