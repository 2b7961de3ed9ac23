//! Answering.

use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LINK, LOCATION, RANGE,
    USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::http::HeaderName;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::{Body, Url};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::rule::{Hold, Twist};
use super::seen::{Kind, Seen};
use super::shelf::Object;
use super::{Guard, Shared, lock};

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&shared)))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => (),
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    // How a connection ends is the client's business, or what a rule asked for.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A path below `/v2/`, read from its end.
fn parts(path: &str) -> (Kind, &str, &str) {
    let Some(below) = path.strip_prefix("/v2/") else {
        return (if path == Guard::REALM { Kind::Token } else { Kind::Other }, "", "");
    };
    if below.is_empty() {
        return (Kind::Base, "", "");
    }
    for (mark, kind) in
        [("/manifests/", Kind::Manifest), ("/blobs/", Kind::Blob), ("/referrers/", Kind::Referrers)]
    {
        if let Some((repo, last)) = below.rsplit_once(mark) {
            return (kind, repo, last);
        }
    }
    match below.strip_suffix("/tags/list") {
        Some(repo) => (Kind::Tags, repo, ""),
        None => (Kind::Other, "", ""),
    }
}

/// Ends the request's line in the book, however its answer ends.
struct Answering(Arc<Shared>);

impl Drop for Answering {
    fn drop(&mut self) {
        lock(&self.0.book).end();
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let header = |name: HeaderName| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let seen = Seen {
        method: request.method().to_string(),
        kind: parts(request.uri().path()).0,
        target,
        range: header(RANGE),
        accept: header(ACCEPT),
        agent: header(USER_AGENT),
        authorization: header(AUTHORIZATION),
        status: None,
    };
    let number = lock(&shared.book).begin(seen.clone());
    let answering = Answering(Arc::clone(&shared));
    let twists: Vec<Twist> = {
        let rules = lock(&shared.rules);
        rules.iter().filter(|rule| rule.takes(&seen)).map(|rule| rule.twist.clone()).collect()
    };
    for twist in &twists {
        match twist {
            Twist::Late(time) => tokio::time::sleep(*time).await,
            Twist::Silent(hold) => hold.wait().await,
            _ => (),
        }
    }
    let mut reply = told(&seen, &twists).unwrap_or_else(|| reply(&seen, &shared, &twists));
    for twist in &twists {
        match twist {
            Twist::Header(name, value) => {
                reply.head.insert(*name, HeaderValue::from_str(value).expect("a header's value"));
            }
            Twist::Without(name) => drop(reply.head.remove(*name)),
            _ => (),
        }
    }
    lock(&shared.book).answered(number, reply.status.as_u16());
    let mut response = match seen.method.as_str() {
        "HEAD" => Response::new(Body::from("")),
        _ => Response::new(body(reply.object, reply.range, twists, answering)),
    };
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.head;
    response
}

/// An answer, before its body.
struct Reply {
    status: StatusCode,
    head: hyper::HeaderMap,
    object: Object,
    range: Range<u64>,
}

impl Reply {
    fn of(status: StatusCode, media: &str, object: Object) -> Self {
        let mut head = hyper::HeaderMap::new();
        let range = 0..object.len();
        head.insert(CONTENT_TYPE, HeaderValue::from_str(media).expect("a media type"));
        head.insert(CONTENT_LENGTH, HeaderValue::from(range.end));
        Reply { status, head, object, range }
    }

    fn json(status: StatusCode, json: &serde_json::Value) -> Self {
        Reply::of(status, "application/json", Object::Plain(json.to_string().into()))
    }

