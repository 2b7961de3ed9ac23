//! Whose snapshot is received, what is left of one that nobody waits for, and who ends over one.
//!
//! Here the leader's own key is abused as well: what comes from it is what a leader sends.

use std::process::{Command, Stdio};
use std::time::Instant;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Response, Status};
use trow_raft::command::LEVEL;

use super::*;

/// Set for the child that is to end.
const CHILD: &str = "TROW_TEST_TOO_OLD";
const REMEDY: &str = "start the version that the other members run on the same data directory";

/// Speaks in the name of the leader that `victim` follows now.
async fn leader_of(cluster: &Cluster, victim: NodeId) -> Forger {
    let node = cluster.node(victim);
    eventually("it follows a leader", || followed(node).is_some()).await;
    let (leader, term) = followed(node).expect("a leader");
    let client = RaftClient::new(cluster.net.connect(leader)(victim).await.expect("it is up"));
    let committed = pb::LogId { term, index: node.metadata.metrics().committed, node: leader.0 };
    Forger { id: leader.0, client, term, committed }
}

fn followed(node: &Node) -> Option<(NodeId, u64)> {
    let office = node.metadata.leadership();
    office.leader.filter(|_| node.metadata.metrics().term == office.term).map(|leader| (leader, office.term))
}

/// Whether it is the leader as before.
fn still_leads(cluster: &Cluster, victim: NodeId, leader: &Forger) -> bool {
    followed(cluster.node(victim)) == Some((NodeId(leader.id), leader.term))
}

fn files(cluster: &Cluster, victim: NodeId) -> Vec<String> {
    let state = cluster.dir(victim.0).join("state");
    let names = std::fs::read_dir(&state).expect("readable").flatten().map(|file| file.file_name());
    names.filter_map(|name| name.into_string().ok()).collect()
}

/// A snapshot whose end does not come, once it is being received.
struct Endless {
    /// Its end, if it is dropped.
    _parts: mpsc::Sender<pb::SnapshotPart>,
    answer: JoinHandle<Result<Response<pb::SnapshotReply>, Status>>,
}

impl Endless {
    async fn begin(cluster: &Cluster, from: &Forger, victim: NodeId) -> Endless {
        let before = files(cluster, victim);
        let (parts, stream) = mpsc::channel(4);
        let mut client = from.client.clone();
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let answer = tokio::spawn(async move { client.snapshot(stream).await });
        let data = Part::Data(Bytes::from_static(&[0, 0, 0, 0, 9, 0, 0, 0, 9]));
        for part in [Part::Header(from.ahead(1 << 20)), data] {
            parts.send(pb::SnapshotPart { part: Some(part) }).await.expect("it is heard");
        }
        eventually("it is being received, or refused", || {
            let now = files(cluster, victim);
            let new = |name: &String| name.starts_with("incoming") && !before.contains(name);
            answer.is_finished() || now.iter().any(new)
        })
        .await;
        Endless { _parts: parts, answer }
    }

