//! The feature level: what may be proposed.
//!
//! Always holds: a command above the cluster's level is not proposed and not taken in from others.
//! Never does: raise the level, which is the controller's, or say what this build supports, which the
//! node's row does.

use super::{Metadata, ProposeError};
#[cfg(feature = "next-level")]
use crate::command::{Command, SYSTEM};
use crate::planted::Variant;

impl Metadata {
    /// Whether a command of `level` may be proposed now, and if not, why. The first level is
    /// everybody's, and the birth is of it.
    pub(super) fn allows(&self, level: u32) -> Result<(), ProposeError> {
        if level <= 1 {
            return Ok(());
        }
        let agreed = self.local().level().map_err(|error| ProposeError::Refused(error.to_string()))?.max(1);
        if level <= agreed || self.0.settings.planted.is(Variant::H9AboveLevel) {
            return Ok(());
        }
        Err(ProposeError::Level { needs: level, agreed })
    }
}

/// Proposes the command of the next level once in each term and level, and says what came of it.
#[cfg(feature = "next-level")]
pub(super) async fn probe(metadata: Metadata) {
    let mut tried = None;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
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
