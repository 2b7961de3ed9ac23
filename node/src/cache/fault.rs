//! What is heard of upstreams, as it travels between nodes and as the API is told.
//!
//! Always holds: what a node decided about an upstream reaches the client of another node unchanged; trouble
//! between nodes becomes "try again", and never "it does not exist".

use std::time::Duration;

use trow_api::pull::PullError;

use crate::peer_blobs::PeerError;
use crate::peer_blobs::wire::{Fault, UpstreamSaid};

/// When to come back after trouble of our own.
const SOON: Duration = Duration::from_secs(2);

/// As it travels.
pub(super) fn fault(error: PullError) -> Fault {
    let said = match &error {
        PullError::NotFound => UpstreamSaid::NotFound,
        PullError::Offline => UpstreamSaid::Offline,
        PullError::Denied(_) => UpstreamSaid::Denied,
        PullError::Unavailable { .. } => UpstreamSaid::Unavailable,
        PullError::Bad(_) => UpstreamSaid::Bad,
        PullError::LoginNeeded => UpstreamSaid::LoginNeeded,
        PullError::Range { size } => return Fault::OutOfOrder { have: *size },
        PullError::Failed => return Fault::unavailable("the node failed; its log says how"),
    };
    let retry = match &error {
        PullError::Unavailable { retry, .. } => *retry,
        _ => Duration::ZERO,
    };
    let retry = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    Fault::Upstream { said, why: error.to_string(), retry }
}

/// As the API is told of what another node answered.
pub(super) fn pull_error(error: PeerError) -> PullError {
    match error {
        PeerError::Fault(Fault::Upstream { said, why, retry }) => match said {
            UpstreamSaid::NotFound => PullError::NotFound,
            UpstreamSaid::Offline => PullError::Offline,
            UpstreamSaid::Denied => PullError::Denied(why),
            UpstreamSaid::Unavailable => PullError::Unavailable { why, retry: Duration::from_millis(retry) },
            UpstreamSaid::Bad => PullError::Bad(why),
            UpstreamSaid::LoginNeeded => PullError::LoginNeeded,
        },
        PeerError::Fault(Fault::OutOfOrder { have }) => PullError::Range { size: have },
        error => {
            tracing::debug!(%error, "a node does not answer about an upstream");
            PullError::Unavailable {
                why: "the node that would ask the upstream does not answer".into(),
                retry: SOON,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_of_an_upstream_reaches_the_client_of_another_node() {
        let retry = Duration::from_millis(1500);
        for error in [
            PullError::NotFound,
            PullError::Offline,
            PullError::Denied("upstream.deny".into()),
            PullError::Unavailable { why: "upstream quay.io: 502".into(), retry },
            PullError::Bad("upstream quay.io: wrong bytes".into()),
            PullError::LoginNeeded,
            PullError::Range { size: 7 },
        ] {
            let text = serde_json::to_vec(&fault(error.clone())).unwrap();
            let heard = pull_error(PeerError::Fault(serde_json::from_slice(&text).unwrap()));
            assert_eq!(format!("{heard:?}"), format!("{error:?}"));
        }
        let ours = pull_error(PeerError::Fault(fault(PullError::Failed)));
        assert!(matches!(ours, PullError::Unavailable { .. }), "{ours:?}");
        assert!(matches!(pull_error(PeerError::Fault(Fault::Unknown)), PullError::Unavailable { .. }));
    }
}
