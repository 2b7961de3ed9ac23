//! How the leader changes who the members are.

use std::collections::{BTreeMap, BTreeSet};

use super::Metadata;
use crate::command::{Command, SYSTEM};
use crate::consensus::types::Membership;
use crate::id::NodeId;

impl Metadata {
    /// Writes one entry that changes voters and learners, with a command beside it or none.
    ///
    /// # Errors
    /// Why it is not certain that it was written.
    pub(crate) async fn change_nodes(
        &self,
        command: Option<Command>,
        change: impl FnOnce(&mut BTreeSet<NodeId>, &mut BTreeSet<NodeId>),
    ) -> Result<(), String> {
        let number;
        let envelope = match command {
            Some(command) => {
                number = self.0.proposer.number().await;
                let envelope = number.envelope(SYSTEM, command);
                Some(crate::codec::encode_envelope(&envelope))
            }
            None => None,
        };
        let change = |membership: &Membership| {
            let mut voters = membership.voter_ids().map(NodeId).collect();
            let mut learners = membership.learner_ids().map(NodeId).collect();
            change(&mut voters, &mut learners);
            let nodes: BTreeMap<u64, ()> = voters.iter().chain(&learners).map(|node| (node.0, ())).collect();
            let voters = voters.into_iter().map(|node| node.0).collect();
            // Voters are among the nodes; without voters it is refused, and nothing changes.
            Membership::new(vec![voters], nodes).unwrap_or_else(|_| membership.clone())
        };
        self.lead_membership(envelope, change).await.done()
    }
}
