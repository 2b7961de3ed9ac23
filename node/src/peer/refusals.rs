//! Says whom the peer port refused, without letting a peer that tries again and again fill the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same refusal of the same address is a warning this often.
const AGAIN: Duration = Duration::from_secs(10);
/// Refusals remembered; beyond, the oldest knowledge is thrown away at once.
const REMEMBERED: usize = 256;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<(IpAddr, String), Instant>>);

impl Refusals {
    /// Whether this refusal is to be said aloud now.
    pub(super) fn is_news(&self, from: IpAddr, why: &str) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (from, why.to_owned());
        if said.get(&key).is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return false;
        }
        if said.len() >= REMEMBERED {
            said.retain(|_, at| now.duration_since(*at) < AGAIN);
        }
        if said.len() >= REMEMBERED {
            said.clear();
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_refusal_is_said_once_and_a_flood_stays_bounded() {
        let (refusals, home) = (Refusals::default(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(refusals.is_news(home, "no"));
        assert!(!refusals.is_news(home, "no"));
        assert!(refusals.is_news(home, "never"));
        for n in 0..10_000_u32 {
            refusals.is_news(IpAddr::V4(Ipv4Addr::from(n)), "no");
        }
        assert!(refusals.0.lock().unwrap().len() <= REMEMBERED);
    }
}
