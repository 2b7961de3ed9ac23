//! openraft's own suite over our log and state machine.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{LogStore, Machine, TypeConfig, open_log};
use crate::planted::Planted;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let log = open_log(dir.path());
        // The suite applies entries that it never appends.
        let (_, flushed) = watch::channel(u64::MAX);
        let machine = Machine::open(&dir.path().join("state"), flushed, Planted::NONE, None).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_state_pass_the_suite_of_openraft() {
    let suite = Suite::<TypeConfig, LogStore, Machine, Builder, TempDir>::test_all(Builder);
    suite.await.unwrap();
}
