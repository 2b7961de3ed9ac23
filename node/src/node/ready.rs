//! When requests may be sent to this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use trow_raft::{MemberState, Metadata};

use crate::upstream::Registries;

/// How long a quorum is waited for at a time.
const ROUND: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);
/// How long after the start others are waited for that say what is private.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Why this node is not ready, as a function of what it applied: the state is open when this is
/// asked, so what is left is whether the node belongs to a cluster and has caught up with it: the
/// next node may be stopped as soon as this one is ready, and this one's vote must count by then.
/// That there is no quorum is no reason: what is here can be served. It is known to be so once the
/// first read was waited for, and no leader speaks. `serving` are the listeners that wait as long.
pub(super) fn check(
    metadata: &Metadata,
    confirmed: &Arc<AtomicBool>,
    serving: &[Arc<AtomicBool>; 2],
    registries: &Registries,
) -> impl Fn() -> Option<String> + Send + Sync + use<> {
    let (metadata, confirmed, serving) = (metadata.clone(), confirmed.clone(), serving.clone());
    let (registries, begun) = (registries.clone(), Instant::now());
    move || {
        let view = metadata.local();
        let reason = || -> Result<Option<&'static str>, trow_raft::StateError> {
            if view.removed(metadata.id())? {
                return Ok(Some("removed from the cluster"));
            }
            if view.cluster()?.is_none() {
                return Ok(Some("not a member of a cluster yet: waiting for the other nodes"));
            }
            Ok(match view.member(metadata.id())?.map(|member| member.state) {
                None => Some("joining: waiting to be admitted"),
                Some(MemberState::Joining) => Some("joining: catching up"),
                Some(_) if !all(&serving) || is_behind(&metadata, &confirmed) => {
                    Some("starting: catching up with the cluster")
                }
                // Until then it takes all images of other registries for private.
                Some(_) if !registries.knows_logins() && begun.elapsed() < PATIENCE => {
                    Some("starting: asking the other nodes which images are private")
                }
                Some(_) => None,
            })
        };
        match reason() {
            Ok(reason) => reason.map(str::to_owned),
            Err(_) => Some("the state cannot be read".to_owned()),
        }
    }
}

fn all(serving: &[Arc<AtomicBool>]) -> bool {
    serving.iter().all(|one| one.load(Ordering::Relaxed))
}

/// Whether a leader speaks, and no read was confirmed yet; or it was not waited long enough to say.
fn is_behind(metadata: &Metadata, confirmed: &AtomicBool) -> bool {
    !confirmed.load(Ordering::Relaxed) && (!metadata.has_looked() || metadata.leadership().quorum)
}

/// Waits until clients can be answered as well as they will be: a member that starts has seen what
/// the cluster agreed on while it was away, or has looked for a quorum in vain. One that is no
/// member yet says so to whoever asks.
pub(super) async fn to_serve(metadata: &Metadata) {
    let is_member = || metadata.local().member(metadata.id()).ok().flatten().is_some();
    while is_member() && !metadata.has_looked() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Turns true once a quorum has confirmed a read of this process: it is part of its cluster.
pub(super) fn confirmed(metadata: &Metadata, tasks: &mut JoinSet<()>) -> Arc<AtomicBool> {
    let (confirmed, metadata) = (Arc::new(AtomicBool::new(false)), metadata.clone());
    let flag = confirmed.clone();
    tasks.spawn(async move {
        while metadata.read(ROUND).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        flag.store(true, Ordering::Relaxed);
    });
    confirmed
}
