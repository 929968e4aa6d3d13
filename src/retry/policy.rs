//! The retry policy for calls to TF Serving: the cause of a failure in, a decision out.
use std::time::Duration;

use super::budget::Budget;

/// Retries of one call after the batching queue was full. With the pauses this takes about half a
/// second.
const MAX_RETRIES: u32 = 16;
/// Retries of one call for which the server had no thread. The limiter spaces them out: a server
/// without a free thread is tried every 64 ms with each permit, so the deadline comes first.
const MAX_REFUSALS: u32 = 1000;
/// The pause before retry `n` is up to `2^n` milliseconds; it stops growing here (64 ms).
const MAX_DOUBLINGS: u32 = 6;

/// Why a call could be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server certainly did not process the call: it said so with `REFUSED_STREAM` or a GOAWAY.
    ///
    /// The call keeps its permit. The first retry of a call is free; another one is taken off the
    /// budget.
    Unprocessed,
    /// TF Serving had no thread for the call and did not run it.
    ///
    /// Return the permit as refused and wait for another one at the front of the queue.
    NoThread,
    /// TF Serving's batching queue was full and it did not run the call.
    ///
    /// Return the permit as refused and wait for another one at the front of the queue.
    BatchQueueFull,
    /// The connection was lost before any byte of an answer. The call may have run.
    ///
    /// Release the permit without an answer and wait for another one at the front of the queue.
    ConnectionLost,
    /// TF Serving rejected a request that conforms to the signatures we know. The request is
    /// planned again and sent as a new call if the signatures turn out to have changed.
    ///
    /// Ask before the signatures are fetched again, so that this happens once per request. The call
    /// was answered, so its permit is gone already; the new call waits at the back of the queue.
    SignatureChanged,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Now,
    After(Duration),
    /// The client gets the failure.
    GiveUp,
}

/// The retries of one request so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempts {
    limited: bool,
    retry_lost: bool,
    /// Since the request was last planned, except for those of unprocessed calls.
    retries: u32,
    /// The current call was retried as unprocessed.
    unprocessed: bool,
    signature_changed: bool,
}

impl Attempts {
    /// For calls that need a permit: every cause can be retried, except for lost connections.
    pub(crate) const fn with_limiter() -> Self {
        Self { limited: true, retry_lost: false, retries: 0, unprocessed: false, signature_changed: false }
    }

    /// Whether a call that may have run is retried when its connection is lost: only the operator
    /// knows whether running it twice does harm.
    #[must_use]
    pub(crate) const fn retry_lost(self, on: bool) -> Self {
        Self { retry_lost: on, ..self }
    }

    /// For calls without a limiter: with nothing to hold retries back, an overloaded server is left
    /// alone, and so is one whose connection was lost.
    pub(crate) const fn without_limiter() -> Self {
        Self { limited: false, ..Self::with_limiter() }
    }

    /// Another call of the same request, such as the next part of a fan-out, has its own retries.
    pub(crate) fn start_call(&mut self) {
        *self = Self { retries: 0, unprocessed: false, ..*self };
    }

    /// Whether the request is sent again after a failure, and when. A retry that the budget pays
    /// for is taken off it.
    ///
    /// The `seed` spreads the pauses: requests that fail at the same time should have different
    /// ones.
    pub(crate) fn decide(&mut self, cause: Cause, budget: &mut Budget, seed: u64) -> Decision {
        match cause {
            Cause::Unprocessed => {
                if self.unprocessed {
                    self.retries += 1;
                    if !self.limited || self.retries > 1 || !budget.spend() {
                        return Decision::GiveUp;
                    }
                }
                self.unprocessed = !self.unprocessed;
                return Decision::Now;
            }
            Cause::SignatureChanged => {
                if self.signature_changed {
                    return Decision::GiveUp;
                }
                *self = Self { retries: 0, unprocessed: false, signature_changed: true, ..*self };
                return Decision::Now;
            }
            Cause::ConnectionLost if !self.retry_lost => return Decision::GiveUp,
            Cause::NoThread | Cause::BatchQueueFull | Cause::ConnectionLost => {}
        }
        self.retries += 1;
        let allowed = self.limited
            && match cause {
                // Nothing ran, and waiting for a permit limits how often this happens.
                Cause::NoThread => self.retries <= MAX_REFUSALS,
                Cause::BatchQueueFull => self.retries <= MAX_RETRIES && budget.spend(),
                // Once: if the request itself crashed the server, do not crash it again.
                _ => self.retries == 1 && budget.spend(),
            };
        if !allowed {
            return Decision::GiveUp;
        }
        self.unprocessed = false;
        // A permit is pause enough, but it says nothing about the batching queue.
        if cause != Cause::BatchQueueFull { Decision::Now } else { Decision::After(self.pause(seed)) }
    }

