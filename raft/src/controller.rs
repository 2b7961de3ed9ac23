//! Membership, placement and state time: what the leader keeps in order.

pub mod decide;
use crate::metadata::Metadata;
/// Runs the controller.
pub(crate) async fn run(_metadata: Metadata) {}
