//! Membership, placement and state time: what the leader keeps in order.

pub mod decide;
