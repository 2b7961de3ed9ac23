//! One upstream registry: asking it, within its budget and with what it wants to be shown.
//!
//! Always holds: one exchange, tokens and redirects included, ends within twice the timeout once its turn came.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};
use tokio::time::timeout;
use trow_api::pull::{Host, UpstreamName};

use super::answers::UpstreamError;
use super::body::{self, Unread};
use super::budget::{Budget, Held, Share, retry_after};
use super::challenge;
use super::clients::Clients;
use super::credentials::{Credentials, Login, Source};
use super::helper::Helpers;
use super::hops::{self, NoAnswer, Request};
use super::known::Lasting;
use super::meter::{Flying, Kind, Meter};
use super::settings::HostSettings;
use super::tokens::Tokens;

/// When to try again what failed for a reason that does not say.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// What is asked of a registry.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) kind: Kind,
    pub(super) name: &'a UpstreamName,
    /// Below the repository, as `tags/list`.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
}

/// What it answered.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Its place in the budget, to be kept for as long as the body is read.
    pub(super) held: (Held, Flying),
}

/// One upstream registry.
pub(super) struct Registry {
    pub(super) host: Host,
    pub(super) endpoint: Url,
    pub(super) settings: HostSettings,
    pub(super) clients: Arc<Clients>,
    pub(super) meter: Arc<Meter>,
    pub(super) tokens: Tokens,
    pub(super) budget: Arc<Budget>,
    pub(super) credentials: Result<Arc<Credentials>, String>,
    /// The file of credentials was named for this registry alone.
    pub(super) own_credentials: bool,
    pub(super) helpers: Arc<Helpers>,
    pub(super) lasting: Arc<Lasting>,
}

impl Registry {
    /// Asks, and gives the answer if it is one of success.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, UpstreamError> {
        let answer = self.exchange(ask).await?;
        self.judged(answer)
    }

    /// Whether a manifest would be fetched now, as far as the upstream's limits go.
    pub(super) fn may_fetch(&self) -> Result<(), UpstreamError> {
        self.budget.stopped(Share::Manifest).map_err(|spent| self.unavailable(spent.why, spent.retry))
    }

    /// Asks, and gives whatever the answer is.
    pub(super) async fn exchange(&self, ask: Ask<'_>) -> Result<Answer, UpstreamError> {
        let share = match (ask.kind, &ask.method) {
            (Kind::Blob, &Method::HEAD) => Share::BlobHead,
            (Kind::Blob, _) => Share::Blob,
            (Kind::Manifest, &Method::GET) => Share::Manifest,
            _ => Share::Small,
        };
        let held =
            self.budget.enter(share).await.map_err(|spent| self.unavailable(spent.why, spent.retry))?;
        let held = (held, self.meter.flying(&self.host));
        let slow = |_| self.unavailable("does not answer in time", RETRY);
        let response = timeout(self.settings.timeout * 2, self.shown(&ask, share)).await.map_err(slow)??;
        Ok(Answer { response, held })
    }

    /// Asks, and once more with what the registry then wants to be shown.
    async fn shown(&self, ask: &Ask<'_>, share: Share) -> Result<Response, UpstreamError> {
        let login = self.login(ask.name).await?;
        let shown = self.authorization(ask.name, login.as_ref()).await?;
        let response = self.send(ask, share, shown.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(challenge) = challenge::of(response.headers()) else { return Ok(response) };
        match self.answer(ask.name, login.as_ref(), &challenge, shown.as_ref()).await? {
            Some(fresh) => self.send(ask, share, Some(fresh)).await,
            None => Ok(response),
        }
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        share: Share,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, UpstreamError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/v2/{}/{}", url.path().trim_end_matches('/'), ask.name.repo(), ask.path));
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut headers = ask.headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(marker) = &*self.lasting.marker.load() {
            marker.mark(&mut headers);
        }
        let request = Request { method: ask.method.clone(), url, headers, authorization, form: None };
        let sent = hops::follow(&self.clients, request, self.settings.insecure, self.settings.timeout).await;
        let status = sent.as_ref().ok().map(Response::status);
        self.meter.count(&self.host, ask.kind, &ask.method, status);
        let response = sent.map_err(|why| self.no_answer(why))?;
        self.budget.heard(share, response.status(), response.headers());
        self.meter.limits(&self.host, response.headers());
        Ok(response)
    }

    /// What to prove with who asks.
    async fn login(&self, name: &UpstreamName) -> Result<Option<Login>, UpstreamError> {
        let credentials = self.credentials.as_ref().map_err(|_| {
            self.unavailable("its credentials cannot be read by this node, whose log says why", RETRY)
        })?;
        match credentials.find(name, self.own_credentials) {
            None => Ok(None),
            Some(Source::Here(login)) => Ok(Some(login)),
            Some(Source::Helper { helper, server }) => {
                let said = self.helpers.get(&helper, &server).await;
                said.map_err(|why| self.unavailable(why, RETRY))
            }
        }
    }

    /// An answer of success, or what another one means.
    pub(super) fn judged(&self, answer: Answer) -> Result<Answer, UpstreamError> {
        let status = answer.response.status();
        let retry = || retry_after(answer.response.headers()).unwrap_or(RETRY);
        match status.as_u16() {
            200 | 206 => Ok(answer),
            404 => Err(UpstreamError::NotFound),
            401 | 403 => Err(self.denied()),
            429 => Err(self.unavailable("its rate limit is reached (429)", retry())),
            508 => Err(self.bad("is this registry itself, or leads back to it")),
            code @ (408 | 500..) => Err(self.unavailable(format_args!("answered {code}"), retry())),
            code => Err(self.bad(format_args!("answered {code}"))),
        }
    }

    /// It gives this to others, if to anybody.
    pub(super) fn denied(&self) -> UpstreamError {
        UpstreamError::Denied(format!(
            "upstream {}: does not give this to this registry: it does not exist there, or takes other credentials",
            self.host
        ))
    }

    pub(super) fn bad(&self, why: impl Display) -> UpstreamError {
        UpstreamError::Bad(format!("upstream {}: {why}", self.host))
    }

    pub(super) fn unavailable(&self, why: impl Display, retry: Duration) -> UpstreamError {
        UpstreamError::Unavailable { why: format!("upstream {}: {why}", self.host), retry }
    }

    pub(super) fn no_answer(&self, why: NoAnswer) -> UpstreamError {
        match why {
            NoAnswer::Refused(why) => self.bad(why),
            NoAnswer::Unreachable(why) => self.unavailable(why, RETRY),
        }
    }

    /// The whole body of an answer.
    pub(super) async fn whole(&self, answer: Answer, most: usize) -> Result<bytes::Bytes, UpstreamError> {
        let Answer { response, held: _held } = answer;
        body::whole(response, most, self.settings.timeout).await.map_err(|unread| match unread {
            Unread::TooLong => self.bad(format_args!("answered more than {} MiB", most >> 20)),
            Unread::Broken => self.unavailable("broke off", RETRY),
        })
    }
}