    async fn code(self) -> Code {
        let answer = tokio::time::timeout(LONG, self.answer).await.expect("it is answered");
        answer.expect("no panic").map_or_else(|status| status.code(), |_| Code::Ok)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_snapshot_is_interrupted_by_nobody_else() {
    let (cluster, mut forger, victim) = abused().await;
    let mut looked = false;
    for _ in 0..10 {
        let mut leader = leader_of(&cluster, victim).await;
        let others = Endless::begin(&cluster, &forger, victim).await;
        let first = Endless::begin(&cluster, &leader, victim).await;
        let mut codes = Vec::new();
        for _ in 0..3 {
            forger.term += 1;
            let other = forger.ahead(1 << 20);
            let code = tokio::time::timeout(LONG, forger.snapshot(other, b"no rows")).await;
            codes.push(code.expect("it is answered"));
        }
        let went_on = !first.answer.is_finished();
        let again = leader.ahead(1 << 20);
        let again = tokio::time::timeout(LONG, leader.snapshot(again, b"no rows")).await;
        // On a busy machine there may have been an election, and then it was not the leader's.
        if !still_leads(&cluster, victim, &leader) {
            continue;
        }
        assert_eq!(others.code().await, Code::Aborted, "the leader's takes the place of another's");
        assert_eq!(codes, [Code::Aborted; 3], "and none takes its place");
        assert!(went_on, "it goes on");
        assert_eq!(again.expect("not kept out"), Code::InvalidArgument, "but its own next one does");
        assert_eq!(first.code().await, Code::Aborted);
        looked = true;
        break;
    }
    assert!(looked, "no leader stays in office");
    eventually("nothing is left but the state", || files(&cluster, victim).len() == 2).await;
    goes_on(cluster, forger, victim).await;
}

/// The state of `node` as its leader would send it.
fn whole(leader: &Forger, node: &Node) -> (pb::SnapshotHeader, Vec<u8>) {
    let (view, dir) = (node.metadata.local(), tempfile::tempdir().expect("directory"));
    let file = dir.path().join("rows");
    trow_raft::State::export(&view, &file, &mut |_| Ok(())).expect("exported");
    let rows = std::fs::read(&file).expect("readable");
    let last_log_id = view.log_id().expect("readable").map(|id| pb::LogId::decode(id).expect("an id"));
    let membership = view.membership().expect("readable");
    let membership = membership.map(|bytes| pb::StoredMembership::decode(bytes).expect("a membership"));
    let (vote, size) = (leader.leads(), rows.len() as u64);
    (pb::SnapshotHeader { vote, last_log_id, membership, format: 1, size }, rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_installed_leaves_no_file_and_is_not_counted() {
    let (cluster, forger, victim) = abused().await;
    let leader = leader_of(&cluster, victim).await;
    // All of it is committed here already.
    let (header, rows) = whole(&leader, cluster.node(victim));
    let mut client = leader;
    for step in 0..80 {
        let (header, rows) = (header.clone(), &rows);
        // Sooner or later in it whoever sends it goes away.
        let patience = Duration::from_micros(400) * step;
        let _ = tokio::time::timeout(patience, client.snapshot(header, rows)).await;
    }
    let began = Instant::now();
    loop {
        // There may have been an election, and those before it may not all be over.
        let mut leader = leader_of(&cluster, victim).await;
        let (header, rows) = whole(&leader, cluster.node(victim));
        let code = leader.snapshot(header, &rows).await;
        if code == Code::Ok {
            break;
        }
        assert!(code == Code::Aborted && began.elapsed() < LONG, "{code:?}");
    }
    eventually("nothing is left but the state", || files(&cluster, victim).len() == 2).await;
    let (mut registry, mut text) = (Registry::default(), String::new());
    cluster.node(victim).metadata.register(&mut registry);
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
    assert!(text.contains("trow_raft_snapshots_total{direction=\"in\"} 0\n"), "{text}");
    goes_on(cluster, forger, victim).await;
}

/// Not a test of its own: a node that hears of what is above its level, from others and from its
/// leader, and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_too_old() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (cluster, mut forger, victim) = abused().await;
    // The rows of a state begin with where it stands and its level.
    let level = u64::from(LEVEL + 1).to_be_bytes();
    let rows = [&[1, 0, 0, 0, 5, 0, 0, 0, 8], b"level".as_slice(), &level].concat();
    let header = forger.ahead(1 << 20);
    assert_eq!(forger.snapshot(header, &rows).await, Code::FailedPrecondition, "nobody follows it");
    for _ in 0..50 {
        let refused = forger.client.append(forger.append(None, vec![Bytes::new()])).await;
        assert_eq!(refused.expect_err("no entry").code(), Code::InvalidArgument);
    }
    for _ in 0..10 {
        let mut leader = leader_of(&cluster, victim).await;
        // An entry of a later version, far from what the node has: it says what it lacks.
        let far = leader.committed.index + 100;
        let later = leader.entry(far + 1, Some(&[0xca, 0x3e, 0x00]));
        let asked = leader.append(Some(leader.at(leader.term, far)), vec![later]);
        let answer = leader.client.append(asked).await;
        let header = leader.ahead(1 << 20);
        if still_leads(&cluster, victim, &leader) {
            use pb::append_reply::Result::Conflict;
            let result = answer.expect("it is no forgery").into_inner().result;
            assert!(matches!(result, Some(Conflict(_))), "{result:?}");
            println!("it says what it lacks");
        }
        let _ = leader.snapshot(header, &rows).await;
    }
    panic!("it goes on, and is sent the same for ever");
}

#[test]
fn a_node_that_is_too_old_for_its_leaders_state_ends_and_says_why() {
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "transfers::child_that_is_too_old", "--nocapture", "--test-threads=1"]);
    child.env(CHILD, "1").env("RUST_LOG", "trow_raft=info").stdin(Stdio::null());
    let output = child.output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(REMEDY) && said.contains("it says what it lacks"), "{said}");
    // Fifty times it was sent what no healthy member sends.
    let lines = said.matches("refused a request that no healthy member sends").count() as u64;
    assert!((1..=2 + began.elapsed().as_secs() / 10).contains(&lines), "{lines} lines\n{said}");
}
