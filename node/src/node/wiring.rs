//! The seams between the parts: each part knows the others through closures that are made here.
//!
//! Never does: decide anything; a closure only calls and translates.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use trow_raft::command::{LEVEL, SYSTEM};
use trow_raft::{Digest, Member, Metadata};

use crate::admin::distinct;
use crate::admin::report::MemberReport;
use crate::admin::{Holds, Survey};
use crate::copies::audit::Auditor;
use crate::copies::{Agreed, Others};
use crate::peer::{PeerAudit, PeerDisk, PeerStatus, PeerUploads, Peers, StatusFn};
use crate::peer_blobs::PeerBlobs;
use crate::replicated::Replicated;
use crate::store::Store;

/// What repair, sweep and audit need of consensus.
pub(super) fn agreed(metadata: &Metadata) -> Agreed {
    let (view, propose) = (metadata.clone(), metadata.clone());
    Agreed {
        me: metadata.id(),
        view: Arc::new(move || Ok(view.local())),
        propose: Arc::new(move |command| {
            let metadata = propose.clone();
            Box::pin(async move { metadata.propose(SYSTEM, command).await })
        }),
        applied: metadata.applied(),
        changes: metadata.changes(),
    }
}

/// What repair, sweep and audit need of other nodes.
pub(super) fn others(peers: &PeerBlobs) -> Others {
    let (fetch, confirm) = (peers.clone(), peers.clone());
    Others {
        fetch: Arc::new(move |node, digest| {
            let peers = fetch.clone();
            Box::pin(async move {
                let fetched = peers.fetch(node, &digest, None).await.map_err(|error| error.to_string())?;
                Ok(fetched.body)
            })
        }),
        confirm: Arc::new(move |node, digests| {
            let peers = confirm.clone();
            Box::pin(async move { peers.confirm(node, &digests).await.map_err(|error| error.to_string()) })
        }),
    }
}

/// What this node says of itself.
pub(super) fn status(
    me: Member,
    metadata: Metadata,
    store: Store,
    auditor: Auditor,
    blobs: Replicated,
) -> StatusFn {
    Arc::new(move |with_audit| {
        let (me, metadata, store, auditor) = (me.clone(), metadata.clone(), store.clone(), auditor.clone());
        let uploads = blobs.stats();
        let uploads = PeerUploads { sessions: uploads.home + uploads.mirror, bytes: uploads.bytes };
        let work = move || {
            let leadership = metadata.leadership();
            let figures = metadata.metrics();
            let disk = store.disk();
            // The view comes before the audit, which therefore covers the index that is named.
            let view = metadata.local();
            let applied = view.applied().unwrap_or_default();
            let (state_hash, state_hash_at) = view.state_hash().unwrap_or_default();
            drop(view);
            let audit = with_audit.then(|| auditor.audit());
            let audit = audit.and_then(|audit| {
                audit.inspect_err(|error| tracing::warn!(cause = %error, "the blobs cannot be compared with the state, so the cluster does not count as settled; check the disk")).ok()
            });
            PeerStatus {
                name: me.name,
                zone: me.zone,
                client: me.client,
                peer: me.peer,
                applied,
                committed: figures.committed,
                term: leadership.term,
                leader: leadership.leader,
                state_hash,
                state_hash_at,
                max_level: LEVEL,
                disk: PeerDisk { total: disk.total, free: disk.free, blobs: disk.blobs },
                uploads: Some(uploads),
                audit: audit.map(|audit| {
                    let (cached, cached_least) = store.cached_least(distinct::TOLD);
                    PeerAudit {
                        missing: audit.missing,
                        strays: audit.strays,
                        cached,
                        cached_least,
                        ..PeerAudit::default()
                    }
                }),
            }
        };
        Box::pin(async move {
            // It reads directories and rows.
            match tokio::task::spawn_blocking(work).await {
                Ok(status) => status,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        })
    })
}

/// Asks every member, this node included.
pub(super) fn survey(peers: &Peers, status: StatusFn) -> Survey {
    let peers = peers.clone();
    Arc::new(move |limit: Duration| {
        let (peers, status) = (peers.clone(), status.clone());
        Box::pin(async move {
            let (mine, theirs) = tokio::join!(status(true), peers.status_all(limit));
            let me = MemberReport { node: peers.id(), report: Some(mine), silent_for: Some(Duration::ZERO) };
            let others = theirs.into_iter().map(|(node, report)| {
                let silent_for = peers.silence(node);
                MemberReport { node, report, silent_for }
            });
            std::iter::once(me).chain(others).collect()
        })
    })
}

/// Asks every member which blobs are on its disk, this node included.
pub(super) fn holds(peers: &Peers, metadata: Metadata, store: Store) -> Holds {
    let (me, peers) = (peers.id(), PeerBlobs::over(peers));
    Arc::new(move |digests: Vec<Digest>| {
        let (peers, store, metadata) = (peers.clone(), store.clone(), metadata.clone());
        Box::pin(async move {
            let members = metadata.local().members().unwrap_or_default();
            let others = members.iter().map(|member| member.id).filter(|id| *id != me);
            let (peers, asked) = (&peers, &digests);
            let asked = others.map(|node| async move { (node, peers.has(node, asked, None, false).await) });
            let answered = join_all(asked).await.into_iter();
            let answered = answered.filter_map(|(node, has)| Some((node, has.ok()?)));
            let here = digests.iter().map(|digest| store.has(digest).is_some()).collect();
            std::iter::once((me, here)).chain(answered).collect()
        })
    })
}
