//! Threads for long work that may wait while anything else has something to do.
//!
//! Always holds: such a thread has a lower priority than all others of the process, so that where
//! cores are short whoever applies entries and answers requests goes first; a runtime that ends
//! waits for it, as for all work that blocks. Never does: hold up what was not given to it.

use std::panic::resume_unwind;
use std::thread;

use tokio::task::{JoinHandle, spawn_blocking};

/// What is added to the thread's niceness: it has about a third of another thread's share of a core
/// that both want, so it is never starved.
const NICER: i32 = 5;

/// Does `work` on a thread of its own, called `name`. A thread that cannot be made is a panic, as it
/// is of `spawn_blocking`.
pub(super) fn run<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let work = move || {
        // On Linux it is the thread's alone. Where it is refused the work is done all the same.
        let _ = rustix::process::nice(NICER);
        work()
    };
    // A thread that was made nicer stays so: those of the pool have other things to do later.
    spawn_blocking(move || {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.expect("no thread can be made").join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::nice(0).unwrap()
    }

    #[tokio::test]
    async fn what_may_wait_has_a_lower_priority_and_nothing_else_has() {
        let before = niceness();
        let found = run("test", niceness).await.unwrap();
        assert_eq!(found, (before + NICER).min(19));
        assert_eq!(niceness(), before, "whoever asked kept its own");
        assert_eq!(spawn_blocking(niceness).await.unwrap(), before, "and so did the pool");
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_a_panic() {
        let work: fn() = || panic!("planted");
        assert!(run("test", work).await.unwrap_err().is_panic());
    }
}
