//! What the tests of repair, sweep and audit are played on.

pub mod sim;