    fn error(status: u16, code: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": "as the test wants it"}]});
        Reply::json(StatusCode::from_u16(status).expect("a status"), &body)
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.head.insert(name, HeaderValue::from_str(value).expect("a header's value"));
        self
    }
}

/// What a rule answers in the place of the registry.
fn told(seen: &Seen, twists: &[Twist]) -> Option<Reply> {
    twists.iter().find_map(|twist| match twist {
        Twist::Answer(status) => Some(Reply::error(*status, "UNKNOWN")),
        Twist::Redirect(to) => {
            let to = to.replace("{path}", &seen.target);
            Some(Reply::error(307, "UNKNOWN").with(LOCATION, &to))
        }
        _ => None,
    })
}

/// What an honest registry answers.
fn reply(seen: &Seen, shared: &Shared, twists: &[Twist]) -> Reply {
    let url = Url::parse("http://upstream").and_then(|base| base.join(&seen.target)).expect("a target");
    let query =
        |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let (kind, repo, last) = parts(url.path());
    if let Some(guard) = &*lock(&shared.guard) {
        let mut tokens = lock(&shared.tokens);
        let said = seen.authorization.as_deref();
        match kind {
            Kind::Token if guard.gives_token(said) => {
                let token = tokens.give(&query("scope").unwrap_or_default());
                return Reply::json(StatusCode::OK, &json!({"token": token, "expires_in": 300}));
            }
            Kind::Token => return Reply::error(401, "UNAUTHORIZED"),
            _ if guard.lets_in(said, repo, &tokens) => (),
            _ => return Reply::error(401, "UNAUTHORIZED").with(WWW_AUTHENTICATE, &guard.challenge(repo)),
        }
    }
    if !matches!(seen.method.as_str(), "GET" | "HEAD") {
        return Reply::error(405, "UNSUPPORTED");
    }
    let digest = HeaderName::from_static("docker-content-digest");
    let shelf = lock(&shared.shelf);
    match kind {
        Kind::Base => Reply::json(StatusCode::OK, &json!({})),
        Kind::Manifest => match shelf.find_manifest(repo, last) {
            Some((name, manifest)) => {
                Reply::of(StatusCode::OK, &manifest.media, Object::Plain(manifest.bytes)).with(digest, &name)
            }
            None => Reply::error(404, "MANIFEST_UNKNOWN"),
        },
        Kind::Blob => match shelf.find_blob(repo, last) {
            Some(object) => blob(object, seen, twists).with(digest, last),
            None => Reply::error(404, "BLOB_UNKNOWN"),
        },
        Kind::Tags => {
            let n = query("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
            match shelf.tags(repo, n, &query("last").unwrap_or_default()) {
                Some((page, more)) => {
                    let last =
                        page["tags"].as_array().and_then(|tags| tags.last()?.as_str()).unwrap_or_default();
                    let next = format!("</v2/{repo}/tags/list?n={n}&last={last}>; rel=\"next\"");
                    let reply = Reply::json(StatusCode::OK, &page);
                    if more { reply.with(LINK, &next) } else { reply }
                }
                None => Reply::error(404, "NAME_UNKNOWN"),
            }
        }
        Kind::Referrers => {
            let filter = query("artifactType");
            let index = shelf.referrers(repo, last, filter.as_deref());
            let reply = Reply::of(
                StatusCode::OK,
                "application/vnd.oci.image.index.v1+json",
                Object::Plain(index.to_string().into()),
            );
            match filter {
                Some(_) => reply.with(HeaderName::from_static("oci-filters-applied"), "artifactType"),
                None => reply,
            }
        }
        Kind::Token | Kind::Other => Reply::error(404, "UNKNOWN"),
    }
}

/// A blob, or the range of it that was asked for: one, from a byte on or between two.
fn blob(object: Object, seen: &Seen, twists: &[Twist]) -> Reply {
    let size = object.len();
    let mut reply = Reply::of(StatusCode::OK, "application/octet-stream", object);
    let whole = twists.iter().any(|twist| matches!(twist, Twist::NoRange));
    let asked = seen.range.as_deref().filter(|_| !whole).and_then(|range| range.strip_prefix("bytes="));
    let Some((from, to)) = asked.and_then(|range| range.split_once('-')) else { return reply };
    let Ok(from) = from.parse::<u64>() else { return reply };
    let end = to.parse::<u64>().map_or(size, |to| size.min(to + 1));
    if from >= end {
        return Reply::error(416, "BLOB_UPLOAD_INVALID").with(CONTENT_RANGE, &format!("bytes */{size}"));
    }
    reply.status = StatusCode::PARTIAL_CONTENT;
    reply.range = from..end;
    reply.head.insert(CONTENT_LENGTH, HeaderValue::from(end - from));
    reply.with(CONTENT_RANGE, &format!("bytes {from}-{}/{size}", end - 1))
}

/// Where in a body something is done.
#[derive(Clone)]
enum Stop {
    Until(Hold),
    Break,
}

/// The bytes of the range, with what is done to them. What rules say counts from the start of this body.
fn body(object: Object, range: Range<u64>, twists: Vec<Twist>, answering: Answering) -> Body {
    let stops: Vec<(u64, Stop)> = twists
        .iter()
        .filter_map(|twist| match twist {
            Twist::Half(at, hold) => Some((*at, Stop::Until(hold.clone()))),
            Twist::Truncate(at) => Some((*at, Stop::Break)),
            _ => None,
        })
        .collect();
    let wrong =
        twists.iter().find_map(|twist| if let Twist::Wrong(from) = twist { Some(*from) } else { None });
    let slow = twists.iter().find_map(|twist| if let Twist::Slow(time) = twist { Some(*time) } else { None });
    // Pieces end where something is done.
    let mut pieces: Vec<Range<u64>> = Vec::new();
    let (mut at, len) = (0, range.end - range.start);
    while at < len {
        let stop = stops.iter().map(|(stop, _)| *stop).filter(|stop| *stop > at).min();
        let end = len.min(at + 64 * 1024).min(stop.unwrap_or(len));
        pieces.push(at..end);
        at = end;
    }
    let state = (pieces.into_iter(), stops, 0, answering);
    Body::wrap_stream(stream::unfold(Some(state), move |state| {
        let (object, start) = (object.clone(), range.start);
        async move {
            let (mut pieces, mut stops, at, answering) = state?;
            while let Some(index) = stops.iter().position(|(stop, _)| *stop <= at) {
                match stops.remove(index).1 {
                    Stop::Until(hold) => hold.wait().await,
                    Stop::Break => {
                        // What was written before is on its way first.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return Some((Err(io::Error::other("as the test wants it")), None));
                    }
                }
            }
            let piece = pieces.next()?;
            if let Some(time) = slow {
                tokio::time::sleep(time).await;
            }
            let mut bytes: Vec<u8> = object.part(start + piece.start..start + piece.end).flatten().collect();
            if let Some(wrong) = wrong {
                let right = wrong.saturating_sub(start + piece.start).min(bytes.len() as u64) as usize;
                bytes[right..].iter_mut().for_each(|byte| *byte = !*byte);
            }
            Some((Ok(Bytes::from(bytes)), Some((pieces, stops, piece.end, answering))))
        }
    }))
}
