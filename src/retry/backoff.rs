//! How long to wait before the next try: doubling up to a cap, jittered so that many sidecars do
//! not come back in step.
use std::time::Duration;

/// An endless iterator of waiting times. Pure: the seed is passed in.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    state: u64,
}

impl Backoff {
    pub const FIRST: Duration = Duration::from_millis(50);
    pub const CAP: Duration = Duration::from_secs(1);

    pub fn new(seed: u64) -> Self {
        Self { next: Self::FIRST, state: seed | 1 }
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// xorshift64: enough to spread waiting times.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// From half of the full time up to the full time.
    pub fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(Self::CAP);
        let half = full / 2;
        half + Duration::from_micros(self.random() % (half.as_micros() as u64 + 1))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_stay_within_their_half() {
        for seed in 0..100 {
            let mut full = Backoff::FIRST;
            for wait in Backoff::new(seed).take(12) {
                assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
                full = (full * 2).min(Backoff::CAP);
            }
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(7);
        assert!(backoff.by_ref().take(9).last() >= Some(Backoff::CAP / 2));
        backoff.reset();
        assert!(backoff.wait() <= Backoff::FIRST);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(Backoff::new(2).wait(), Backoff::new(99).wait());
    }
}
