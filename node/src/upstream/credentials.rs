//! Credentials for upstreams, as a dockerconfigjson gives them.
//!
//! Owns the file's form and which of its entries counts for a repository: the one of its registry with the longest
//! path that the repository lies below. Always holds: no secret is shown, by `Debug` neither, and no error quotes
//! the file. Never does: read files, run helpers, send anything.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use trow_api::pull::{Host, UpstreamName};

use crate::follow::{self, Content};

/// Docker Hub as credential stores know it.
const DOCKER_SERVER: &str = "https://index.docker.io/v1/";

/// What is sent to prove who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user and a password, or a token that is used as one.
    Password {
        /// Who.
        user: String,
        /// The secret.
        password: String,
    },
    /// A refresh token, which a token service exchanges.
    Identity(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Password { .. } => "Password",
            Login::Identity(_) => "Identity",
        })
    }
}

/// Where a login comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file has it.
    Here(Login),
    /// The program `docker-credential-<helper>` knows it by the name `server`.
    Helper {
        /// The end of the program's name.
        helper: String,
        /// What it is asked for.
        server: String,
    },
}

/// The entries of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    entries: Vec<Entry>,
    store: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: Host,
    /// Repositories below this; all when it is empty.
    path: String,
    source: Source,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// The credentials of a file.
///
/// # Errors
/// What is wrong with it, with its name.
pub fn read(path: &Path) -> Result<Credentials, String> {
    parse(path, &follow::read(path))
}

/// The credentials of a file that was read.
pub(super) fn parse(path: &Path, content: &Content) -> Result<Credentials, String> {
    let bytes = content.as_ref().map_err(|why| format!("{} {why}", path.display()))?;
    Credentials::parse(bytes).map_err(|why| format!("{} {why}", path.display()))
}

impl Credentials {
    /// # Errors
    /// What is wrong, without a word of the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Credentials, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| {
            format!("is no dockerconfigjson (line {}, column {})", error.line(), error.column())
        })?;
        let Document { auths, helpers, store } = document;
        let mut entries = Vec::new();
        for (key, auth) in auths {
            let (host, path) = place(&key)
                .ok_or_else(|| format!("has an entry of auths that names no registry: {key:?}"))?;
            let login = auth.login().map_err(|why| format!("has an entry of auths, {key:?}, {why}"))?;
            // Docker leaves an empty entry for what its store has.
            let stored =
                || (!store.is_empty()).then(|| Source::Helper { helper: store.clone(), server: key.clone() });
            let source = login.map(Source::Here).or_else(stored);
            entries.extend(source.map(|source| Entry { host, path, source }));
        }
        for (key, helper) in helpers {
            let (host, path) = place(&key)
                .ok_or_else(|| format!("has an entry of credHelpers that names no registry: {key:?}"))?;
            // The helper was named for this very registry: it wins over what else there is.
            entries.retain(|entry| entry.host != host || entry.path != path);
            entries.push(Entry { host, path, source: Source::Helper { helper, server: key } });
        }
        let named = entries.iter().filter_map(|entry| match &entry.source {
            Source::Helper { helper, .. } => Some(helper),
            Source::Here(_) => None,
        });
        let store = Some(store).filter(|store| !store.is_empty());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if let Some(helper) =
            named.chain(&store).find(|helper| helper.is_empty() || !helper.bytes().all(plain))
        {
            return Err(format!("names a credential helper that is no program: {helper:?}"));
        }
        // The longest path first.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.path.len()));
        Ok(Credentials { entries, store })
    }

    /// The registries, and paths below them, that there are logins for.
    pub(super) fn places(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|Entry { host, path, .. }| match path.as_str() {
            "" => host.to_string(),
            path => format!("{host}/{path}"),
        })
    }

    /// Whether a program is asked for what the entries do not have.
    pub(super) fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// Where the login for a repository is. The file is the registry's `own` if it was named for it alone: then
    /// its store is asked although no entry says so.
    pub(super) fn find(&self, name: &UpstreamName, own: bool) -> Option<Source> {
        let repo = name.repo().as_str();
        let within = |path: &str| {
            path.is_empty()
                || repo.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut entries = self.entries.iter().filter(|entry| entry.host == *name.host());
        let entry = entries.find(|entry| within(&entry.path)).map(|entry| entry.source.clone());
        entry.or_else(|| {
            let helper = self.store.clone().filter(|_| own)?;
            let host = name.host();
            let server = if host.is_docker() { DOCKER_SERVER.to_owned() } else { host.to_string() };
            Some(Source::Helper { helper, server })
        })
    }
}

impl Auth {
    fn login(self) -> Result<Option<Login>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Login::Identity(self.identitytoken)));
        }
        if !self.username.is_empty() {
            return Ok(Some(Login::Password { user: self.username, password: self.password }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let text = self.auth.trim_end_matches('=');
        let pair = STANDARD_NO_PAD.decode(text).or_else(|_| STANDARD.decode(&self.auth)).ok();
        let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair.ok_or("whose auth is not base64 of user:password")?;
        let (user, password) = pair.split_once(':').ok_or("whose auth is not base64 of user:password")?;
        // Docker pads passwords with zero bytes.
        let password = password.trim_end_matches('\0');
        Ok(Some(Login::Password { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// The registry, and the path below it, that a key means: `registry.example.com/team`, `https://index.docker.io/v1/`.
fn place(key: &str) -> Option<(Host, String)> {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    Some((host.parse().ok()?, path.to_owned()))
}
