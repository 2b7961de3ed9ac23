//! The rotation front on servers that have nothing to do with Trow: it does what it says.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use chaos_tests::front::{Front, strict};
use chaos_tests::process::Node;
use futures::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::{Body, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BOUND: Duration = Duration::from_secs(20);

/// Answers with what it is sent, while it is sent; to HEAD with a length and no body.
async fn echo(name: &'static str, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let reply = Response::builder()
        .status(if head.uri.path() == "/teapot" { 418 } else { 200 })
        .header("trow-node", name)
        .header("location", "/relative?_state=x%2Fy");
    let reply = match head.method {
        Method::HEAD => reply.header("content-length", "12345").body(Body::default()),
        Method::GET => reply.body(Body::from(name)),
        _ => reply.body(Body::wrap(body)),
    };
    Ok(reply.unwrap())
}

/// A server that is no Trow, as the front sees it.
async fn server(name: &'static str) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| echo(name, request));
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    node(name, address)
}

fn node(name: &str, address: String) -> Node {
    Node::new(name, [address, String::new(), String::new()], PathBuf::new(), Vec::new(), PathBuf::new())
}

#[tokio::test]
async fn requests_of_one_connection_go_to_different_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [server("a").await, server("b").await, server("c").await];
    let front = Front::start(&nodes, &dir.path().join("front.jsonl")).await.unwrap();
    let mut connection = TcpStream::connect(&front.address).await.unwrap();
    let one = "GET /x?y=z HTTP/1.1\r\nHost: registry\r\n\r\n";
    let last = "GET /teapot HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n";
    connection.write_all(format!("{one}{one}{one}{one}{last}").as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(BOUND, connection.read_to_string(&mut text)).await.unwrap().unwrap();

    let bodies: Vec<&str> =
        text.split("HTTP/1.1 ").skip(1).map(|reply| reply.split("\r\n\r\n").nth(1).unwrap()).collect();
    assert_eq!(bodies, ["a", "b", "c", "a", "b"]);
    assert_eq!(text.matches("location: /relative?_state=x%2Fy\r\n").count(), 5);
    let passed = front.passed().unwrap();
    assert_eq!(
        (passed[0].method.as_str(), passed[0].path.as_str(), passed[4].status),
        ("GET", "/x?y=z", 418)
    );
    strict(&passed, &nodes).unwrap();
}

#[tokio::test]
async fn bodies_pass_piece_by_piece_in_both_directions() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [server("a").await, server("b").await];
    let front = Front::start(&nodes, &dir.path().join("front.jsonl")).await.unwrap();
    for piece in ["the first piece", "another one"].map(Bytes::from) {
        let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = stream::unfold(receive, async |mut receive| {
            let piece = receive.recv().await?;
            Some((Ok::<_, Infallible>(piece), receive))
        });
        let request = front.client().request(Method::PUT, "/echo").body(Body::wrap_stream(body)).send();
        let mut back = tokio::time::timeout(BOUND, request).await.unwrap().unwrap().bytes_stream();
        // Each piece is back before the next one is sent, so nobody on the way waits for the whole.
        for _ in 0..3 {
            send.send(piece.clone()).await.unwrap();
            let echoed = tokio::time::timeout(BOUND, back.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(echoed, piece);
        }
        drop(send);
        assert!(tokio::time::timeout(BOUND, back.next()).await.unwrap().is_none());
    }
    strict(&front.passed().unwrap(), &nodes).unwrap();
}

#[tokio::test]
async fn a_reply_to_head_keeps_its_length_and_a_dead_node_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = node("nobody", gone.local_addr().unwrap().to_string());
    drop(gone);
    let nodes = [server("a").await, nobody];
    let front = Front::start(&nodes, &dir.path().join("front.jsonl")).await.unwrap();
    let client = front.client();
    let head = client.send("HEAD", client.request(Method::HEAD, "/x")).await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("12345")));
    assert_eq!(head.header("transfer-encoding"), None);
    strict(&front.passed().unwrap(), &nodes).unwrap();

    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(client.send("GET", client.request(Method::GET, "/x")).await.unwrap().status);
    }
    assert_eq!(seen, [502, 200, 502]);
    assert!(strict(&front.passed().unwrap(), &nodes).unwrap_err().to_string().contains("nobody"));
}
