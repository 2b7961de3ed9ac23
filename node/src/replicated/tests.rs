//! Several nodes' blobs in one process: real stores, a real state, and a network whose nodes can
//! be taken down in mid-body. See `harness`.

pub(crate) mod harness;
mod hostile;
mod leave;
pub(crate) mod net;
mod reads;
mod takeover;
mod uploads;
mod wire;
