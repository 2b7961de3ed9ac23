//! Greetings and control messages for [`crate::fuzzing`].

use std::sync::OnceLock;

use prost::Message as _;
use trow_raft::proto::control as pb;
use trow_raft::{ClusterId, NodeId};

use super::greeting::{Greeted, GreetingError, Session};
use super::wire;
use crate::cluster_dir::{self, ClusterDir};

const DIALLER: NodeId = NodeId(1);
const OURS: ClusterId = ClusterId(7);

fn session() -> Session<'static> {
    static DIR: OnceLock<ClusterDir> = OnceLock::new();
    let secret = DIR.get_or_init(|| {
        let temp = tempfile::tempdir().expect("a directory");
        cluster_dir::create(&temp.path().join("cluster")).expect("a cluster directory")
    });
    Session { secret, dialler: DIALLER, listener: NodeId(2), exported: [7; 32] }
}

/// The dialler's line; `PROOF` in it stands for what one who knows the join secret writes there.
pub(crate) fn greeting(bytes: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(bytes) else { return false };
    let session = session();
    let cluster = line.split(' ').nth(2).unwrap_or_default();
    let proven = line.replace("PROOF", &session.proof("dialler", cluster));
    let result = session.judge(&proven, Some(OURS));
    if !line.contains("PROOF") {
        assert!(result.is_err(), "{line:?} is taken without a proof");
    }
    match result {
        Ok(Greeted { kind, cluster }) => {
            assert!(cluster.is_none_or(|cluster| cluster == OURS));
            let named = cluster.map_or_else(|| "-".to_owned(), |cluster| cluster.to_string());
            assert_eq!(line, format!("trow/1 {} {named} PROOF", kind.as_str()));
            // Said to a node that listens under another id, or by one that listens, it is nothing.
            let elsewhere = Session { listener: NodeId(3), ..session };
            assert!(matches!(elsewhere.judge(&proven, None), Err(GreetingError::Secret)));
            true
        }
        Err(GreetingError::OtherCluster { theirs, ours }) => {
            assert!(theirs != ours && ours == OURS);
            false
        }
        Err(_) => false,
    }
}

/// A control message: whatever can be read of it is read from what is written of it as well.
pub(crate) fn control(bytes: &[u8]) -> bool {
    let mut read = false;
    if let Ok(node) = pb::Node::decode(bytes) {
        let member = wire::node_from(node);
        assert!(member.weight > 0);
        assert_eq!(wire::node_from(wire::node_to(&member)), member);
        read = true;
    }
    if let Ok(reply) = pb::HelloReply::decode(bytes) {
        let claimed = reply.node.as_ref().map(|node| NodeId(node.id));
        assert!(wire::answer_from(reply.clone(), NodeId(claimed.map_or(0, |id| !id.0))).is_none());
        if let Some(answer) = claimed.and_then(|id| wire::answer_from(reply, id)) {
            let again = pb::HelloReply {
                node: Some(wire::node_to(&answer.node)),
                birth: Some(wire::card_to(&answer.card)),
                cluster: answer.cluster.map(|cluster| cluster.0),
                removed: answer.removed,
                members: answer.members.iter().map(wire::node_to).collect(),
            };
            assert_eq!(wire::answer_from(again, answer.node.id).as_ref(), Some(&answer));
            read = true;
        }
    }
    if let Ok(reply) = pb::StatusReply::decode(bytes) {
        let status = wire::status_from(reply);
        let again = wire::status_to(status.clone(), false).encode_to_vec();
        let again = pb::StatusReply::decode(again.as_slice()).expect("our own message");
        assert_eq!(wire::status_from(again), status);
        read = true;
    }
    read
}
