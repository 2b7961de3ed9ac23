//! What applying a command will look for.

use super::View;
use crate::command::Command;
use crate::state::StateError;
use crate::state::key::{self, Table};
use crate::state::rows::Rows as _;

impl View {
    /// Looks for the rows that applying `command` will look for and that are seldom in memory: those
    /// of a new manifest, which has a place of its own among all others. What comes often needs the
    /// same few rows each time.
    pub(crate) fn look_ahead(&self, command: &Command) -> Result<(), StateError> {
        if let Command::PutManifest { repo, manifest, tags, .. } = command {
            self.rows.has_prefix(Table::BodyIn, &key::digest(&manifest.digest))?;
            for tag in tags {
                self.rows.has(Table::Tag, &key::tag(repo, tag))?;
            }
        }
        Ok(())
    }
}
