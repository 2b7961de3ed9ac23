//! What a member sends that keeps to no protocol: its key is right, everything else is made up.
//!
//! Always holds: it is refused with an error, nothing that is committed changes, and the node that
//! heard it goes on.

mod common;
#[path = "forged/transfers.rs"]
mod transfers;

use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Node, eventually, push, tick};
use prost::Message as _;
use tonic::Code;
use tonic::transport::Channel;
use trow_raft::NodeId;
use trow_raft::proto::entry as pe;
use trow_raft::proto::raft as pb;
use trow_raft::proto::raft::raft_client::RaftClient;
use trow_raft::proto::raft::snapshot_part::Part;

const LONG: Duration = Duration::from_secs(10);

/// The one of three nodes whose key is abused, and what it can reach with it.
struct Forger {
    id: u64,
    client: RaftClient<Channel>,
    /// A term above that of any leader, and the last committed entry of the node it talks to.
    term: u64,
    committed: pb::LogId,
}

fn vote(term: u64, node: u64, committed: bool) -> Option<pb::Vote> {
    Some(pb::Vote { term, node, committed })
}

impl Forger {
    fn leads(&self) -> Option<pb::Vote> {
        vote(self.term, self.id, true)
    }

    fn at(&self, term: u64, index: u64) -> pb::LogId {
        pb::LogId { term, index, node: self.id }
    }

    fn entry(&self, index: u64, envelope: Option<&[u8]>) -> Bytes {
        let log_id = Some(self.at(self.term, index));
        let envelope = envelope.map(Bytes::copy_from_slice);
        pb::Entry { log_id, envelope, membership: None }.encode_to_vec().into()
    }

    fn append(&self, prev: Option<pb::LogId>, entries: Vec<Bytes>) -> pb::AppendRequest {
        pb::AppendRequest { vote: self.leads(), prev, entries, commit: None }
    }

    /// Requests that no member of the protocol sends.
    fn forged(&self) -> Vec<(&'static str, pb::AppendRequest)> {
        let last = self.committed;
        let next = last.index + 1;
        let member = |voters: Vec<Vec<u64>>, nodes| {
            let voters = voters.into_iter().map(|ids| pb::NodeSet { ids }).collect();
            let membership = Some(pb::Membership { voters, nodes });
            let log_id = Some(self.at(self.term, next));
            Bytes::from(pb::Entry { log_id, envelope: None, membership }.encode_to_vec())
        };
        let tick = |level: u32| {
            let command = Some(pe::envelope::Command::Tick(pe::Tick { elapsed: 1 }));
            pe::Envelope { node: self.id, boot: 1, seq: 1, level, command, ..Default::default() }
                .encode_to_vec()
        };
        let later = [tick(1), vec![0x98, 0x06, 0x01]].concat();
        let in_place = pb::LogId { term: last.term + 1, ..last };
        vec![
            ("a vote that is missing", pb::AppendRequest { vote: None, ..self.append(None, vec![]) }),
            (
                "a vote that nobody granted",
                pb::AppendRequest { vote: vote(self.term, self.id, false), ..self.append(None, vec![]) },
            ),
            (
                "a term without a successor",
                pb::AppendRequest { vote: vote(u64::MAX, self.id, true), ..self.append(None, vec![]) },
            ),
            ("a previous entry at the end of counting", self.append(Some(self.at(1, u64::MAX)), vec![])),
            ("a previous entry of a later leader", self.append(Some(self.at(self.term + 1, next)), vec![])),
            ("another entry in place of the last committed one", self.append(Some(in_place), vec![])),
            ("entries after a gap", self.append(Some(last), vec![self.entry(next + 1, None)])),
            (
                "entries in reverse",
                self.append(Some(last), vec![self.entry(next + 1, None), self.entry(next, None)]),
            ),
            ("an entry twice", self.append(Some(last), vec![self.entry(next, None), self.entry(next, None)])),
            (
                "an entry at the end of counting",
                self.append(Some(self.at(1, u64::MAX - 1)), vec![self.entry(u64::MAX, None)]),
            ),
            ("a log that begins late", self.append(None, vec![self.entry(next, None)])),
            ("bytes that are no entry", self.append(Some(last), vec![Bytes::from_static(b"\xff\xff\xff")])),
            ("an entry without a place", self.append(Some(last), vec![Bytes::new()])),
            ("a command that is none", self.append(Some(last), vec![self.entry(next, Some(b"\xff\xff"))])),
            ("a command of a later version", self.append(Some(last), vec![self.entry(next, Some(&later))])),
            ("a command of a higher level", self.append(Some(last), vec![self.entry(next, Some(&tick(99)))])),
            ("an empty command", self.append(Some(last), vec![self.entry(next, Some(b""))])),
            ("a membership of nobody", self.append(Some(last), vec![member(vec![], vec![])])),
            ("a membership without voters", self.append(Some(last), vec![member(vec![], vec![1, 2, 3])])),
            (
                "voters that are nobody",
                self.append(Some(last), vec![member(vec![vec![1, 2], vec![]], vec![1, 2])]),
            ),
            (
                "voters that are no members",
                self.append(Some(last), vec![member(vec![vec![1, 2, 99]], vec![1])]),
            ),
            (
                "a commit at the end of counting",
                pb::AppendRequest { commit: Some(self.at(1, u64::MAX)), ..self.append(None, vec![]) },
            ),
            (
                "a commit of a later leader",
                pb::AppendRequest { commit: Some(self.at(self.term + 7, 1)), ..self.append(None, vec![]) },
            ),
        ]
    }

