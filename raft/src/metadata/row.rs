//! This node's row: what the cluster knows of it is what this process runs with.
//!
//! Written when the node joins, and corrected after each start: another version supports another
//! level, another configuration has another name, zone or address, another disk another size. Always
//! holds: with what it says already nothing is proposed. Never does: add a row, or change where the
//! member stands in its life.

use std::time::Duration;

use super::Metadata;
use crate::command::{Command, LEVEL, Outcome, SYSTEM};
use crate::id::NodeId;
use crate::member::Member;
use crate::state::{StateError, View};

/// How long a read of the row may take, and how long it is until another try.
const READ: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

/// Makes this node's row say what is so, and ends when it does.
pub(super) async fn correct(metadata: Metadata) {
    let mut said = AlreadySaid::default();
    while !is_right(&metadata, &mut said).await {
        tokio::time::sleep(AGAIN).await;
    }
}

/// What is not to be said again, however often the row is tried.
#[derive(Default)]
struct AlreadySaid {
    name: bool,
    refusal: bool,
}

impl AlreadySaid {
    /// What the operator must hear of the name: that it is not the one that was asked for.
    fn of_name(&mut self, wanted: Option<&Member>, now: &Member) -> Option<String> {
        let wanted = wanted.filter(|wanted| wanted.name != now.name)?;
        let first = !std::mem::replace(&mut self.name, true);
        first.then(|| {
            format!(
                "another member is called {}; the cluster goes on knowing this node as {}: give it another --name",
                wanted.name, now.name
            )
        })
    }
}

async fn is_right(metadata: &Metadata, said: &mut AlreadySaid) -> bool {
    let Ok(view) = metadata.read(READ).await else { return false };
    let wanted = metadata.0.settings.row.as_ref();
    // One that is not a member yet says it when it joins.
    let Ok(Some((before, now))) = rows(&view, metadata.id(), wanted) else {
        return false;
    };
    if let Some(warning) = said.of_name(wanted, &now) {
        tracing::warn!("{warning}");
    }
    if before == now {
        return true;
    }
    drop(view);
    let command = Command::ChangeMember { member: now.clone() };
    match metadata.propose(SYSTEM, command).await.map(|applied| applied.outcome) {
        Ok(Outcome::Done) => {
            tracing::info!(before = ?Said(&before), now = ?Said(&now), "the cluster knows what changed of this node")
        }
        Ok(Outcome::Refused(why)) if !std::mem::replace(&mut said.refusal, true) => {
            tracing::warn!(before = ?Said(&before), now = ?Said(&now), %why, "what changed of this node is refused, and the cluster goes on with what it knew: it is tried again by itself; if `trow cluster status` still shows the old, start the node as it was before")
        }
        Ok(Outcome::Refused(why)) => {
            tracing::debug!(%why, "what changed of this node is refused again")
        }
        Err(error) => {
            tracing::debug!(cause = %error, "the cluster does not know yet what changed of this node")
        }
    }
    false
}

/// The row as it is, and as it should be.
fn rows(view: &View, id: NodeId, wanted: Option<&Member>) -> Result<Option<(Member, Member)>, StateError> {
    let Some(before) = view.member(id)? else { return Ok(None) };
    let mut now = Member { max_level: LEVEL, ..before.clone() };
    if let Some(wanted) = wanted {
        let mut others = view.members()?.into_iter().filter(|member| member.id != id);
        // A name that another member has stays that one's.
        if !others.any(|other| other.name == wanted.name) {
            now.name.clone_from(&wanted.name);
        }
        now.zone.clone_from(&wanted.zone);
        now.client.clone_from(&wanted.client);
        now.peer.clone_from(&wanted.peer);
        now.weight = weight(before.weight, wanted.weight);
    }
    Ok(Some((before, now)))
}

/// A weight that is all but the same stays: each change moves blobs.
fn weight(before: u32, now: u32) -> u32 {
    let apart = u64::from(before.abs_diff(now));
    if apart * 10 > u64::from(before) { now.max(1) } else { before }
}

/// The part of a row that a start may change, for the log.
struct Said<'a>(&'a Member);

impl std::fmt::Debug for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Member { name, zone, weight, client, peer, max_level, .. } = self.0;
        write!(f, "{name}, zone {zone:?}, weight {weight}, {client}, {peer}, level {max_level}")
    }
}

#[cfg(test)]
mod tests {
    use super::{AlreadySaid, LEVEL, Member, NodeId, weight};
    use crate::id::Generation;
    use crate::member::MemberState;

    fn called(name: &str) -> Member {
        Member {
            id: NodeId(1),
            name: name.to_owned(),
            zone: String::new(),
            state: MemberState::Active,
            generation: Generation(0),
            max_level: LEVEL,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        }
    }

    #[test]
    fn a_name_that_another_member_has_is_said_once() {
        let mut said = AlreadySaid::default();
        assert_eq!(said.of_name(None, &called("a")), None);
        assert_eq!(said.of_name(Some(&called("a")), &called("a")), None, "it has its name");
        let warning = said.of_name(Some(&called("b")), &called("a"));
        assert_eq!(
            warning.as_deref(),
            Some(
                "another member is called b; the cluster goes on knowing this node as a: give it another --name"
            )
        );
        assert_eq!(said.of_name(Some(&called("b")), &called("a")), None, "once is enough");
    }

    #[test]
    fn a_weight_changes_by_more_than_a_tenth_or_not_at_all() {
        for (before, now, then) in
            [(100, 110, 100), (100, 111, 111), (100, 90, 100), (100, 89, 89), (1, 1, 1), (1, 2, 2), (9, 0, 1)]
        {
            assert_eq!(weight(before, now), then, "{before} → {now}");
        }
    }
}
