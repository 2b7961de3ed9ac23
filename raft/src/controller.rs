//! Membership, placement and state time: what the leader keeps in order.
//!
//! Runs on every node and acts on the one that leads, one step at a time. Always holds: a leader
//! decides only on state that a confirmed read of its own term has seen; each step is an entry
//! that is refused when what it was decided on has changed meanwhile.

pub mod decide;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::command::{Command, LEVEL, SYSTEM};
use crate::id::NodeId;
use crate::member::MemberState;
use crate::metadata::{Liveness, Metadata};
use crate::state::{StateError, View};
use decide::{Observed, Step};

/// How often the leader looks.
const EVERY: Duration = Duration::from_millis(250);

/// Runs the controller.
pub(crate) async fn run(metadata: Metadata) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leader_term: Option<LeaderTerm> = None;
    loop {
        tick.tick().await;
        let Some(liveness) = metadata.liveness() else {
            leader_term = None;
            continue;
        };
        if leader_term.as_ref().is_none_or(|leader_term| leader_term.term != liveness.term) {
            // What earlier leaders committed must be applied before anything is concluded.
            if metadata.read(Duration::from_secs(2)).await.is_err() {
                continue;
            }
            leader_term = Some(LeaderTerm { term: liveness.term, ticked: Instant::now() });
        }
        let Some(leader_term) = &mut leader_term else { continue };
        if let Err(error) = leader_term.act(&metadata, &liveness).await {
            tracing::error!(cause = %error, "the leader cannot read its state and changes nothing; check the disk, then start the node again");
        }
    }
}

/// One term of leading.
struct LeaderTerm {
    term: u64,
    ticked: Instant,
}

impl LeaderTerm {
    async fn act(&mut self, metadata: &Metadata, liveness: &Liveness) -> Result<(), StateError> {
        let view = metadata.local();
        if view.cluster()?.is_none() {
            return Ok(());
        }
        let members = view.members()?;
        let me = metadata.id();
        if let Some(gone) = removed(&view, liveness)? {
            if gone != me {
                drop_node(metadata, gone).await;
            } else {
                metadata.transfer_leadership().await;
            }
            return Ok(());
        }
        if members.iter().any(|row| row.id == me && row.state == MemberState::Draining)
            && liveness.voters.len() > 1
        {
            // The successor removes this node once nothing needs it.
            metadata.transfer_leadership().await;
            return Ok(());
        }
        let partitions = view.partitions()?;
        let mut away = BTreeSet::new();
        for row in members.iter().filter(|row| row.state == MemberState::Draining) {
            if !view.away_on(row.id, None, 1)?.is_empty() {
                away.insert(row.id);
            }
        }
        let seen = Observed {
            me,
            members: &members,
            voters: &liveness.voters,
            partitions: &partitions,
            base: view.partitions_base()?,
            away: &away,
            silence: &liveness.silence,
            lag: &liveness.lag,
            grace: metadata.grace(),
            rf: view.rf()?,
            level: view.level()?,
            supported: LEVEL,
        };
        let step = decide::decide(&seen);
        drop(view);
        if let Some(step) = step {
            take(metadata, step).await;
        }
        if self.ticked.elapsed() >= metadata.tick() {
            let elapsed = self.ticked.elapsed().as_millis() as u64;
            self.ticked = Instant::now();
            // A tick that fails is time that did not pass: graces get longer, never shorter.
            let _ = metadata.propose(SYSTEM, Command::Tick { elapsed }).await;
        }
        Ok(())
    }
}

/// A node that consensus still counts although the state removed it.
fn removed(view: &View, liveness: &Liveness) -> Result<Option<NodeId>, StateError> {
    for node in liveness.voters.iter().chain(&liveness.learners) {
        if view.removed(*node)? {
            return Ok(Some(*node));
        }
    }
    Ok(None)
}

async fn drop_node(metadata: &Metadata, node: NodeId) {
    match metadata
        .change_nodes(None, |voters, learners| {
            voters.remove(&node);
            learners.remove(&node);
        })
        .await
    {
        Ok(()) => tracing::info!(%node, "a removed node is out of the membership"),
        Err(why) => tracing::debug!(%node, why, "a removed node stays in the membership for now"),
    }
}

/// Proposes one step; what comes of it is seen at the next look.
async fn take(metadata: &Metadata, step: Step) {
    tracing::debug!(?step, "controller");
    let said = describe(&step);
    let done = match (step.command, step.voters) {
        (Some(command), None) => match metadata.propose(SYSTEM, command).await {
            Ok(applied) => match applied.outcome {
                crate::command::Outcome::Done => Ok(()),
                crate::command::Outcome::Refused(refusal) => Err(refusal.to_string()),
            },
            Err(error) => Err(error.to_string()),
        },
        (command, Some(wanted)) => {
            let leaver = match &command {
                Some(Command::RemoveMember { node }) => Some(*node),
                _ => None,
            };
            let change = |voters: &mut BTreeSet<NodeId>, learners: &mut BTreeSet<NodeId>| {
                // A voter that is demoted stays as a learner.
                learners.extend(voters.iter().copied());
                learners.retain(|node| !wanted.contains(node) && Some(*node) != leaver);
                *voters = wanted;
            };
            metadata.change_nodes(command, change).await
        }
        (None, None) => Ok(()),
    };
    match done {
        Ok(()) => tracing::info!(step = said, "controller step done"),
        Err(why) => tracing::info!(step = said, why, "controller step not done; it will be decided again"),
    }
}

fn describe(step: &Step) -> String {
    let command = match &step.command {
        Some(Command::SetPartitions { owners, .. }) => format!("move {} partitions", owners.len()),
        Some(Command::SetLevel { level }) => {
            format!(
                "raise the feature level to {level}, which every member supports; none can go back below it"
            )
        }
        Some(command) => format!("{command:?}"),
        None => "no command".into(),
    };
    match &step.voters {
        Some(voters) => format!("{command}, voters {voters:?}"),
        None => command,
    }
}
