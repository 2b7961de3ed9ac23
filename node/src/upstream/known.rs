//! The registries that are known, under the settings of now.
//!
//! Always holds: new settings, credentials or authorities make all registries anew, while budgets stay; hosts that
//! clients invent share one client and are forgotten beyond a bound.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use reqwest::Certificate;
use trow_api::pull::{Host, Prefixes, UpstreamName};

use super::answers::{Rules, UpstreamError};
use super::budget::Budget;
use super::clients::Clients;
use super::credentials::{self, Credentials};
use super::helper::Helpers;
use super::logins::Logins;
use super::marker::Marker;
use super::meter::Meter;
use super::proxies::Proxies;
use super::registry::Registry;
use super::resolve::{Guard, Lookup};
use super::settings::{HostSettings, UpstreamSettings};
use super::tokens::Tokens;
use super::trust;
use crate::follow::Content;

/// Registries that are kept, as far as nobody asks them just now.
const REGISTRIES_MAX: usize = 1024;

/// What stays whatever the settings are.
pub(super) struct Lasting {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) proxies: Proxies,
    /// Nothing is marked before the cluster is known.
    pub(super) marker: ArcSwapOption<Marker>,
    pub(super) meter: Arc<Meter>,
    /// What programs said counts on when settings change.
    pub(super) helpers: ArcSwap<Helpers>,
    pub(super) prefixes: Prefixes,
    pub(super) logins: Logins,
    budgets: Mutex<HashMap<Host, Limited>>,
}

/// A budget, and the settings that it was made by.
struct Limited {
    rate: u64,
    concurrency: u64,
    budget: Arc<Budget>,
}

impl Lasting {
    pub(super) fn new(lookup: Arc<dyn Lookup>, proxies: Proxies) -> Lasting {
        Lasting {
            lookup,
            proxies,
            marker: ArcSwapOption::empty(),
            meter: Arc::default(),
            helpers: ArcSwap::default(),
            prefixes: Prefixes::default(),
            logins: Logins::default(),
            budgets: Mutex::default(),
        }
    }

    fn budget(&self, host: &Host, settings: &HostSettings) -> Arc<Budget> {
        let HostSettings { rate, concurrency, .. } = *settings;
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let old = budgets.get(host);
        if let Some(old) = old.filter(|old| (old.rate, old.concurrency) == (rate, concurrency)) {
            return old.budget.clone();
        }
        let budget =
            old.map_or_else(|| Budget::new(rate, concurrency), |old| old.budget.with(rate, concurrency));
        let budget = Arc::new(budget);
        if budgets.len() >= REGISTRIES_MAX {
            budgets.retain(|_, limited| Arc::strong_count(&limited.budget) > 1);
        }
        budgets.insert(host.clone(), Limited { rate, concurrency, budget: budget.clone() });
        budget
    }
}

/// What the files hold that the settings name.
#[derive(Clone, Default)]
pub(super) struct Files {
    /// As they were found.
    pub(super) found: BTreeMap<PathBuf, Content>,
    credentials: BTreeMap<PathBuf, Result<Arc<Credentials>, String>>,
    authorities: BTreeMap<PathBuf, Result<Vec<Certificate>, String>>,
}

impl Files {
    /// Reads those that `settings` name. One that cannot be used leaves what it held before.
    pub(super) fn read(
        settings: &UpstreamSettings,
        before: &Files,
        content: impl Fn(&Path) -> Content,
    ) -> Files {
        let mut files = Files::default();
        for path in settings.auth_files() {
            let found = content(path);
            let read = credentials::parse(path, &found).map(Arc::new);
            files.found.insert(path.to_owned(), found);
            files.credentials.insert(path.to_owned(), or_before(read, before.credentials.get(path)));
        }
        for path in settings.authorities() {
            let found = content(path);
            let read = trust::parse(path, &found);
            files.found.insert(path.to_owned(), found);
            files.authorities.insert(path.to_owned(), or_before(read, before.authorities.get(path)));
        }
        files
    }
}

fn or_before<T: Clone>(read: Result<T, String>, before: Option<&Result<T, String>>) -> Result<T, String> {
    let Err(why) = read else { return read };
    match before {
        Some(Ok(before)) => {
            tracing::error!(cause = why, "a file of upstreams cannot be used; what it held before counts on");
            Ok(before.clone())
        }
        _ => {
            tracing::error!(cause = why, "a file of upstreams cannot be used");
            Err(why)
        }
    }
}

/// The settings, and the registries that were asked under them.
pub(super) struct Known {
    pub(super) settings: UpstreamSettings,
    pub(super) files: Files,
    lasting: Arc<Lasting>,
    registries: Mutex<HashMap<Host, Arc<Registry>>>,
    clients: Mutex<HashMap<Connecting, Arc<Clients>>>,
}

