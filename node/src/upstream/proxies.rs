//! Proxies between this node and upstreams: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
//!
//! Never does: judge where a request may lead, which is done before a proxy is asked; show a proxy's password.

use std::sync::Arc;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::Url;

/// Which proxy is to be asked for what.
#[derive(Clone)]
pub struct Proxies(Option<Arc<Matcher>>);

impl Proxies {
    /// As the variables of this process say.
    pub fn of_process() -> Proxies {
        Proxies(Some(Arc::new(Matcher::from_env())))
    }

    /// None for anything.
    #[cfg(test)]
    pub fn none() -> Proxies {
        Proxies(None)
    }

    /// One for everything but what `no` lists.
    #[cfg(test)]
    pub fn all(proxy: &str, no: &str) -> Proxies {
        Proxies(Some(Arc::new(Matcher::builder().all(proxy.to_owned()).no(no.to_owned()).build())))
    }

    /// The one to be asked for `url`.
    pub(super) fn of(&self, url: &Url) -> Option<Proxy> {
        self.0.as_ref()?.intercept(&url.as_str().parse().ok()?).map(Proxy)
    }
}

/// A proxy, with what it wants to be shown.
pub(super) struct Proxy(Intercept);

impl Proxy {
    /// Tells it from others.
    pub(super) fn key(&self) -> String {
        self.0.uri().to_string()
    }

    pub(super) fn build(&self) -> reqwest::Result<reqwest::Proxy> {
        let proxy = reqwest::Proxy::all(self.key())?;
        Ok(match self.0.basic_auth() {
            Some(header) => proxy.custom_http_auth(header.clone()),
            None => proxy,
        })
    }
}
