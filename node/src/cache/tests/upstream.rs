//! A registry that gives blobs as slowly, as wrongly and as unreliably as a test wants.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{Method, StatusCode, header};
use tokio::sync::watch;
use trow_raft::Digest;

/// What is sent at once.
const PIECE: usize = 16 << 10;

/// A blob, and how it is given.
#[derive(Clone)]
pub struct Given {
    pub bytes: Bytes,
    /// Repositories that have it.
    pub repos: Vec<&'static str>,
    /// Whether ranges are known.
    pub ranges: bool,
    /// The length that is said, if any is.
    pub length: Option<u64>,
    /// After how many bytes each body breaks off, one after another.
    pub cuts: VecDeque<usize>,
    /// How many bytes may have been sent.
    pub gate: watch::Receiver<usize>,
}

/// Method, path, and where the range begins.
type Asked = (Method, String, Option<u64>);

/// The registry; it ends with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    blobs: Arc<Mutex<HashMap<Digest, Given>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Upstream {
    pub async fn start() -> Upstream {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Upstream { address, blobs: Arc::default(), asked: Arc::default() };
        let (blobs, asked) = (upstream.blobs.clone(), upstream.asked.clone());
        let router = axum::Router::new().fallback(move |request: Request| {
            let (blobs, asked) = (blobs.clone(), asked.clone());
            async move {
                let path = request.uri().path().to_owned();
                let range = request.headers().get(header::RANGE).map(|range| {
                    let text = range.to_str().unwrap();
                    text.strip_prefix("bytes=")
                        .and_then(|text| text.strip_suffix('-'))
                        .unwrap()
                        .parse()
                        .unwrap()
                });
                asked.lock().unwrap().push((request.method().clone(), path.clone(), range));
                let (repo, digest) = path.strip_prefix("/v2/").unwrap().split_once("/blobs/").unwrap();
                let mut blobs = blobs.lock().unwrap();
                let given = blobs.get_mut(&digest.parse::<Digest>().unwrap());
                match given.filter(|given| given.repos.contains(&repo)) {
                    None => Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap(),
                    Some(given) => give(given, request.method() == Method::HEAD, range),
                }
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        upstream
    }

    /// Has the registry give `bytes` under the digest of `named`, in the repository `app`; what the gate says may go.
    pub fn has(&self, named: &Bytes, change: impl FnOnce(&mut Given)) -> watch::Sender<usize> {
        let (open, gate) = watch::channel(usize::MAX);
        let mut given = Given {
            bytes: named.clone(),
            repos: vec!["app"],
            ranges: true,
            length: Some(named.len() as u64),
            cuts: VecDeque::new(),
            gate,
        };
        change(&mut given);
        self.blobs.lock().unwrap().insert(Digest::sha256(named), given);
        open
    }

    /// It forgot everything.
    pub fn forget(&self) {
        self.blobs.lock().unwrap().clear();
    }

    /// Where the GETs of the blob began.
    pub fn gets(&self, named: &Bytes) -> Vec<u64> {
        let end = format!("/blobs/{}", Digest::sha256(named));
        let asked = self.asked.lock().unwrap();
        let gets = asked.iter().filter(|(method, path, _)| method == Method::GET && path.ends_with(&end));
        gets.map(|(_, _, from)| from.unwrap_or(0)).collect()
    }
}

fn give(given: &mut Given, is_head: bool, range: Option<u64>) -> Response {
    let mut reply = Response::builder();
    let from = range.filter(|_| given.ranges).unwrap_or(0) as usize;
    if let Some(length) = given.length {
        reply = reply.header(header::CONTENT_LENGTH, length - from as u64);
        if range.is_some() && given.ranges {
            let range = format!("bytes {from}-{}/{length}", length - 1);
            reply = reply.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
        }
    }
    if is_head {
        return reply.body(Body::empty()).unwrap();
    }
    let cut = given.cuts.pop_front().map_or(usize::MAX, |cut| from + cut);
    let state = (given.bytes.clone(), given.gate.clone(), from);
    let body = stream::try_unfold(state, move |(bytes, mut gate, at)| async move {
        if at >= cut {
            return Err(std::io::Error::other("cut"));
        }
        let end = (at + PIECE).min(bytes.len()).min(cut);
        if at == end {
            return Ok(None);
        }
        gate.wait_for(|open| *open >= end).await.map_err(std::io::Error::other)?;
        Ok(Some((bytes.slice(at..end), (bytes, gate, end))))
    });
    reply.body(Body::from_stream(body)).unwrap()
}
