//! A registry of one node to send requests to, and the content that tests push into it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry as Counters;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trow_api::blobs::memory::Memory;
use trow_api::pull::memory::Memory as Upstreams;
use trow_api::{AdminToken, Api, HttpMetrics, Replies, Settings};
use trow_raft::{Algorithm, Digest, Evidence, Generation, Member, MemberState, Metadata, NodeId};

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const TOKEN: &str = "the-admin-token";

/// A request that has it comes from the registry itself.
pub const LOOP: &str = "test-loop";

/// No test takes longer than this.
pub const BOUND: Duration = Duration::from_secs(60);

pub struct Registry {
    pub address: String,
    pub blobs: Arc<Memory>,
    pub upstreams: Arc<Upstreams>,
    pub counters: Counters,
    pub replies: Replies,
    pub metadata: Metadata,
    client: Client,
    _dirs: Vec<tempfile::TempDir>,
}

/// A full member with this id.
pub fn member(id: NodeId) -> Member {
    Member {
        id,
        name: format!("n{}", id.0),
        zone: String::new(),
        state: MemberState::Active,
        generation: GENERATION,
        max_level: trow_raft::command::LEVEL,
        weight: 1,
        client: String::new(),
        peer: String::new(),
    }
}

/// That member's word for a blob.
pub fn evidence(id: NodeId) -> Evidence {
    Evidence { node: id, generation: GENERATION }
}

const GENERATION: Generation = Generation(1);

impl Registry {
    pub async fn start() -> Registry {
        Registry::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let id = NodeId(1);
        let metadata = Metadata::open(trow_raft::Settings::alone(id, dir.path())).await.unwrap();
        metadata.initialize(BTreeSet::from([id])).await.unwrap();
        tokio::time::timeout(BOUND, metadata.birth(1, vec![member(id)])).await.unwrap();
        let blobs = Arc::new(Memory::new(metadata.clone(), vec![evidence(id)]));
        Registry::over(metadata, blobs, settings, vec![dir]).await
    }

    /// A registry over metadata that is there already.
    pub async fn over(
        metadata: Metadata,
        blobs: Arc<Memory>,
        settings: Settings,
        dirs: Vec<tempfile::TempDir>,
    ) -> Registry {
        let mut counters = Counters::default();
        let replies = Replies::default();
        let upstreams = Arc::new(Upstreams::default());
        let api = Api {
            metadata: metadata.clone(),
            blobs: blobs.clone(),
            upstreams: upstreams.clone(),
            looped: Arc::new(|headers| headers.contains_key(LOOP)),
            node: "n1".into(),
            token: AdminToken::new(TOKEN),
            replies: replies.clone(),
            metrics: HttpMetrics::register(&mut counters),
            settings,
            admin: axum::Router::new(),
            adopt: |_, _| (),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, trow_api::router(api)).await });
        // The second test of the process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(BOUND).build().unwrap();
        Registry { address, blobs, upstreams, counters, replies, metadata, client, _dirs: dirs }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn head(&self, path: &str) -> Response {
        self.request(Method::HEAD, path).send().await.unwrap()
    }

    /// As the administrator.
    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).bearer_auth(TOKEN).send().await.unwrap()
    }

    pub async fn push_blob(&self, repo: &str, content: &[u8]) -> Digest {
        self.push_blob_as(repo, Algorithm::Sha256, content).await
    }

    pub async fn push_blob_as(&self, repo: &str, algorithm: Algorithm, content: &[u8]) -> Digest {
        let digest = Digest::of(algorithm, content);
        let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        let response = self.request(Method::POST, &path).body(content.to_vec()).send().await.unwrap();
        assert_eq!(response.status(), 201);
        digest
    }

    pub async fn put_manifest(&self, repo: &str, reference: &str, kind: &str, body: &str) -> Response {
        let path = format!("/v2/{repo}/manifests/{reference}");
        let request = self.request(Method::PUT, &path).header("content-type", kind);
        request.body(body.to_owned()).send().await.unwrap()
    }

    /// Pushes an image of one layer with this content; gives its text.
    pub async fn push_image(&self, repo: &str, tag: &str, layer: &str) -> String {
        self.push_blob(repo, b"{}").await;
        self.push_blob(repo, layer.as_bytes()).await;
        let text = image(layer).to_string();
        let response = self.put_manifest(repo, tag, IMAGE, &text).await;
        assert_eq!(response.status(), 201);
        text
    }

    /// As [`Self::push_image`], whoever else may push.
    pub async fn push_image_as_admin(&self, repo: &str, tag: &str, layer: &str) -> String {
        for content in ["{}", layer] {
            let digest = Digest::sha256(content.as_bytes());
            let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
            let request = self.request(Method::POST, &path).bearer_auth(TOKEN).body(content.to_owned());
            assert_eq!(request.send().await.unwrap().status(), 201);
        }
        let text = image(layer).to_string();
        let request = self.request(Method::PUT, &format!("/v2/{repo}/manifests/{tag}")).bearer_auth(TOKEN);
        let request = request.header("content-type", IMAGE).body(text.clone());
        assert_eq!(request.send().await.unwrap().status(), 201);
        text
    }

    /// Sends bytes as they are; what came back until the connection closed or fell silent.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut from, mut to) = stream.split();
        let mut answer = Vec::new();
        let exchange = async {
            let _ = to.write_all(request).await;
            let _ = from.read_to_end(&mut answer).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), exchange).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub fn descriptor(content: &str, media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(content.as_bytes()), "size": content.len() })
}

pub fn image(layer: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor("{}", CONFIG),
        "layers": [descriptor(layer, LAYER)],
    })
}

pub fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

pub fn log_id(response: &Response) -> u64 {
    header(response, "trow-log-id").parse().unwrap()
}

/// The status and the OCI code of an error, and that it has the common headers.
pub async fn problem(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(header(&response, "trow-node"), "n1");
    assert!(!header(&response, "x-request-id").is_empty());
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert_eq!(header(&response, "content-type"), "application/json");
    let body: Value = response.json().await.unwrap();
    let error = &body["errors"][0];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    (status, error["code"].as_str().unwrap().to_owned())
}

/// Where a reply's `Link` leads next, if anywhere; what it is made of is what RFC 8288 asks for.
pub fn next_page(response: &Response) -> Option<String> {
    let links: Vec<_> = response.headers().get_all("link").iter().collect();
    assert!(links.len() <= 1, "{links:?}");
    let link = links.first()?.to_str().unwrap();
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    let target = target.unwrap_or_else(|| panic!("{link:?} is no link to a next page"));
    assert!(target.starts_with("/v2/") && !target.contains(['<', '>', ' ', '"']), "{target:?}");
    Some(target.to_owned())
}
