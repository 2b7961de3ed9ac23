//! What a member sends that keeps to no protocol, on a connection that it opened with its own key.

use std::future::poll_fn;
use std::pin::Pin;

use ::http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trow_raft::command::LEVEL;

use super::*;

const BOUND: Duration = Duration::from_secs(10);
/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const RAFT: &str = "/trow.raft.v1.Raft/";

/// A cluster of one node, and a member of it that does as it likes.
struct Scene {
    victim: Node,
    member: Node,
    metadata: Metadata,
    _world: World,
}

impl Scene {
    async fn new() -> Scene {
        let world = World::new();
        let (dir, home) = (Arc::clone(&world.cluster), world.temp.path().join("raft"));
        let mut opened = None;
        let victim = world
            .serving(
                "a",
                Some(ONE),
                &dir,
                |_| None,
                |id| {
                    let open = Metadata::open(trow_raft::Settings::alone(id, &home));
                    let metadata = tokio::task::block_in_place(|| {
                        tokio::runtime::Handle::current().block_on(open).unwrap()
                    });
                    let service = metadata.service();
                    opened = Some(metadata);
                    tonic::service::Routes::new(service)
                },
            )
            .await;
        let metadata = opened.unwrap();
        metadata.initialize(BTreeSet::from([victim.member.id])).await.unwrap();
        let row = Member { max_level: LEVEL, ..victim.member.clone() };
        tokio::time::timeout(BOUND, metadata.birth(1, vec![row])).await.unwrap();
        let member = world.node("b", Some(ONE)).await;
        victim.knows(&member);
        member.knows(&victim);
        Scene { victim, member, metadata, _world: world }
    }

    /// A connection that has been greeted.
    async fn dial(&self, kind: Kind) -> dial::PeerStream {
        let to = &self.victim.member;
        address_as(&self.member.peers.0, &to.peer, Some(to.id), kind).await.unwrap().stream
    }

    /// Sends bytes after the greeting; what comes until the node closes.
    async fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.dial(Kind::Raft).await;
        // A reset is a way to close as well.
        let sent = async { stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() };
        let _ = tokio::time::timeout(BOUND, sent).await.expect("the node reads or closes");
        let mut reply = Vec::new();
        let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut reply)).await;
        let _ = read.expect("the node closes the connection");
        reply
    }

    /// Calls over HTTP/2 with `body` as it is; the gRPC status that comes of it.
    async fn call(&self, path: &str, body: &[u8]) -> tonic::Code {
        let io = TokioIo::new(self.dial(Kind::Raft).await);
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://a{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from(body.to_vec()))
            .unwrap();
        let reply = tokio::time::timeout(BOUND, client.send_request(request)).await.unwrap().unwrap();
        let status = |headers: &HeaderMap| {
            headers.get("grpc-status").map(HeaderValue::as_bytes).map(tonic::Code::from_bytes)
        };
        if let Some(code) = status(reply.headers()) {
            return code;
        }
        let mut body = reply.into_body();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Some(code) = frame.unwrap().trailers_ref().and_then(status) {
                return code;
            }
        }
        panic!("a reply without a status")
    }

    /// Consensus is there, for the member and for the node itself.
    async fn goes_on(&self) {
        let applied = self.metadata.propose("test", trow_raft::Command::Tick { elapsed: 1 }).await.unwrap();
        assert!(self.metadata.read(BOUND).await.unwrap().applied().unwrap() >= applied.index);
        assert_eq!(self.call(&format!("{RAFT}ReadIndex"), &[0; 5]).await, tonic::Code::PermissionDenied);
    }
}

/// A gRPC message that says it has `claimed` bytes.
fn message(compressed: u8, claimed: u32, bytes: &[u8]) -> Vec<u8> {
    [&[compressed], &claimed.to_be_bytes()[..], bytes].concat()
}

/// What the process has mapped, in bytes.
fn mapped() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_http_end_the_connection_alone() {
    let scene = Scene::new().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        // A frame of 16 MiB, a frame on a stream that is none, settings that do not divide by six.
        [PREFACE, &settings, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        [PREFACE, &settings, &[0, 0, 1, 0, 0, 0, 0, 0, 0, 7]].concat(),
        [PREFACE, &[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]].concat(),
        // Headers that are no HPACK, and a continuation of nothing.
        [PREFACE, &settings, &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat(),
        [PREFACE, &settings, &[0, 0, 1, 9, 4, 0, 0, 0, 1, 0]].concat(),
        // A window that overflows.
        [PREFACE, &settings, &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]].concat(),
    ] {
        scene.say(&bytes).await;
    }
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_lengths_are_refused_without_the_memory_that_they_ask_for() {
    let scene = Scene::new().await;
    let before = mapped();
    // Messages of 4 GiB, more than the limit, less than is claimed, and compressed in no known way.
    let messages = [
        message(0, u32::MAX, b"x"),
        message(0, (16 << 20) + 1, b"x"),
        message(0, 1000, b"x"),
        message(1, 1, b"x"),
        message(7, 1, b"x"),
        vec![0, 0],
    ];
    for call in ["Append", "Vote", "PreVote", "TransferLeader", "Propose", "Join", "Snapshot"] {
        for body in &messages {
            let code = scene.call(&format!("{RAFT}{call}"), body).await;
            assert_ne!(code, tonic::Code::Ok, "{call} {body:?}");
        }
    }
    // A field of 4 GiB, one that never ends, nesting without end, and a kind of field that is none.
    let fields: [&[u8]; 5] = [
        &[0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x0a, 0x7f, 0x08],
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x0b; 4000],
        &[0x0f, 0x00],
    ];
    for call in ["Append", "Vote", "PreVote", "TransferLeader", "Snapshot"] {
        for field in fields {
            let body = message(0, field.len() as u32, field);
            let code = scene.call(&format!("{RAFT}{call}"), &body).await;
            assert_ne!(code, tonic::Code::Ok, "{call} {field:?}");
        }
    }
    assert_eq!(
        scene.call("/trow.raft.v1.Raft/../Append", &message(0, 0, b"")).await,
        tonic::Code::Unimplemented
    );
    let grown = mapped().saturating_sub(before);
    assert!(grown < 1 << 30, "{grown} bytes were mapped for what was only claimed");
    scene.goes_on().await;
}
