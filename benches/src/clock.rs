//! Times a call: the best of many rounds, which has the least interference.
use std::time::{Duration, Instant};

const ROUNDS: u32 = 60;
const ROUND: Duration = Duration::from_millis(4);

/// Seconds of one call.
pub fn seconds(mut call: impl FnMut()) -> f64 {
    let times = times_per_round(&mut call);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round(times, &mut call));
    }
    best
}

/// The time of `call` divided by that of `base`, measured alternately so that conditions are the
/// same.
pub fn ratio(mut call: impl FnMut(), mut base: impl FnMut()) -> f64 {
    let (calls, bases) = (times_per_round(&mut call), times_per_round(&mut base));
    let (mut best, mut best_base) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        best = best.min(round(calls, &mut call));
        best_base = best_base.min(round(bases, &mut base));
    }
    best / best_base
}

fn round(times: u32, call: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| call());
    start.elapsed().as_secs_f64() / f64::from(times)
}

fn times_per_round(call: &mut impl FnMut()) -> u32 {
    call();
    let one = round(1, call).max(1e-9);
    (ROUND.as_secs_f64() / one).clamp(1.0, 1e6) as u32
}
