//! How long to wait before the next attempt: doubling up to a maximum, with jitter so that many
//! sidecars do not reconnect in step.
use std::time::Duration;

/// The pauses between attempts. Pure: the seed is passed in.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    state: u64,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(1);

    pub(crate) fn new(seed: u64) -> Self {
        Self { next: Self::FIRST, state: seed | 1 }
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// xorshift64, which is good enough for jitter.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// The next pause: between half of the full pause and the full pause.
    pub(crate) fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(Self::MAX);
        let half = full / 2;
        half + Duration::from_micros(self.random() % (half.as_micros() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum() {
        for seed in 0..100 {
            let mut full = Backoff::FIRST;
            let mut backoff = Backoff::new(seed);
            for wait in std::iter::repeat_with(|| backoff.wait()).take(12) {
                assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
                full = (full * 2).min(Backoff::MAX);
            }
        }
    }

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::new(7);
        for _ in 0..8 {
            backoff.wait();
        }
        assert!(backoff.wait() >= Backoff::MAX / 2);
        backoff.reset();
        assert!(backoff.wait() <= Backoff::FIRST);
    }

    #[test]
    fn seeds_give_different_pauses() {
        assert_ne!(Backoff::new(2).wait(), Backoff::new(99).wait());
    }
}