    /// Between half of the full pause and the full pause.
    fn pause(self, seed: u64) -> Duration {
        let full = 1_000_u64 << self.retries.min(MAX_DOUBLINGS);
        let spread = (seed << 5 | u64::from(self.retries)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Duration::from_micros(full / 2 + (spread >> 32) % (full / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::Cause::{BatchQueueFull, ConnectionLost, NoThread, SignatureChanged, Unprocessed};
    use super::*;

    /// One letter per decision: `n`ow, `a`fter a pause, `g`ive up.
    fn decisions(mut attempts: Attempts, budget: &mut Budget, causes: &[Cause]) -> String {
        let letter = |cause: &Cause| match attempts.decide(*cause, budget, 7) {
            Decision::Now => 'n',
            Decision::After(_) => 'a',
            Decision::GiveUp => 'g',
        };
        causes.iter().map(letter).collect()
    }

    fn empty() -> Budget {
        let mut budget = Budget::default();
        while budget.spend() {}
        budget
    }

    #[test]
    fn every_cause_is_retried_as_often_as_it_may_be() {
        for (causes, expected) in [
            (&[NoThread; 17][..], "nnnnnnnnnnnnnnnnn"),
            // The budget of a new thread pays for ten.
            (&[BatchQueueFull; 11], "aaaaaaaaaag"),
            (&[ConnectionLost; 2], "ng"),
            (&[Unprocessed; 4], "nnng"),
            (&[Unprocessed, NoThread, Unprocessed, Unprocessed, Unprocessed], "nnngg"),
            (&[SignatureChanged; 2], "ng"),
            // A lost connection is retried only as the first failure.
            (&[NoThread, ConnectionLost], "ng"),
            (&[ConnectionLost, NoThread, BatchQueueFull], "nna"),
            // Each new call may be unprocessed once for free.
            (&[Unprocessed, ConnectionLost, Unprocessed], "nnn"),
            // A request that is planned again starts over, but is not planned a third time.
            (&[ConnectionLost, SignatureChanged, ConnectionLost, SignatureChanged], "nnng"),
            (&[NoThread, NoThread, SignatureChanged, NoThread, NoThread], "nnnnn"),
            (&[Unprocessed, SignatureChanged, Unprocessed], "nnn"),
        ] {
            assert_eq!(
                decisions(Attempts::with_limiter().retry_lost(true), &mut Budget::default(), causes),
                expected,
                "{causes:?}"
            );
        }
    }

    #[test]
    fn a_call_that_may_have_run_is_only_retried_if_the_operator_allows_it() {
        let mut budget = Budget::default();
        let causes = [ConnectionLost, NoThread, ConnectionLost];
        assert_eq!(decisions(Attempts::with_limiter(), &mut budget, &causes), "gng");
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10, "nothing was spent");
    }

    #[test]
    fn each_call_of_a_request_has_its_own_retries_and_the_request_one_new_plan() {
        let mut attempts = Attempts::with_limiter();
        let mut budget = Budget::default();
        for call in 0..100 {
            attempts.start_call();
            assert_eq!(attempts.decide(NoThread, &mut budget, 0), Decision::Now, "call {call}");
        }
        assert_eq!(attempts.decide(SignatureChanged, &mut budget, 0), Decision::Now);
        attempts.start_call();
        assert_eq!(attempts.decide(SignatureChanged, &mut budget, 0), Decision::GiveUp);
    }

    #[test]
    fn an_empty_budget_stops_what_may_have_cost_the_server_something() {
        for (cause, expected) in [
            (NoThread, "n"),
            (BatchQueueFull, "g"),
            (ConnectionLost, "g"),
            (Unprocessed, "n"),
            (SignatureChanged, "n"),
        ] {
            assert_eq!(
                decisions(Attempts::with_limiter().retry_lost(true), &mut empty(), &[cause]),
                expected,
                "{cause:?}"
            );
        }
    }

    #[test]
    fn without_a_limiter_overload_and_lost_connections_are_not_retried() {
        let mut budget = Budget::default();
        for (cause, expected) in [
            (NoThread, "gg"),
            (BatchQueueFull, "gg"),
            (ConnectionLost, "gg"),
            (Unprocessed, "ng"),
            (SignatureChanged, "ng"),
        ] {
            assert_eq!(
                decisions(Attempts::without_limiter(), &mut budget, &[cause; 2]),
                expected,
                "{cause:?}"
            );
        }
        let mut attempts = Attempts::without_limiter();
        attempts.decide(SignatureChanged, &mut budget, 0);
        assert_eq!(attempts.decide(NoThread, &mut budget, 0), Decision::GiveUp, "planned again");
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10, "nothing was spent");
    }

    #[test]
    fn a_server_without_threads_is_tried_until_the_deadline_comes() {
        let mut attempts = Attempts::with_limiter();
        for _ in 0..MAX_REFUSALS {
            assert_eq!(attempts.decide(NoThread, &mut empty(), 0), Decision::Now);
        }
        assert_eq!(attempts.decide(NoThread, &mut empty(), 0), Decision::GiveUp);
    }

    #[test]
    fn pauses_double_up_to_64_milliseconds() {
        let mut different = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut attempts = Attempts::with_limiter();
            for full in [2, 4, 8, 16, 32, 64, 64, 64, 64, 64].map(Duration::from_millis) {
                let Decision::After(pause) = attempts.decide(BatchQueueFull, &mut Budget::default(), seed)
                else {
                    panic!("no pause")
                };
                assert!(pause >= full / 2 && pause < full, "{pause:?} of {full:?}");
                different.insert(pause);
            }
        }
        assert!(different.len() > 500, "{} different pauses", different.len());
    }
}
