//! A registry that answers as a test says, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use trow_api::pull::{Host, UpstreamName};
use trow_raft::Digest;

use crate::upstream::{HostSettings, Proxies, Registries, System, UpstreamSettings};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// How long anything in these tests may take.
pub const BOUND: Duration = Duration::from_secs(30);

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    /// A header as text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The registry; it ends with the test's runtime.
#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// One that answers at once.
    pub async fn start(answer: impl Fn(Seen) -> Response + Send + Sync + 'static) -> Fake {
        Fake::slow(move |seen| {
            let response = answer(seen);
            Box::pin(async move { response })
        })
        .await
    }

    /// One that takes its time.
    pub async fn slow(answer: impl Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync + 'static) -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, answer) = (seen.clone(), Arc::new(answer));
        let router = axum::Router::new().fallback(move |request: Request| {
            let (told, answer) = (told.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or("").to_owned());
                let seen = Seen { method: parts.method, path, query, headers: parts.headers, body };
                told.lock().unwrap().push(seen.clone());
                answer(seen).await
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Fake { address, seen }
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// As lines of method and path.
    pub fn asked(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    /// The settings by which it is found.
    pub fn settings(&self) -> HostSettings {
        HostSettings {
            endpoint: format!("http://{}", self.address).parse().ok(),
            insecure: true,
            allow_private: true,
            timeout: Duration::from_secs(10),
            ..HostSettings::default()
        }
    }

    /// A client that knows it as `registry.test`.
    pub fn registries(&self) -> Registries {
        registries(self.settings())
    }
}

/// A client that knows `registry.test` by these settings.
pub fn registries(host: HostSettings) -> Registries {
    let hosts = [(host_named("registry.test"), host)].into();
    Registries::with(
        UpstreamSettings { hosts, ..UpstreamSettings::default() },
        Arc::new(System),
        Proxies::none(),
    )
}

/// A client that knows the registry by its settings, with this file of credentials.
pub fn settled(fake: &Fake, file: &str) -> Registries {
    settled_with(fake.settings(), file)
}

/// The same, by other settings.
pub fn settled_with(settings: HostSettings, file: &str) -> Registries {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    std::fs::write(&path, file).unwrap();
    registries(HostSettings { auth_file: Some(path), ..settings })
}

pub fn host_named(text: &str) -> Host {
    text.parse().unwrap()
}

/// A repository of `registry.test`.
pub fn name(repo: &str) -> UpstreamName {
    UpstreamName::new(host_named("registry.test"), &repo.parse().unwrap()).unwrap()
}

pub fn tag(text: &str) -> trow_api::route::Reference {
    trow_api::route::Reference::Tag(text.parse().unwrap())
}

pub fn status(code: u16) -> Response {
    with(code, &[], "")
}

/// A reply of a status, headers and a body.
pub fn with(code: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    response
}

/// A manifest as a proper registry sends it.
pub fn manifest(bytes: &str) -> Response {
    let digest = Digest::sha256(bytes.as_bytes()).to_string();
    with(200, &[("content-type", MANIFEST), ("docker-content-digest", &digest)], bytes.to_owned())
}
