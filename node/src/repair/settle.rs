//! Telling the cluster that blobs are home: enough owners hold them.

use std::collections::{BTreeMap, HashMap};

use trow_raft::state::{StateError, View};
use trow_raft::{Command, Digest, Evidence, NodeId, Outcome};

use crate::copies::{Agreed, Others};
use crate::store::Store;

/// A blob to be settled: who owns it, and how many of them must hold it.
struct Pending {
    owners: Vec<NodeId>,
    needed: usize,
}

/// Those of `digests` that are still to be settled.
fn pending(view: &View, digests: &[Digest]) -> Result<BTreeMap<Digest, Pending>, StateError> {
    let quorum = view.write_quorum()?;
    let mut found = BTreeMap::new();
    for digest in digests {
        let Some(row) = view.blob(digest)? else { continue };
        if row.lost || !row.away.is_empty() {
            let owners = view.partition(digest.partition())?.owners;
            let owners = owners.into_iter().map(|owner| owner.node).collect();
            // Any copy of a lost blob brings it back, and the others fetch it from there.
            let needed = if row.lost { 1 } else { quorum };
            found.insert(*digest, Pending { owners, needed });
        }
    }
    Ok(found)
}

/// Asks the owners of `digests` for evidence and proposes what W of them hold as settled. Gives
/// those that are still to be settled.
pub(super) async fn settle(
    store: &Store,
    agreed: &Agreed,
    others: &Others,
    digests: Vec<Digest>,
) -> Vec<Digest> {
    let pending = match (agreed.view)().and_then(|view| pending(&view, &digests)) {
        Ok(pending) => pending,
        Err(err) => {
            tracing::error!(cause = %err, "repair cannot read the state and tries again; if it repeats, check the disk and start the node again");
            return digests;
        }
    };
    let mut questions: HashMap<NodeId, Vec<Digest>> = HashMap::new();
    for (digest, blob) in &pending {
        for owner in blob.owners.iter().filter(|owner| **owner != agreed.me) {
            questions.entry(*owner).or_default().push(*digest);
        }
    }
    let mut evidence: BTreeMap<Digest, Vec<Evidence>> = BTreeMap::new();
    for digest in pending.keys() {
        if let Ok(Some(held)) = store.confirm(digest).await {
            evidence.entry(*digest).or_default().push(held.evidence(agreed.me));
        }
    }
    for (_, said) in others.confirm_all(questions).await {
        for (digest, said) in said {
            evidence.entry(digest).or_default().extend(said);
        }
    }
    evidence.retain(|digest, held| pending.get(digest).is_some_and(|blob| held.len() >= blob.needed));
    let home: Vec<(Digest, Vec<Evidence>)> = evidence.into_iter().collect();
    let mut left = pending;
    if !home.is_empty() {
        let settled: Vec<Digest> = home.iter().map(|(digest, _)| *digest).collect();
        // Refused for stale evidence: somebody fenced; gathered anew next time.
        if let Ok(applied) = (agreed.propose)(Command::SettleBlobs { blobs: home }).await
            && applied.outcome == Outcome::Done
        {
            left.retain(|digest, _| !settled.contains(digest));
        }
    }
    left.into_keys().collect()
}
