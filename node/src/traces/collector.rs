//! Whether the collector takes what it is sent, for the log.
//!
//! Always holds: an outage is at most two lines, its begin and its end; one within a minute of the
//! last is said only if it lasts. Never does: keep spans for later, or count those that found no room
//! in the queue.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// How often an outage may be said.
const SAID: Duration = Duration::from_secs(60);

/// An exporter that is watched.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    endpoint: String,
    outage: Mutex<Outage>,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, endpoint: &str) -> Self {
        Watched { exporter, endpoint: endpoint.to_owned(), outage: Mutex::default() }
    }

    fn tell(&self, spans: usize, result: &OTelSdkResult) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let collector = self.endpoint.as_str();
        match (outage.after(spans as u64, result.is_ok(), Instant::now()), result) {
            (Some(Word::Begun), Err(error)) => {
                tracing::warn!(collector, cause = %error, "the collector does not take traces, and they are dropped until it does: start it, or mend --otlp-endpoint; nothing else is disturbed")
            }
            (Some(Word::Ended { refused }), _) => {
                tracing::info!(collector, refused, "the collector takes traces again")
            }
            _ => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.tell(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// What is worth a line.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Begun,
    Ended { refused: u64 },
}

/// The outage there is, if there is one.
#[derive(Debug, Default)]
struct Outage {
    /// Spans that were not taken since the last one whose end was said.
    refused: u64,
    /// Whether this one was said.
    said: bool,
    last_said: Option<Instant>,
}

impl Outage {
    /// After a batch of `spans` was taken or not.
    fn after(&mut self, spans: u64, taken: bool, now: Instant) -> Option<Word> {
        if taken {
            let said = std::mem::take(&mut self.said);
            return said.then(|| Word::Ended { refused: std::mem::take(&mut self.refused) });
        }
        self.refused += spans;
        let lately = self.last_said.is_some_and(|last| now.duration_since(last) < SAID);
        if self.said || lately {
            return None;
        }
        (self.said, self.last_said) = (true, Some(now));
        Some(Word::Begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_two_lines_and_one_that_comes_and_goes_no_more_of_them() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut after =
            |spans, taken, seconds| outage.after(spans, taken, start + Duration::from_secs(seconds));
        assert_eq!(after(3, true, 0), None, "nothing was wrong");
        assert_eq!(after(5, false, 1), Some(Word::Begun));
        assert_eq!(after(7, false, 600), None, "once is enough");
        assert_eq!(after(1, true, 601), Some(Word::Ended { refused: 12 }));
        assert_eq!(after(1, true, 602), None);
        assert_eq!(after(2, false, 603), Some(Word::Begun));
        assert_eq!(after(2, true, 604), Some(Word::Ended { refused: 2 }));
        // Again within the minute: not a word, unless it lasts.
        assert_eq!(after(2, false, 605), None);
        assert_eq!(after(2, true, 606), None);
        assert_eq!(after(2, false, 607), None);
        assert_eq!(after(2, false, 663), Some(Word::Begun));
        assert_eq!(after(2, true, 664), Some(Word::Ended { refused: 6 }), "with what was not said before");
    }
}
