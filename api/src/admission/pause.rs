//! Whether this process stood still: stopped by a signal, with its virtual machine, or with a machine that slept.
//!
//! Meanwhile the others agreed on things that it has not heard of, and did not wait for it. Always holds: time is
//! that of a clock that nobody sets and that goes on while the machine sleeps; a pause as long as [`PAUSE`] is seen
//! by whoever looks first after it. Never does: see a pause in which the machine's own clocks stood still as well,
//! as when a hypervisor saves a guest and goes on with it later.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// So long without a look is a pause. A change of the policy waits a second for each member that can be reached: of
/// one that stands still for less than this there is as long left to hear of it.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// A point in time, since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    /// How long it is from `earlier` to here; nothing if that is later.
    pub(super) fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the time.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// Looks at the clock, and notices when nobody did for long.
pub(super) struct Watch {
    clock: Clock,
    seen: Mutex<Seen>,
}

struct Seen {
    last: Moment,
    /// When it went on after the last pause.
    resumed: Option<Moment>,
}

impl Watch {
    /// By the machine's clock, for as long as it lives. Needs a Tokio runtime.
    pub(super) fn new() -> Arc<Watch> {
        let watch = Arc::new(Watch::by(Box::new(since_boot)));
        tokio::spawn(look_on(Arc::downgrade(&watch)));
        watch
    }

    /// By another clock, at which nobody looks but who asks.
    pub(super) fn by(clock: Clock) -> Watch {
        let last = Moment(clock());
        Watch { clock, seen: Mutex::new(Seen { last, resumed: None }) }
    }

    /// The time now.
    pub(super) fn now(&self) -> Moment {
        self.look().0
    }

    /// Whether there was a pause since `then`.
    pub(super) fn paused_since(&self, then: Moment) -> bool {
        self.look().1.is_some_and(|resumed| resumed > then)
    }

    /// How long ago it went on after the last pause, if there was one.
    pub(super) fn resumed(&self) -> Option<Duration> {
        let (now, resumed) = self.look();
        resumed.map(|resumed| now.since(resumed))
    }

    /// The time now, and when it went on after the last pause.
    fn look(&self) -> (Moment, Option<Moment>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment((self.clock)());
        if now.since(seen.last) >= PAUSE {
            seen.resumed = Some(now);
        }
        seen.last = now.max(seen.last);
        (now, seen.resumed)
    }
}

async fn look_on(watch: Weak<Watch>) {
    while let Some(alive) = watch.upgrade() {
        alive.look();
        drop(alive);
        tokio::time::sleep(LOOK).await;
    }
}

/// Linux stops CLOCK_MONOTONIC, which `Instant` is, while the machine sleeps.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    // Neither is negative, since the machine started at 0.
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A clock that a test sets.
    #[derive(Clone, Default)]
    pub(crate) struct Planted(Arc<AtomicU64>);

    impl Planted {
        pub(crate) fn watch(&self) -> Arc<Watch> {
            let millis = self.0.clone();
            Arc::new(Watch::by(Box::new(move || Duration::from_millis(millis.load(Ordering::SeqCst)))))
        }

        pub(crate) fn pass(&self, time: Duration) {
            self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_pause_is_seen_by_whoever_looks_first_after_it() {
        let clock = Planted::default();
        let watch = clock.watch();
        let before = watch.now();
        for _ in 0..100 {
            clock.pass(PAUSE - Duration::from_millis(1));
            assert!(!watch.paused_since(before), "somebody looked in time");
        }
        assert_eq!(watch.resumed(), None);
        clock.pass(PAUSE);
        assert!(watch.paused_since(before));
        let after = watch.now();
        clock.pass(LOOK);
        assert!(watch.paused_since(before) && !watch.paused_since(after));
        assert_eq!(watch.resumed(), Some(LOOK));
        assert_eq!(watch.now().since(before), 100 * (PAUSE - Duration::from_millis(1)) + PAUSE + LOOK);
    }

    #[test]
    fn the_machine_s_clock_runs() {
        let (before, instant) = (since_boot(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        assert!(since_boot() - before >= Duration::from_millis(20));
        assert!(since_boot() - before <= instant.elapsed() + Duration::from_secs(5));
    }
}
