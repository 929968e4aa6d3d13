//! A server under load, as a real one was measured: its threads refuse calls with a probability
//! that rises with the calls in flight, and the calls that run get in each other's way.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::measured::MEASURED;

/// A server with so many threads whose calls take so many times as long as the measured ones.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub threads: usize,
    pub slower: f64,
}

/// What happens to a call.
pub(super) enum Taken {
    Refused,
    /// It runs for so long.
    Runs(Duration),
}

impl Load {
    /// For a call that is one of so many in flight.
    pub(super) fn take(self, inflight: usize, random: &AtomicU64) -> Taken {
        let n = inflight as f64 * 8.0 / self.threads as f64;
        let right = MEASURED.partition_point(|point| point.0 < n).clamp(1, MEASURED.len() - 1);
        let (a, b) = (MEASURED[right - 1], MEASURED[right]);
        let part = ((n - a.0) / (b.0 - a.0)).clamp(0.0, 1.0);
        let (rate, refused) = (a.1 + part * (b.1 - a.1), a.2 + part * (b.2 - a.2));
        if unit(random) < refused {
            return Taken::Refused;
        }
        // So that this many calls in flight, of which some are refused at once, give that rate.
        Taken::Runs(Duration::from_secs_f64(self.slower * n / rate * (0.9 + 0.2 * unit(random))))
    }
}

/// Between 0 and 1: a step of SplitMix64.
fn unit(random: &AtomicU64) -> f64 {
    let mut z = random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
