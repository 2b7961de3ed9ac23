//! The feature level: what may be proposed, and what this node says that it supports.
//!
//! Always holds: a command above the cluster's level is not proposed and not taken in from others;
//! this node's row comes to say what the program that runs supports, be it more or less than the one
//! before it did. Never does: raise the level, which is the controller's.

use std::time::Duration;

use super::Metadata;
use crate::command::{Command, LEVEL, Outcome, SYSTEM};
use crate::member::Member;
use crate::planted::Variant;

/// How long a read of the row may take, and how long it is until another try.
const READ: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

impl Metadata {
    /// Whether a command of `level` may be proposed now, and if not, why. The first level is
    /// everybody's, and the birth is of it.
    pub(super) fn allows(&self, level: u32) -> Result<(), String> {
        if level <= 1 {
            return Ok(());
        }
        let agreed = self.local().level().map_err(|error| error.to_string())?.max(1);
        if level <= agreed || self.0.settings.planted.is(Variant::H9AboveLevel) {
            return Ok(());
        }
        Err(format!("the command is of feature level {level}, and the cluster is at {agreed}"))
    }
}

/// Makes this node's row say what this program supports, and ends when it does.
pub(super) async fn report(metadata: Metadata) {
    while !says_so(&metadata).await {
        tokio::time::sleep(AGAIN).await;
    }
}

async fn says_so(metadata: &Metadata) -> bool {
    let Ok(view) = metadata.read(READ).await else { return false };
    // One that is not a member yet says it when it joins.
    let Ok(Some(row)) = view.member(metadata.id()) else { return false };
    let before = row.max_level;
    if before == LEVEL {
        return true;
    }
    drop(view);
    let command = Command::ChangeMember { member: Member { max_level: LEVEL, ..row } };
    match metadata.propose(SYSTEM, command).await.map(|applied| applied.outcome) {
        Ok(Outcome::Done) => {
            tracing::info!(
                before,
                now = LEVEL,
                "the cluster knows which feature level this version supports"
            );
        }
        Ok(Outcome::Refused(why)) => {
            tracing::warn!(before, now = LEVEL, %why, "the feature level that this version supports is refused")
        }
        Err(error) => {
            tracing::debug!(cause = %error, "the cluster does not know this version's feature level yet")
        }
    }
    false
}

/// Proposes the command of the next level once in each term and level, and says what came of it.
#[cfg(feature = "next-level")]
pub(super) async fn probe(metadata: Metadata) {
    let mut tried = None;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let leadership = metadata.leadership();
        let level = metadata.local().level().unwrap_or_default();
        let now = (leadership.term, level);
        if level == 0 || leadership.leader.is_none() || tried == Some(now) {
            continue;
        }
        tried = Some(now);
        match metadata.propose(SYSTEM, Command::Probe).await {
            Ok(applied) => tracing::info!(level, ?applied, "a command of the next level is in the log"),
            Err(error) => {
                tracing::info!(level, cause = %error, "a command of the next level is not proposed")
            }
        }
    }
}
