//! What reads and uploads need of the agreed state, and no more.
//!
//! Three functions rather than the metadata's handle, so that schedules with several nodes can be
//! produced in one process without consensus.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use trow_raft::metadata::{NoQuorum, ProposeError};
use trow_raft::{Applied, Command, Metadata, StateError, View};

/// How long a read waits to be confirmed by a quorum.
const READ_WAIT: Duration = Duration::from_secs(5);

/// Proposes a command on behalf of somebody.
pub type Propose = dyn Fn(&str, Command) -> BoxFuture<'static, Result<Applied, ProposeError>> + Send + Sync;

/// The agreed state as this node sees it.
#[derive(Clone)]
pub struct Agreement {
    /// What is applied here now; may be behind.
    pub view: Arc<dyn Fn() -> Result<View, StateError> + Send + Sync>,
    /// A view that sees everything acknowledged before.
    pub confirmed: Arc<dyn Fn() -> BoxFuture<'static, Result<View, NoQuorum>> + Send + Sync>,
    /// Proposes, and waits for the outcome.
    pub propose: Arc<Propose>,
}

impl From<&Metadata> for Agreement {
    fn from(metadata: &Metadata) -> Agreement {
        let (local, read, propose) = (metadata.clone(), metadata.clone(), metadata.clone());
        Agreement {
            view: Arc::new(move || Ok(local.local())),
            confirmed: Arc::new(move || {
                let read = read.clone();
                async move { read.read(READ_WAIT).await }.boxed()
            }),
            propose: Arc::new(move |actor, command| {
                let (propose, actor) = (propose.clone(), actor.to_owned());
                async move { propose.propose(&actor, command).await }.boxed()
            }),
        }
    }
}
