//! How much may be asked of an upstream now.
//!
//! Owns requests at once, requests per second, and what the upstream itself says of its limits. Always holds: a
//! wait ends within a bound, with the time after which to try again; bodies of blobs leave room for what is small;
//! an upstream that says 429 to anything but a blob's bytes is still asked for those, so that a pull that began can
//! end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// What is used at once after a pause, as time of the rate.
const BURST: Duration = Duration::from_secs(1);
/// What an upstream that says 429 is left alone for when it does not say how long, and at most.
const STOP: Duration = Duration::from_secs(5);
const STOP_MAX: Duration = Duration::from_secs(3600);
/// How long manifests are left alone that would be refused: then one is tried.
const EMPTY: Duration = Duration::from_secs(60);

/// What a request is for, as far as budgets tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// A GET of a manifest, which upstreams count.
    Manifest,
    /// What is small otherwise.
    Small,
    /// The size of a blob.
    BlobHead,
    /// A blob.
    Blob,
}

/// The budget of one upstream.
pub(super) struct Budget {
    all: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    rate: u64,
    free_at: Mutex<Instant>,
    stops: Mutex<Stops>,
}

/// Until when what is not asked.
#[derive(Clone, Copy, Debug, Default)]
struct Stops {
    manifests: Option<Instant>,
    small: Option<Instant>,
    blob_heads: Option<Instant>,
    blobs: Option<Instant>,
}

/// A request that is taken; let go when the answer is there.
pub(super) struct Held {
    _permits: Vec<OwnedSemaphorePermit>,
}

/// There is none left now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// For the client.
    pub(super) why: &'static str,
    /// When there may be some.
    pub(super) retry: Duration,
}

impl Budget {
    pub(super) fn new(rate: u64, concurrency: u64) -> Budget {
        let all = usize::try_from(concurrency).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Budget {
            all: Arc::new(Semaphore::new(all)),
            bodies: Arc::new(Semaphore::new((all - all / 4).max(1))),
            rate,
            free_at: Mutex::new(Instant::now()),
            stops: Mutex::default(),
        }
    }

    /// The same limits of the upstream's own, under other settings.
    pub(super) fn with(&self, rate: u64, concurrency: u64) -> Budget {
        let stops = *self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        Budget { stops: Mutex::new(stops), ..Budget::new(rate, concurrency) }
    }

    /// Waits for a request's turn.
    pub(super) async fn enter(&self, share: Share) -> Result<Held, Spent> {
        self.stopped(share)?;
        let busy =
            Spent { why: "as many requests as may be are on their way", retry: Duration::from_secs(1) };
        let permits = async {
            let mut permits = Vec::with_capacity(2);
            if share == Share::Blob {
                permits.push(self.bodies.clone().acquire_owned().await.ok()?);
            }
            permits.push(self.all.clone().acquire_owned().await.ok()?);
            Some(permits)
        };
        let permits = timeout(WAIT_MAX, permits).await.ok().flatten().ok_or(busy)?;
        if self.rate > 0 {
            sleep_until(self.reserve(Instant::now())?).await;
        }
        // It may have said so to another request meanwhile.
        self.stopped(share)?;
        Ok(Held { _permits: permits })
    }

    /// When a request may go that wants to go `now`.
    fn reserve(&self, now: Instant) -> Result<Instant, Spent> {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let burst =
            BURST.saturating_sub(Duration::from_secs(1) / u32::try_from(self.rate).unwrap_or(u32::MAX));
        let turn = (*free_at).max(now.checked_sub(burst).unwrap_or(now));
        let wait = turn.saturating_duration_since(now);
        if wait > WAIT_MAX {
            return Err(Spent { why: "as many requests per second as may be are waiting", retry: wait });
        }
        *free_at = turn + Duration::from_secs_f64(1.0 / self.rate as f64);
        Ok(turn)
    }

    /// Whether requests of this kind are refused for now, as the upstream asked.
    pub(super) fn stopped(&self, share: Share) -> Result<(), Spent> {
        let stops = *self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        let until = match share {
            Share::Manifest => stops.manifests.max(stops.small),
            Share::Small => stops.small,
            Share::BlobHead => stops.blobs.max(stops.blob_heads),
            Share::Blob => stops.blobs,
        };
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(Spent { why: "its rate limit is reached", retry: left }),
            None => Ok(()),
        }
    }

    /// Notes what an answer says of the upstream's limits.
    pub(super) fn heard(&self, share: Share, status: StatusCode, headers: &HeaderMap) {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let until = Some(now + retry_after(headers).unwrap_or(STOP));
            stops.small = stops.small.max(until);
            match share {
                Share::Manifest | Share::Small => {}
                Share::BlobHead => stops.blob_heads = stops.blob_heads.max(until),
                Share::Blob => stops.blobs = stops.blobs.max(until),
            }
        }
        if share == Share::Manifest && remaining(headers).is_some_and(|left| left.count == 0) {
            stops.manifests = stops.manifests.max(Some(now + EMPTY));
        }
    }
}