/// What connections are made by.
#[derive(PartialEq, Eq, Hash)]
struct Connecting {
    allow_private: bool,
    ca: Option<PathBuf>,
    timeout: Duration,
}

impl Known {
    pub(super) fn new(settings: UpstreamSettings, files: Files, lasting: Arc<Lasting>) -> Known {
        lasting.meter.configured(settings.hosts.keys().cloned());
        let prefixes = settings.prefixes.iter();
        // The configuration lets no others be.
        let prefixes = prefixes.filter_map(|(prefix, host)| Some((prefix.parse().ok()?, host.clone())));
        lasting.prefixes.replace(prefixes.collect());
        let (registries, clients) = (Mutex::default(), Mutex::default());
        let known = Known { settings, files, lasting, registries, clients };
        known.lasting.logins.learn(known.places().into_iter());
        known
    }

    /// What there are credentials for.
    fn places(&self) -> Vec<String> {
        let files = self.files.credentials.values().flatten();
        let mut places: Vec<String> = files.flat_map(|credentials| credentials.places()).collect();
        for host in self.settings.hosts.keys().filter(|host| self.own_credentials(host)) {
            if self.credentials(host).is_ok_and(|credentials| credentials.has_store()) {
                places.push(host.to_string());
            }
        }
        places
    }

    pub(super) fn rules(&self, name: &UpstreamName) -> Rules {
        let host = self.settings.of(name.host());
        Rules {
            allowed: self.settings.allows(name),
            offline: self.settings.offline,
            freshness: host.freshness,
            follow_deletes: host.follow_deletes,
            needs_user: self.needs_user(name),
        }
    }

    /// Whether what is behind the name is fetched with credentials that do not count as everybody's.
    pub(super) fn needs_user(&self, name: &UpstreamName) -> bool {
        let has_login = || match self.credentials(name.host()) {
            Ok(credentials) => credentials.find(name, self.own_credentials(name.host())).is_some(),
            // What they would see is nobody's before they are known.
            Err(_) => true,
        };
        !self.settings.of(name.host()).public && (has_login() || self.lasting.logins.cover(name))
    }

    /// Whether there are credentials for anything, or ever were.
    pub(super) fn had_logins(&self) -> bool {
        self.settings.auth_files().next().is_some() || self.lasting.logins.any()
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
        if registries.len() >= REGISTRIES_MAX {
            registries.retain(|_, registry| Arc::strong_count(registry) > 1);
        }
        let registry = Arc::new(self.make(host)?);
        registries.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    fn make(&self, host: &Host) -> Result<Registry, UpstreamError> {
        let settings = self.settings.of(host).clone();
        let endpoint = settings.endpoint_of(host);
        let bad = || UpstreamError::Bad(format!("upstream {host}: its endpoint is no address"));
        Ok(Registry {
            host: host.clone(),
            endpoint: endpoint.ok_or_else(bad)?,
            clients: self.clients(&settings),
            meter: self.lasting.meter.clone(),
            tokens: Tokens::default(),
            budget: self.lasting.budget(host, &settings),
            credentials: self.credentials(host),
            own_credentials: self.own_credentials(host),
            helpers: self.lasting.helpers.load_full(),
            lasting: self.lasting.clone(),
            settings,
        })
    }

    fn credentials(&self, host: &Host) -> Result<Arc<Credentials>, String> {
        let Some(path) = &self.settings.of(host).auth_file else { return Ok(Arc::default()) };
        self.files.credentials.get(path).cloned().unwrap_or_else(|| Err("was not read".to_owned()))
    }

    /// Whether the file of credentials was named for the host alone.
    fn own_credentials(&self, host: &Host) -> bool {
        self.settings.of(host).auth_file != self.settings.everybody.auth_file
    }

    fn clients(&self, settings: &HostSettings) -> Arc<Clients> {
        let HostSettings { allow_private, timeout, .. } = *settings;
        let key = Connecting { allow_private, ca: settings.ca.clone(), timeout };
        let authorities = settings.ca.as_ref().and_then(|path| self.files.authorities.get(path));
        // Without them nothing is trusted that takes them: the connection fails and says so.
        let authorities = authorities.and_then(|read| read.clone().ok()).unwrap_or_default();
        let Lasting { lookup, proxies, .. } = &*self.lasting;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let guard = Guard { lookup: lookup.clone(), allow_private };
            Clients::new(guard, proxies.clone(), authorities, timeout)
        };
        clients.entry(key).or_insert_with(make).clone()
    }
}