    /// Takes the last entry that `victim` knows to be committed for the one to contradict.
    fn look_at(&mut self, victim: &Node) {
        let (metrics, office) = (victim.metadata.metrics(), victim.metadata.leadership());
        if let Some(leader) = office.leader.filter(|_| metrics.term == office.term) {
            self.committed = pb::LogId { term: metrics.term, index: metrics.committed, node: leader.0 };
        }
    }

    async fn snapshot(&mut self, header: pb::SnapshotHeader, data: &[u8]) -> Code {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(data);
        let parts = [
            Part::Header(header),
            Part::Data(Bytes::copy_from_slice(data)),
            Part::Digest(Bytes::copy_from_slice(&digest)),
        ];
        let parts = parts.map(|part| pb::SnapshotPart { part: Some(part) });
        let sent = self.client.snapshot(futures::stream::iter(parts)).await;
        sent.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    /// What a snapshot of `size` bytes says of itself that would put this node far ahead.
    fn ahead(&self, size: u64) -> pb::SnapshotHeader {
        let last_log_id = Some(self.at(self.term, 1 << 40));
        pb::SnapshotHeader { vote: self.leads(), last_log_id, membership: None, format: 1, size }
    }
}

/// Three nodes, of which one stops and has its key abused against another, a follower.
async fn abused() -> (Cluster, Forger, NodeId) {
    let mut cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    for fill in 0..3 {
        let (_, command) = push(fill, 100);
        cluster.node(leader).metadata.propose("test", command).await.expect("applied");
    }
    let position = cluster.nodes.iter().position(|node| node.id != leader).expect("a follower");
    let id = cluster.nodes.remove(position).stop_and_return().await;
    let victim = cluster.nodes.iter().find(|node| node.id != leader).expect("another follower").id;
    let connect = cluster.net.connect(id);
    let channel = connect(victim).await.expect("it is up");
    let applied = cluster.node(leader).metadata.propose("test", tick(1)).await.expect("applied").index;
    let node = cluster.node(victim);
    eventually("the follower has all", || *node.metadata.applied().borrow() >= applied).await;
    let metrics = node.metadata.metrics();
    let committed = pb::LogId { term: metrics.term, index: metrics.committed, node: leader.0 };
    let client = RaftClient::new(channel);
    (cluster, Forger { id: id.0, client, term: metrics.term + 10, committed }, victim)
}

fn state(node: &Node) -> (u64, u64, u64) {
    let view = node.metadata.local();
    let hash = view.state_hash().expect("readable");
    (view.time().expect("readable"), hash.0, hash.1)
}

/// The state is as it was `before`. An election adds an entry, after which the hash may be that of
/// a later index.
fn changed_nothing(node: &Node, before: (u64, u64, u64)) {
    let now = state(node);
    assert_eq!(now.0, before.0, "state time");
    assert!(now.2 != before.2 || now.1 == before.1, "{now:?} after {before:?}");
}

/// The node hears its leader, and all nodes agree on everything that there was and is.
async fn goes_on(mut cluster: Cluster, forger: Forger, victim: NodeId) {
    let node = cluster.node(victim);
    for _ in 0..20 {
        node.metadata.propose("test", tick(1)).await.expect("it goes on");
    }
    node.metadata.read(LONG).await.expect("a quorum with it");
    drop(forger.client);
    let back = Node::start(&cluster.net, forger.id, &cluster.dir(forger.id), Default::default()).await;
    cluster.nodes.push(back);
    let all = || cluster.nodes.iter().map(state).collect::<std::collections::BTreeSet<_>>();
    eventually("all three agree", || all().len() == 1).await;
    assert_eq!(all().first().map(|(time, ..)| *time), Some(21));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_entries_are_refused_and_change_nothing() {
    let (cluster, mut forger, victim) = abused().await;
    let before = state(cluster.node(victim));
    for number in 0..forger.forged().len() {
        // An election adds an entry, and then what was forged for the last one is so no more.
        forger.look_at(cluster.node(victim));
        let (what, request) = forger.forged().swap_remove(number);
        let refused = forger.client.append(request).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
    }
    changed_nothing(cluster.node(victim), before);
    goes_on(cluster, forger, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_not_written_again() {
    let (cluster, mut forger, victim) = abused().await;
    let node = cluster.node(victim);
    let before = state(node);
    // In form they are a leader's: other entries from the beginning of the log on, or in it, up to
    // and beyond what is committed.
    let places: [fn(u64) -> (u64, u64); 4] =
        [|_| (0, 0), |committed| (0, committed - 1), |_| (2, 3), |committed| (0, committed + 3)];
    for place in places {
        let mut judged = false;
        for _ in 0..20 {
            let metrics = node.metadata.metrics();
            forger.term = metrics.term + 10;
            let (first, last) = place(metrics.committed);
            let prev = (first > 0).then(|| forger.at(0, first - 1));
            let entries = (first..=last).map(|index| forger.entry(index, None)).collect();
            let reply = forger.client.append(forger.append(prev, entries)).await;
            let result = reply.as_ref().ok().and_then(|reply| reply.get_ref().result.as_ref());
            let outrun = matches!(result, Some(pb::append_reply::Result::HigherVote(_)));
            // After an election it is no more what it was meant to be.
            if outrun || node.metadata.metrics().committed != metrics.committed {
                continue;
            }
            assert_eq!(reply.is_err(), last >= metrics.committed, "{first} to {last}: {reply:?}");
            judged = true;
            break;
        }
        assert!(judged, "one election after the other");
    }
    changed_nothing(node, before);
    goes_on(cluster, forger, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_votes_and_transfers_are_refused() {
    let (cluster, mut forger, victim) = abused().await;
    let (term, id) = (forger.term, forger.id);
    let far = Some(forger.at(1, u64::MAX));
    let later = Some(forger.at(term + 1, 5));
    let votes = [
        pb::VoteRequest { vote: None, last_log_id: None, transfer: true },
        pb::VoteRequest { vote: vote(u64::MAX, id, false), last_log_id: None, transfer: true },
        pb::VoteRequest { vote: vote(term, id, true), last_log_id: None, transfer: true },
        pb::VoteRequest { vote: vote(term, id, false), last_log_id: far, transfer: true },
        pb::VoteRequest { vote: vote(term, id, false), last_log_id: later, transfer: false },
    ];
    for request in votes {
        for refused in [forger.client.vote(request).await, forger.client.pre_vote(request).await] {
            assert_eq!(refused.expect_err("a forged vote").code(), Code::InvalidArgument, "{request:?}");
        }
    }
    let transfers = [
        pb::TransferRequest { from: None, to: victim.0, last_log_id: None },
        pb::TransferRequest { from: vote(u64::MAX, id, true), to: victim.0, last_log_id: None },
        pb::TransferRequest { from: vote(term, id, false), to: victim.0, last_log_id: None },
        pb::TransferRequest { from: vote(term, id, true), to: victim.0, last_log_id: far },
    ];
    for request in transfers {
        let refused = forger.client.transfer_leader(request).await.expect_err("a forged transfer");
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    let other = pb::VoteRequest { vote: vote(term, id + 1, false), last_log_id: None, transfer: true };
    assert_eq!(forger.client.vote(other).await.expect_err("another's name").code(), Code::PermissionDenied);
    goes_on(cluster, forger, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_snapshots_are_refused_before_consensus_hears_of_them() {
    let (cluster, mut forger, victim) = abused().await;
    let header = |last_log_id, vote| pb::SnapshotHeader {
        vote,
        last_log_id,
        membership: None,
        format: 1,
        size: 1 << 20,
    };
    let ahead = Some(forger.at(forger.term, 1 << 40));
    let behind = Some(forger.at(forger.term, 1));
    let (leads, candidate) = (forger.leads(), vote(forger.term, forger.id, false));
    let file = tempfile::tempdir().expect("directory");
    let state = file.path().join("state.redb");
    let opened = trow_raft::State::open(&state, Default::default()).expect("a state");
    let log_id = forger.at(forger.term, 5).encode_to_vec().into();
    let entry = trow_raft::ApplyEntry { index: 5, log_id, envelope: None, membership: None };
    opened.apply(&[entry]).expect("applied");
    let rows = file.path().join("rows");
    let view = opened.view().expect("readable");
    trow_raft::State::export(&view, &rows, &mut |_| Ok(())).expect("exported");
    drop((view, opened));
    let [database, rows] = [state, rows].map(|file| std::fs::read(file).expect("readable"));
    for (what, header, data) in [
        ("no place", header(None, leads), rows.as_slice()),
        ("a candidate's", header(ahead, candidate), &rows),
        ("the end of counting", header(Some(forger.at(1, u64::MAX)), leads), &rows),
        ("a later leader's", header(Some(forger.at(forger.term + 1, 1 << 40)), leads), &rows),
        ("later and yet behind", header(behind, leads), &rows),
        ("bytes that are no state", header(ahead, leads), b"not a state"),
        ("a database instead of rows", header(ahead, leads), &database),
        ("nothing", header(ahead, leads), b""),
        ("a state that stands elsewhere", header(ahead, leads), &rows),
        ("a state that is cut off", header(ahead, leads), &rows[..rows.len() / 2]),
        ("more than it says", forger.ahead(1), &rows),
    ] {
        assert_eq!(forger.snapshot(header, data).await, Code::InvalidArgument, "{what}");
    }
    let other_form = pb::SnapshotHeader { format: 2, ..forger.ahead(1 << 20) };
    assert_eq!(forger.snapshot(other_form, &rows).await, Code::FailedPrecondition);
    let too_big = forger.ahead(1 << 60);
    assert_eq!(forger.snapshot(too_big, &rows).await, Code::ResourceExhausted, "more than any disk has");
    let state = cluster.dir(victim.0).join("state");
    let left = || std::fs::read_dir(&state).expect("readable").count();
    eventually("nothing is left but the state", || left() == 2).await;
    goes_on(cluster, forger, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_never_ends_does_not_keep_out_another() {
    let (cluster, mut forger, victim) = abused().await;
    let (parts, stream) = tokio::sync::mpsc::channel(4);
    let mut client = forger.client.clone();
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let slow = tokio::spawn(async move { client.snapshot(stream).await });
    // The head of a row whose end does not come.
    let data = Part::Data(Bytes::from_static(&[0, 0, 0, 0, 9, 0, 0, 0, 9]));
    for part in [Part::Header(forger.ahead(1 << 20)), data] {
        parts.send(pb::SnapshotPart { part: Some(part) }).await.expect("it is heard");
    }
    let state = cluster.dir(victim.0).join("state");
    let names = || {
        let names = std::fs::read_dir(&state).expect("readable").flatten().map(|file| file.file_name());
        names.filter_map(|name| name.into_string().ok()).collect::<Vec<_>>()
    };
    eventually("it is being received", || names().iter().any(|name| name.starts_with("incoming"))).await;
    let other = forger.ahead(1 << 20);
    let answered = tokio::time::timeout(LONG, forger.snapshot(other, b"no rows")).await;
    assert_eq!(answered.expect("not kept out"), Code::InvalidArgument);
    let slow = tokio::time::timeout(LONG, slow).await.expect("it is answered").expect("no panic");
    assert_eq!(slow.expect_err("given up").code(), Code::Aborted);
    eventually("nothing is left but the state", || names().len() == 2).await;
    drop(parts);
    goes_on(cluster, forger, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_above_the_limit_are_not_taken_in() {
    let (cluster, mut forger, victim) = abused().await;
    let large = forger.append(None, vec![Bytes::from(vec![0; 17 << 20])]);
    let refused = forger.client.append(large).await.expect_err("17 MiB");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let nothing = pb::WaitAppliedRequest { index: u64::MAX, timeout_ms: u64::MAX };
    let waited = tokio::time::timeout(LONG * 2, forger.client.wait_applied(nothing)).await;
    waited.expect("bounded whatever is asked for").expect("what is applied");
    goes_on(cluster, forger, victim).await;
}

/// No honest member proposes these, and in the log they could not be taken out again: entries that no
/// message can carry, and rows that no snapshot is taken with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_that_could_not_be_sent_on_are_refused() {
    let (cluster, mut forger, victim) = abused().await;
    let envelope = |actor: String, command| {
        let node = NodeId(forger.id);
        let level = trow_raft::command::LEVEL;
        let envelope = trow_raft::Envelope { node, boot: 1 << 40, seq: 1, now: 1, actor, level, command };
        trow_raft::codec::encode_envelope(&envelope)
    };
    let (_, large) = push(1, trow_raft::limits::ENTRY_MAX + 1);
    let (_, mut lies) = push(1, 100);
    if let trow_raft::Command::PutManifest { manifest, .. } = &mut lies {
        manifest.bytes = Bytes::from_static(b"others");
    }
    for (what, envelope) in [
        ("more than an entry may have", envelope("x".to_owned(), large)),
        ("a name without end", envelope("x".repeat(1 << 20), tick(1))),
        ("bytes of another digest", envelope("x".to_owned(), lies)),
    ] {
        let refused = forger.client.propose(pb::ProposeRequest { envelope }).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
    }
    goes_on(cluster, forger, victim).await;
}
