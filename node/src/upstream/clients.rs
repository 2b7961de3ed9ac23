//! HTTP clients: one per set of rules for connections, so that no connection made under one is used under another.
//!
//! Always holds: none follows a redirect, undoes an encoding, or uses a proxy that was not chosen here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};

use super::proxies::Proxies;
use super::resolve::Guard;

/// Some services in front of registries refuse who does not say what they are.
const AGENT: &str = concat!("trow/", env!("CARGO_PKG_VERSION"));
/// Idle connections to one host that are kept.
const IDLE_MAX: usize = 16;

/// The clients for one set of rules: one without a proxy, and one for each proxy that was needed.
pub(super) struct Clients {
    pub(super) guard: Guard,
    proxies: Proxies,
    authorities: Vec<Certificate>,
    timeout: Duration,
    built: Mutex<HashMap<Option<String>, Client>>,
}

impl Clients {
    pub(super) fn new(
        guard: Guard,
        proxies: Proxies,
        authorities: Vec<Certificate>,
        timeout: Duration,
    ) -> Arc<Clients> {
        Arc::new(Clients { guard, proxies, authorities, timeout, built: Mutex::default() })
    }

    /// The client for `url`, and whether a proxy is behind it.
    pub(super) fn of(&self, url: &Url) -> reqwest::Result<(Client, bool)> {
        let proxy = self.proxies.of(url);
        let key = proxy.as_ref().map(|proxy| proxy.key());
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = built.get(&key) {
            return Ok((client.clone(), proxy.is_some()));
        }
        let builder = match &proxy {
            // The proxy is where the operator says; what is asked of it is judged elsewhere.
            Some(proxy) => self.builder().proxy(proxy.build()?),
            None => self.builder().dns_resolver(Arc::new(self.guard.clone())),
        };
        let client = builder.build()?;
        built.insert(key, client.clone());
        Ok((client, proxy.is_some()))
    }

    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder()
            .user_agent(AGENT)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.timeout)
            .pool_max_idle_per_host(IDLE_MAX)
            // A body that is given up costs a connection, not a window of one that others wait on.
            .http1_only();
        self.authorities.iter().cloned().fold(builder, ClientBuilder::add_root_certificate)
    }
}
