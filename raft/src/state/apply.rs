//! What each command does to the rows.

use redb::WriteTransaction;

use super::{ApplyEntry, StateError};
use crate::command::Applied;
use crate::planted::Planted;

/// Applies `entries` in order.
pub(super) fn batch(_: &WriteTransaction, _: &[ApplyEntry], _: Planted) -> Result<Vec<Applied>, StateError> {
    Ok(Vec::new())
}
