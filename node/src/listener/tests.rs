//! The listener, met with raw sockets.

mod http2;

use std::time::Instant;

use axum::body::Bytes;
use axum::routing::{get, put};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;

/// Everything below ends within this, or fails.
const BOUND: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

fn quick() -> Limits {
    Limits {
        head_time: Duration::from_millis(400),
        idle: Duration::from_millis(800),
        stall: Duration::from_millis(800),
        drain: Duration::from_secs(5),
        ..Limits::default()
    }
}

async fn start(limits: Limits) -> Server {
    let big = || async { Bytes::from(vec![b'x'; 64 << 20]) };
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        "slow"
    };
    let early = || async { (http::StatusCode::PAYLOAD_TOO_LARGE, "too large") };
    let router = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/echo", put(|body: Bytes| async move { body }))
        .route("/big", get(big))
        .route("/slow", get(slow))
        .route("/early", put(early))
        .layer(axum::middleware::from_fn(trow_api::server::refuse))
        .layer(axum::middleware::from_fn(named));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, None, limits, closing.clone()));
    Server { address, closing, task }
}

/// Stands for what the API puts on each reply.
async fn named(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let id = trow_api::request_id::RequestId::accept(request.headers());
    let mut reply = next.run(request).await;
    reply.headers_mut().insert(trow_api::server::NODE, http::HeaderValue::from_static("n1"));
    reply.headers_mut().insert(trow_api::request_id::HEADER, id.to_header());
    reply
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` on a connection of its own and reads until the server closes it.
    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut reply)).await;
    read.expect("the server closes the connection in time").expect("and does not reset it");
    String::from_utf8_lossy(&reply).into_owned()
}

/// Reads one reply whose body is `body`.
async fn reply(stream: &mut TcpStream, body: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(&format!("\r\n\r\n{body}")) {
        let mut piece = [0; 4096];
        let read = tokio::time::timeout(BOUND, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    text
}

#[tokio::test]
async fn requests_with_two_lengths_get_a_400() {
    let server = start(quick()).await;
    for head in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "content-length: 3\r\ncontent-length: 3",
        "content-length: 3\r\ncontent-length: 4",
    ] {
        let request = format!("PUT /echo HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\nabc");
        let reply = server.ask(request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{head:?}: {reply:?}");
    }
    // Also byte by byte, and as the second of two pipelined requests.
    let mut stream = server.connect().await;
    let bad = b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    for byte in bad {
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 400 "));
    let mut two = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    two.extend(bad);
    let reply = server.ask(&two).await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("here"), "{reply}");
    assert!(reply.contains("HTTP/1.1 400 "), "{reply}");
}

#[tokio::test]
async fn refused_heads_get_a_reply_as_any_other() {
    let server = start(Limits::default()).await;
    let filler = format!("x-filler: {}", "y".repeat(70 << 10));
    for (head, status) in [
        ("host: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked", 400),
        ("host: x\r\ntransfer-encoding: gzip, chunked", 400),
        ("host: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", 400),
        ("host: x\r\nhost: y", 400),
        ("accept: x", 400),
        (&filler, 431),
    ] {
        let request = format!("PUT /echo HTTP/1.1\r\nx-request-id: abc-1\r\n{head}\r\n\r\nabc");
        let reply = server.ask(request.as_bytes()).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
        for part in ["trow-node: n1\r\n", "x-request-id: abc-1\r\n", r#"{"errors":[{"#, "UNSUPPORTED"] {
            assert!(reply.contains(part), "{part:?} is missing: {reply}");
        }
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{reply}");
    }
    // Behind a slow answer, in a connection that is then closed; HEAD has no body.
    let two = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nHEAD / HTTP/1.1\r\n\r\n";
    let reply = server.ask(two).await;
    let (slow, refused) = reply.split_once("slow").unwrap();
    assert!(slow.starts_with("HTTP/1.1 200 ") && refused.starts_with("HTTP/1.1 400 "), "{reply}");
    assert!(refused.ends_with("\r\n\r\n"), "{reply}");
}

#[tokio::test]
async fn a_client_that_speaks_tls_to_a_plain_listener_is_told_at_once() {
    let server = start(Limits::default()).await;
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let began = Instant::now();
    let reply = server.ask(&hello).await;
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("plain HTTP"), "{reply}");
    assert!(began.elapsed() < Limits::default().head_time / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn plain_and_chunked_bodies_pass_and_the_connection_stays() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        assert!(reply(&mut stream, "abc").await.starts_with("HTTP/1.1 200 "));
        let chunked = b"PUT /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
                        2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
        stream.write_all(chunked).await.unwrap();
        assert!(reply(&mut stream, "abc").await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn head_beyond_the_limit_is_431_and_one_within_is_served() {
    let server = start(Limits::default()).await;
    let head = |bytes: usize| {
        let mut head = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".to_owned();
        while head.len() + 1000 < bytes {
            head.push_str(&format!("x-filler: {}\r\n", "y".repeat(900)));
        }
        head.push_str("\r\n");
        head
    };
    let reply = server.ask(head(60 << 10).as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let reply = server.ask(head(80 << 10).as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
}

#[tokio::test]
async fn slow_heads_and_silent_connections_are_closed_in_time() {
    let limits = quick();
    let server = start(limits.clone()).await;
    // Nothing at all.
    let begun = Instant::now();
    assert_eq!(rest(&mut server.connect().await).await, "");
    assert!(begun.elapsed() >= limits.head_time && begun.elapsed() < BOUND);
    // A head that trickles: each byte is progress, but the whole head has its time.
    let mut stream = server.connect().await;
    let begun = Instant::now();
    let mut sent = 0;
    while stream.write_all(b"G").await.is_ok() {
        sent += 1;
        assert!(begun.elapsed() < BOUND, "still open after {sent} bytes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Served once, then silent.
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reply(&mut stream, "here").await;
    let begun = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(begun.elapsed() >= limits.idle / 2);
}

#[tokio::test]
async fn bodies_that_stand_still_are_given_up() {
    let server = start(quick()).await;
    // The client does not go on with its body.
    let mut stream = server.connect().await;
    stream.write_all(b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    rest(&mut stream).await;
    // The client does not read its answer: the server lets go, and what comes is cut off.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut read = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(Ok(bytes @ 1..)) = tokio::time::timeout(BOUND, stream.read(&mut piece)).await {
        read += bytes;
    }
    assert!(read < 64 << 20, "all {read} bytes came");
}

#[tokio::test]
async fn answer_to_an_unwanted_body_is_readable() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"PUT /early HTTP/1.1\r\nhost: x\r\ncontent-length: 33554432\r\n\r\n").await.unwrap();
    // The client sends on, whatever the server thinks of it, and reads afterwards.
    for _ in 0..64 {
        if stream.write_all(&[0; 64 << 10]).await.is_err() {
            break;
        }
    }
    let text = reply(&mut stream, "too large").await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
}

#[tokio::test]
async fn half_open_connections_disturb_nobody() {
    let server = start(Limits::default()).await;
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
        open.push(stream);
    }
    let begun = Instant::now();
    let reply = server.ask(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_until_slow_ones_are_closed() {
    let limits = Limits { connections: 20, ..quick() };
    let head_time = limits.head_time;
    let server = start(limits).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
        open.push(stream);
    }
    // All places are taken once each of them is accepted, which takes no longer than a slow head.
    let begun = Instant::now();
    let reply = server.ask(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let waited = begun.elapsed();
    assert!(waited > head_time / 4 && waited < BOUND, "it waited {waited:?}");
}

#[tokio::test]
async fn what_was_accepted_is_answered_when_the_listener_closes() {
    let server = start(Limits::default()).await;
    // One at work, one kept alive, one that has said nothing yet, one in mid-head.
    let mut at_work = server.connect().await;
    at_work.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut kept = server.connect().await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reply(&mut kept, "here").await;
    let mut silent = server.connect().await;
    let mut in_head = server.connect().await;
    in_head.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reply(&mut idle, "here").await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    server.closing.cancel();
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    in_head.write_all(b"host: x\r\n\r\n").await.unwrap();
    for (what, stream, body) in [
        ("at work", &mut at_work, "slow"),
        ("kept alive", &mut kept, "here"),
        ("silent", &mut silent, "here"),
        ("in mid-head", &mut in_head, "here"),
    ] {
        let text = rest(stream).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with(body), "{what}: {text:?}");
    }
    assert_eq!(rest(&mut idle).await, "");
    tokio::time::timeout(BOUND, server.task).await.expect("the listener ends in time").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn whoever_comes_while_the_listener_is_to_close_is_told_with_the_answer() {
    let server = start(Limits::default()).await;
    let mut kept = server.connect().await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(!reply(&mut kept, "here").await.contains("connection: close"));
    server.closing.cancel();
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // It is still listened for those who have not heard yet.
    let mut late = server.connect().await;
    late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    for (what, stream) in [("kept alive", &mut kept), ("late", &mut late)] {
        let text = rest(stream).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("here"), "{what}: {text:?}");
        assert!(text.contains("connection: close"), "{what}: {text:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_answer_had_begun_is_good_for_another_request() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 4096];
    let begun = stream.read(&mut head).await.unwrap();
    let text = String::from_utf8_lossy(&head[..begun]);
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    assert!(!head.contains("connection: close"), "{head}");
    let mut left = (64 << 20) - body.len();
    server.closing.cancel();
    let mut piece = vec![0; 1 << 16];
    while left > 0 {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0 && read <= left, "{read} of {left}");
        left -= read;
    }
    // It was not told that this was the last one.
    tokio::time::sleep(Duration::from_millis(150)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let text = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close"), "{text:?}");
}

#[tokio::test]
async fn requests_that_never_end_do_not_hold_the_shutdown() {
    let server = start(Limits { drain: Duration::from_millis(500), ..Limits::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.closing.cancel();
    tokio::time::timeout(BOUND, server.task).await.expect("the listener ends in time").unwrap();
}
