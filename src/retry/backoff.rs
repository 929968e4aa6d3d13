//! Exponential backoff with a cap, and with jitter so that many sidecars do not retry in step.
use std::time::Duration;

/// An endless iterator of waiting times.
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

    /// Starts again at the shortest wait, after a success.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// xorshift64: good enough to spread waiting times.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// The next wait: a random time from half of the full wait up to all of it.
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
    fn waits_double_up_to_the_cap_and_vary_within_their_upper_half() {
        for seed in 0..100 {
            let mut full = Backoff::FIRST;
            for wait in Backoff::new(seed).take(12) {
                assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
                full = (full * 2).min(Backoff::CAP);
            }
        }
    }

    #[test]
    fn a_reset_starts_again_at_the_shortest_wait() {
        let mut backoff = Backoff::new(7);
        assert!(backoff.by_ref().take(9).last() >= Some(Backoff::CAP / 2));
        backoff.reset();
        assert!(backoff.wait() <= Backoff::FIRST);
    }

    #[test]
    fn different_seeds_give_different_waits() {
        assert_ne!(Backoff::new(2).wait(), Backoff::new(99).wait());
    }
}