/// What `Retry-After` says: seconds, or the moment; of a moment in the past as little as can be.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = date(text)?;
            // By the clock that named it, where it is known: clocks differ.
            let now = headers.get(DATE).and_then(|now| date(now.to_str().ok()?));
            let left = until - now.unwrap_or_else(OffsetDateTime::now_utc);
            left.try_into().unwrap_or_default()
        }
    };
    Some(wait.clamp(Duration::from_secs(1), STOP_MAX))
}

/// A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text.trim(), &Rfc2822).ok()
}

/// A count of a window, as Docker Hub writes it: `100;w=21600`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Requests.
    pub(super) count: u64,
}

/// How many requests the upstream allows in its window.
pub(super) fn limit(headers: &HeaderMap) -> Option<Window> {
    window(headers, "ratelimit-limit")
}

/// How many of them are left.
pub(super) fn remaining(headers: &HeaderMap) -> Option<Window> {
    window(headers, "ratelimit-remaining")
}

fn window(headers: &HeaderMap, name: &str) -> Option<Window> {
    let text = headers.get(name)?.to_str().ok()?;
    let count = text.split([';', ',']).next()?.trim().parse().ok()?;
    Some(Window { count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[tokio::test]
    async fn a_429_stops_what_is_small_but_not_the_blobs_of_a_pull() {
        let budget = Budget::new(0, 8);
        budget.heard(Share::Manifest, StatusCode::TOO_MANY_REQUESTS, &headers(&[("retry-after", "7")]));
        for share in [Share::Manifest, Share::Small] {
            let spent = budget.enter(share).await.err().unwrap();
            assert!(
                spent.retry > Duration::from_secs(5) && spent.retry <= Duration::from_secs(7),
                "{spent:?}"
            );
        }
        assert!(budget.enter(Share::Blob).await.is_ok());
        assert!(budget.enter(Share::BlobHead).await.is_ok());
        budget.heard(Share::BlobHead, StatusCode::TOO_MANY_REQUESTS, &headers(&[]));
        assert!(budget.enter(Share::BlobHead).await.is_err());
        assert!(budget.enter(Share::Blob).await.is_ok(), "sizes are limited, and not the bytes");
        budget.heard(Share::Blob, StatusCode::TOO_MANY_REQUESTS, &headers(&[("retry-after", "soon")]));
        assert!(budget.enter(Share::Blob).await.is_err());
        assert!(budget.with(5, 5).enter(Share::Blob).await.is_err(), "other settings do not lift it");
    }

    #[test]
    fn an_upstream_says_in_seconds_or_by_a_moment_when_to_try_again() {
        const DATE: &str = "Sun, 06 Nov 2033 08:49:37 GMT";
        let by_date = |until| retry_after(&headers(&[("date", DATE), ("retry-after", until)]));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(by_date("Sun, 06 Nov 2033 08:50:07 GMT"), seconds(30));
        assert_eq!(by_date("Sun, 06 Nov 2033 08:49:00 GMT"), seconds(1), "it is over");
        assert_eq!(by_date("Mon, 07 Nov 2033 08:49:37 GMT"), Some(STOP_MAX));
        assert_eq!(by_date("tomorrow"), None);
        assert_eq!(by_date("7"), seconds(7));
        assert_eq!(by_date("0"), seconds(1));
        // Without a date of its own it is our clock that counts.
        assert_eq!(retry_after(&headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")])), seconds(1));
    }

    #[tokio::test]
    async fn the_last_of_a_window_stops_manifests_alone() {
        let budget = Budget::new(0, 8);
        budget.heard(Share::Manifest, StatusCode::OK, &headers(&[("ratelimit-remaining", "1;w=21600")]));
        assert!(budget.enter(Share::Manifest).await.is_ok());
        budget.heard(Share::Manifest, StatusCode::OK, &headers(&[("ratelimit-remaining", "0;w=21600")]));
        assert!(budget.enter(Share::Manifest).await.is_err());
        assert!(budget.enter(Share::Small).await.is_ok());
        assert!(budget.enter(Share::Blob).await.is_ok());
    }

    #[tokio::test]
    async fn bodies_leave_room_for_what_is_small() {
        let budget = Budget::new(0, 4);
        let waits = async |share| timeout(Duration::from_millis(20), budget.enter(share)).await.is_err();
        let mut bodies = Vec::new();
        for _ in 0..3 {
            bodies.push(budget.enter(Share::Blob).await.ok().unwrap());
        }
        assert!(waits(Share::Blob).await);
        let small = budget.enter(Share::Small).await.ok().unwrap();
        assert!(waits(Share::Small).await);
        drop((bodies.pop(), small));
        assert!(budget.enter(Share::Blob).await.is_ok());
    }

    #[tokio::test]
    async fn a_rate_holds_beyond_a_burst_and_does_not_queue_without_end() {
        let budget = Budget::new(10, 1000);
        let start = Instant::now() + Duration::from_secs(100);
        let turns: Vec<_> = (0..91).map_while(|_| budget.reserve(start).ok()).collect();
        assert_eq!(turns.len(), 90, "a burst of 10, and what 8 s allow");
        assert!(turns[9] <= start && turns[10] > start);
        assert!(turns[89] > start + Duration::from_millis(7900) && turns[89] <= start + WAIT_MAX);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..11).filter(|_| budget.reserve(later).unwrap() <= later).count(), 10);
    }
}
