//! Telling each other for what there ever were credentials, so that a node that joins knows what is private.
//!
//! Always holds: a node that does not know asks until one that does answered, or all others did; one that knows
//! asks now and then, so that all know what one learned. Never does: say that something is for everybody, which
//! the settings do.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::sleep;
use trow_raft::{NodeId, StateError};

use super::manifests::Manifests;
use crate::peer_blobs::PeerError;
use crate::peer_blobs::wire::Fault;
use crate::upstream::Places;

/// How often the others are asked.
const EVERY: Duration = Duration::from_secs(10);
/// How often while this node does not know.
const SOON: Duration = Duration::from_millis(100);

impl Manifests {
    /// Asks the others again and again.
    pub async fn share_logins(self) {
        loop {
            match self.members_but_me() {
                Ok(Some(others)) => self.ask_logins(others).await,
                // No member yet.
                Ok(None) => {}
                Err(error) => tracing::debug!(cause = %error, "the members cannot be read"),
            }
            sleep(if self.upstream().knows_logins() { EVERY } else { SOON }).await;
        }
    }

    async fn ask_logins(&self, others: Vec<NodeId>) {
        let answers = join_all(others.into_iter().map(|node| self.peers().logins(node))).await;
        let mut all = true;
        let mut said = Vec::new();
        for answer in answers {
            match answer {
                Ok(places) => said.push(places),
                // An older build answers that it knows of no such question, and knows nothing.
                Err(PeerError::Fault(Fault::Unknown)) => {
                    said.push(Places { is_known: false, places: Default::default() })
                }
                Err(error) => {
                    tracing::debug!(cause = %error, "a member does not say for what there were credentials");
                    all = false;
                }
            }
        }
        self.upstream().hear(said, all);
    }

    /// The other members; none while this node is not one.
    fn members_but_me(&self) -> Result<Option<Vec<NodeId>>, StateError> {
        let (me, members) = (self.me(), self.members()?);
        let others = members.iter().map(|member| member.id).filter(|id| *id != me).collect();
        Ok(members.iter().any(|member| member.id == me).then_some(others))
    }
}
