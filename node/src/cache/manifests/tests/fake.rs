//! A registry whose tags move and go, and which fails as it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::json;
use tokio::sync::watch;
use trow_raft::Digest;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What it does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Answers,
    /// With this status.
    Fails(u16),
    /// Finds out what to say, and says it once its mood is another.
    Waits,
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    content: Mutex<Content>,
    mood: watch::Sender<Mood>,
    asked: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Content {
    /// By the path below `/v2/`: media type and bytes.
    at: BTreeMap<String, (String, Bytes)>,
    has_referrers: bool,
}

/// A manifest that nothing but its bytes says anything of.
#[derive(Clone, Debug)]
pub struct Made {
    pub digest: Digest,
    pub media_type: &'static str,
    pub bytes: Bytes,
}

/// A blob and its length.
pub fn blob(of: &str) -> (Digest, u64) {
    (Digest::sha256(of.as_bytes()), of.len() as u64)
}

fn descriptor(of: &str) -> serde_json::Value {
    let (digest, size) = blob(of);
    json!({ "mediaType": "application/x", "digest": digest, "size": size })
}

fn made(media_type: &'static str, text: &serde_json::Value) -> Made {
    let bytes = Bytes::from(text.to_string());
    Made { digest: Digest::sha256(&bytes), media_type, bytes }
}

/// An image of these blobs, the first of which is its config.
pub fn image(blobs: &[&str]) -> Made {
    let layers: Vec<_> = blobs[1..].iter().map(|of| descriptor(of)).collect();
    let config = descriptor(blobs[0]);
    made(IMAGE, &json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers }))
}

/// An image that refers to another.
pub fn referrer(subject: &Made, kind: &str) -> Made {
    let subject = json!({ "mediaType": IMAGE, "digest": subject.digest, "size": subject.bytes.len() });
    let config = descriptor("{}");
    made(
        IMAGE,
        &json!({
            "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [],
            "artifactType": kind, "subject": subject,
        }),
    )
}

pub fn index(children: &[&Made]) -> Made {
    let one = |child: &&Made| json!({ "mediaType": child.media_type, "digest": child.digest, "size": child.bytes.len() });
    let manifests: Vec<_> = children.iter().map(one).collect();
    made(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
}

impl Fake {
    pub async fn start() -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            content: Mutex::default(),
            mood: watch::Sender::new(Mood::Answers),
            asked: Mutex::default(),
        });
        let fake = Fake { address, inner };
        let answering = fake.clone();
        let router = axum::Router::new().fallback(move |request: Request| {
            let fake = answering.clone();
            async move { fake.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    /// From now on.
    pub fn mood(&self, mood: Mood) {
        self.inner.mood.send_replace(mood);
    }

    /// Has the manifest, also under this tag if it is not empty.
    pub fn has(&self, repo: &str, tag: &str, made: &Made) {
        let mut content = self.inner.content.lock().unwrap();
        for at in [made.digest.to_string(), tag.to_owned()].iter().filter(|at| !at.is_empty()) {
            let what = (made.media_type.to_owned(), made.bytes.clone());
            content.at.insert(format!("{repo}/manifests/{at}"), what);
        }
    }

    /// Has these bytes as whatever they are called.
    pub fn says(&self, repo: &str, tag: &str, media_type: &str, bytes: &'static str) -> Digest {
        let digest = Digest::sha256(bytes.as_bytes());
        let mut content = self.inner.content.lock().unwrap();
        for at in [digest.to_string(), tag.to_owned()] {
            let what = (media_type.to_owned(), Bytes::from_static(bytes.as_bytes()));
            content.at.insert(format!("{repo}/manifests/{at}"), what);
        }
        digest
    }

    pub fn deletes(&self, repo: &str, tag: &str) {
        self.inner.content.lock().unwrap().at.remove(&format!("{repo}/manifests/{tag}"));
    }

    pub fn lists(&self, path: &str, json: &serde_json::Value) {
        let mut content = self.inner.content.lock().unwrap();
        content.has_referrers = true;
        content.at.insert(path.to_owned(), ("application/json".into(), json.to_string().into()));
    }

    /// How often it was asked this: `HEAD app/manifests/1`.
    pub fn count(&self, what: &str) -> usize {
        self.inner.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }

    pub fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path().trim_start_matches("/v2/").to_owned();
        self.inner.asked.lock().unwrap().push(format!("{} {path}", request.method()));
        let found = self.inner.content.lock().unwrap().at.get(&path).cloned();
        let mut mood = self.inner.mood.subscribe();
        let mood = *mood.wait_for(|mood| *mood != Mood::Waits).await.unwrap();
        let empty = |status| Response::builder().status(status).body(Body::empty()).unwrap();
        if let Mood::Fails(status) = mood {
            return empty(StatusCode::from_u16(status).unwrap());
        }
        let Some((media_type, bytes)) = found else { return empty(StatusCode::NOT_FOUND) };
        let reply = Response::builder()
            .header(header::CONTENT_TYPE, media_type)
            .header("docker-content-digest", Digest::sha256(&bytes).to_string())
            .header(header::CONTENT_LENGTH, bytes.len());
        let body = if request.method() == Method::HEAD { Body::empty() } else { bytes.into() };
        reply.body(body).unwrap()
    }
}
