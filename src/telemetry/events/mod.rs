//! What the log says about single requests: an event for each repair and refusal, and the access
//! log.
mod access;
mod event;
mod limiter;
mod request_id;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

pub(crate) use access::Access;
pub(crate) use event::{Event, Why};
pub(crate) use request_id::{RequestId, X_REQUEST_ID, printable};

use limiter::Limiter;

/// What all threads share of events.
#[derive(Debug)]
pub(crate) struct Events {
    limiter: Limiter,
    /// Keyed at random, so that no client can choose a name that shares a place with another one.
    hasher: RandomState,
    started: Instant,
    left_out: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            limiter: Limiter::new(),
            hasher: RandomState::new(),
            started: Instant::now(),
            left_out: AtomicU64::default(),
        }
    }
}

impl Events {
    /// Whether `events` events of a client about the same rule or reason are logged now. If so,
    /// gives the number of those before that were left out.
    pub(crate) fn admit(&self, client: &str, why: Why, events: u32) -> Option<u32> {
        let key = self.hasher.hash_one((client, why.as_str()));
        let admitted = self.limiter.admit(key, events, self.started.elapsed().as_millis() as u64);
        if admitted.is_none() {
            self.left_out.fetch_add(u64::from(events), Relaxed);
        }
        admitted
    }

    /// Events that were left out so far.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_and_reason_has_its_own_limit() {
        let events = Events::default();
        let rank = Why::Reason("RANK_TOO_LOW");
        assert_eq!(events.admit("a", rank, 2), Some(0));
        assert_eq!(events.admit("a", rank, 2), None);
        assert_eq!(events.admit("b", rank, 1), Some(0));
        assert_eq!(events.admit("a", Why::Rule("add_batch_dim"), 1), Some(0));
        assert_eq!(events.left_out(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_event_after_a_pause_counts_those_that_were_left_out() {
        let events = Events::default();
        let why = Why::Reason("RANK_TOO_LOW");
        assert_eq!(events.admit("a", why, 1), Some(0));
        for _ in 0..12 {
            assert_eq!(events.admit("a", why, 1), None);
        }
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        assert_eq!(events.admit("a", why, 1), Some(12));
    }
}
