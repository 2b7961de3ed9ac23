//! One upstream registry, and the table of those that are known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use reqwest::{Client, Response, Url};
use trow_api::pull::{Host, UpstreamName};

use super::answers::{Rules, UpstreamError};
use super::body::{self, Unread};
use super::settings::{HostSettings, UpstreamSettings};

/// When to try again what failed for a reason that does not say.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The settings, and the registries that were asked so far.
pub(super) struct Known {
    settings: UpstreamSettings,
    registries: Mutex<HashMap<Host, Arc<Registry>>>,
}

impl Known {
    pub(super) fn new(settings: UpstreamSettings) -> Known {
        Known { settings, registries: Mutex::default() }
    }

    pub(super) fn rules(&self, name: &UpstreamName) -> Rules {
        let host = self.settings.of(name.host());
        Rules {
            allowed: self.settings.allows(name),
            offline: self.settings.offline,
            freshness: host.freshness,
            follow_deletes: host.follow_deletes,
            needs_user: false,
        }
    }

    /// The registry of a name that may be asked for now.
    pub(super) fn registry(&self, name: &UpstreamName) -> Result<Arc<Registry>, UpstreamError> {
        self.settings.allows(name).map_err(UpstreamError::Denied)?;
        let host = name.host();
        if self.settings.offline {
            return Err(UpstreamError::Denied(format!(
                "upstream {host}: nobody is asked: upstream.offline = true"
            )));
        }
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = registries.get(host) {
            return Ok(registry.clone());
        }
        let registry = Arc::new(Registry::new(host.clone(), self.settings.of(host).clone())?);
        registries.insert(host.clone(), registry.clone());
        Ok(registry)
    }
}

/// What is asked of a registry.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) name: &'a UpstreamName,
    /// Below the repository, as `tags/list`.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
}

/// One upstream registry.
pub(super) struct Registry {
    host: Host,
    endpoint: Url,
    pub(super) settings: HostSettings,
    client: Client,
}

impl Registry {
    fn new(host: Host, settings: HostSettings) -> Result<Registry, UpstreamError> {
        let bad = |why: &str| UpstreamError::Bad(format!("upstream {host}: {why}"));
        let endpoint = settings.endpoint_of(&host).ok_or_else(|| bad("its endpoint is no address"))?;
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::limited(5))
            .connect_timeout(settings.timeout)
            .http1_only()
            .build()
            .map_err(|_| bad("this node cannot make a client for it"))?;
        Ok(Registry { host, endpoint, settings, client })
    }

    /// An error of this upstream.
    pub(super) fn bad(&self, why: impl std::fmt::Display) -> UpstreamError {
        UpstreamError::Bad(format!("upstream {}: {why}", self.host))
    }

    /// It cannot be asked now.
    pub(super) fn unavailable(&self, why: impl std::fmt::Display, retry: Duration) -> UpstreamError {
        UpstreamError::Unavailable { why: format!("upstream {}: {why}", self.host), retry }
    }

    /// Asks, and gives the answer if it is one of success.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Response, UpstreamError> {
        let response = self.exchange(ask).await?;
        self.judged(response)
    }

    /// Asks, and gives whatever the answer is.
    pub(super) async fn exchange(&self, ask: Ask<'_>) -> Result<Response, UpstreamError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/v2/{}/{}", url.path().trim_end_matches('/'), ask.name.repo(), ask.path));
        url.query_pairs_mut().extend_pairs(&ask.query);
        let sent = self.client.request(ask.method, url).headers(ask.headers).send();
        match tokio::time::timeout(self.settings.timeout, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(self.unavailable("cannot be reached", RETRY)),
            Err(_) => Err(self.unavailable("does not answer in time", RETRY)),
        }
    }

    /// An answer of success, or what another one means.
    pub(super) fn judged(&self, response: Response) -> Result<Response, UpstreamError> {
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(UpstreamError::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(UpstreamError::Denied(format!(
                "upstream {}: does not let this registry have it",
                self.host
            ))),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(self.unavailable(format_args!("answered {}", status.as_u16()), RETRY))
            }
            status => Err(self.bad(format_args!("answered {}", status.as_u16()))),
        }
    }

    /// The whole body of an answer.
    pub(super) async fn whole(&self, response: Response, most: usize) -> Result<bytes::Bytes, UpstreamError> {
        body::whole(response, most, self.settings.timeout).await.map_err(|unread| match unread {
            Unread::TooLong => self.bad(format_args!("answered more than {} MiB", most >> 20)),
            Unread::Broken => self.unavailable("broke off", RETRY),
        })
    }
}
