//! A front that passes each HTTP request, not each connection, to the next node in strict rotation.
//!
//! What a registry keeps in the memory of one node only is found out behind it: no two requests in a
//! row are answered by the same node. Bodies stream in both directions and are never held whole;
//! headers pass as they are, `Location` too, but for those that are about one connection.
//!
//! Each request is one line of a log, from which [`strict`] judges whether the rotation was kept. The
//! front chooses no other node when one fails: that request is answered 502.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderName};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Body;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::Client;
use crate::process::Node;

/// Shorter than a node keeps an idle connection, so that none is used while the node closes it.
const IDLE: Duration = Duration::from_secs(20);

/// What the log says of one request.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Passed {
    /// Its number, in the order of arrival, from 0.
    pub seq: usize,
    /// The node that it was passed to.
    pub node: String,
    /// The node that says it answered, in `Trow-Node`.
    pub answered_by: Option<String>,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The status; 502 when the node could not be asked.
    pub status: u16,
}

/// A running front. It ends when it is dropped.
#[derive(Debug)]
pub struct Front {
    /// Where it listens, `host:port`.
    pub address: String,
    log: PathBuf,
    serving: JoinHandle<()>,
}

impl Front {
    /// Begins to pass requests to `nodes`, and to log them into the new file `log`.
    ///
    /// # Errors
    /// Without nodes, a file or a port.
    pub async fn start(nodes: &[Node], log: &Path) -> Result<Self> {
        ensure!(!nodes.is_empty(), "a front needs a node");
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr()?.to_string();
        let rotation = Rotation {
            nodes: nodes.iter().map(|node| (node.name.clone(), node.client.clone())).collect(),
            turn: AtomicUsize::new(0),
            log: Mutex::new(File::create(log).context("make the front's log")?),
            http: Http::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build_http(),
        };
        let serving = tokio::spawn(serve(listener, Arc::new(rotation)));
        Ok(Front { address, log: log.to_owned(), serving })
    }

    /// A client whose every request goes to the next node.
    pub fn client(&self) -> Client {
        Client::new("front", &self.address)
    }

    /// What was passed on and answered so far, in the order of arrival.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn passed(&self) -> Result<Vec<Passed>> {
        let text = std::fs::read_to_string(&self.log).context("read the front's log")?;
        let lines = text.lines().map(|line| serde_json::from_str(line).context("a line of the front's log"));
        let mut passed: Vec<Passed> = lines.collect::<Result<_>>()?;
        passed.sort_by_key(|request| request.seq);
        Ok(passed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// That each request of `passed` went to the node after the previous one's, and was answered by it.
///
/// # Errors
/// The first request that was not, or that is missing.
pub fn strict(passed: &[Passed], nodes: &[Node]) -> Result<()> {
    for (index, request) in passed.iter().enumerate() {
        ensure!(request.seq == index, "request {index} is not in the log: {request:?} is in its place");
        let turn = &nodes[index % nodes.len()].name;
        ensure!(request.node == *turn, "it was {turn}'s turn: {request:?}");
        ensure!(request.answered_by.as_ref() == Some(turn), "{turn} did not answer: {request:?}");
    }
    Ok(())
}

/// Whose turn it is, and how to ask.
struct Rotation {
    nodes: Vec<(String, String)>,
    turn: AtomicUsize,
    log: Mutex<File>,
    http: Http<HttpConnector, Incoming>,
}

async fn serve(listener: TcpListener, rotation: Arc<Rotation>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&rotation)))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => (),
        }
    }
}

async fn connection(stream: TcpStream, rotation: Arc<Rotation>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let rotation = Arc::clone(&rotation);
        async move { rotation.pass(request).await }
    });
    // A client that breaks off is its own business; what the node answered is in the log.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Rotation {
    /// Passes one request on. Fails only when it cannot be logged, which breaks the connection.
    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Body>, anyhow::Error> {
        let seq = self.turn.fetch_add(1, Ordering::Relaxed);
        let (node, address) = &self.nodes[seq % self.nodes.len()];
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let method = head.method.to_string();
        head.uri = format!("http://{address}{path}").parse::<Uri>().context("where the request goes")?;
        drop_connection_headers(&mut head.headers);
        let reply = match self.http.request(Request::from_parts(head, body)).await {
            Ok(reply) => reply.map(Body::wrap),
            Err(error) => {
                let mut reply = Response::new(Body::from(format!("{node} gives no answer: {error}\n")));
                *reply.status_mut() = StatusCode::BAD_GATEWAY;
                reply
            }
        };
        let (mut head, body) = reply.into_parts();
        drop_connection_headers(&mut head.headers);
        let answered_by = head.headers.get("trow-node").and_then(|name| name.to_str().ok());
        self.record(&Passed {
            seq,
            node: node.clone(),
            answered_by: answered_by.map(str::to_owned),
            method,
            path,
            status: head.status.as_u16(),
        })?;
        Ok(Response::from_parts(head, body))
    }

    /// Written before the client reads the answer, so that a client that has read all has them logged.
    fn record(&self, passed: &Passed) -> Result<()> {
        let mut line = serde_json::to_vec(passed)?;
        line.push(b'\n');
        let mut log = self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        log.write_all(&line).context("write the front's log")
    }
}

/// Removes what is about one connection: RFC 9110 section 7.6.1. How a body is framed is hyper's.
fn drop_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    headers.remove("keep-alive");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node::new(
            name,
            [String::new(), String::new(), String::new()],
            PathBuf::new(),
            Vec::new(),
            PathBuf::new(),
        )
    }

    fn passed(seq: usize, node: &str) -> Passed {
        let (method, path) = ("GET".to_owned(), "/v2/".to_owned());
        Passed { seq, node: node.to_owned(), answered_by: Some(node.to_owned()), method, path, status: 200 }
    }

    #[test]
    fn only_a_strict_rotation_passes() {
        let nodes = ["a", "b", "c"].map(node);
        let good: Vec<Passed> = ["a", "b", "c", "a"].iter().enumerate().map(|(i, n)| passed(i, n)).collect();
        strict(&good, &nodes).unwrap();

        let twice: Vec<Passed> = ["a", "b", "b", "c"].iter().enumerate().map(|(i, n)| passed(i, n)).collect();
        assert!(strict(&twice, &nodes).unwrap_err().to_string().contains("c's turn"));
        let late = [passed(0, "b"), passed(1, "c")];
        assert!(strict(&late, &nodes).is_err());
        let gap = [passed(0, "a"), passed(2, "c")];
        assert!(strict(&gap, &nodes).unwrap_err().to_string().contains("not in the log"));
        let mut other = good.clone();
        other[1].answered_by = Some("a".to_owned());
        assert!(strict(&other, &nodes).unwrap_err().to_string().contains("b did not answer"));
        let mut nobody = good;
        nobody[3].answered_by = None;
        assert!(strict(&nobody, &nodes).is_err());
    }
}
