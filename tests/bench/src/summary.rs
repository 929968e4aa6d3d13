//! Latencies as percentiles, from every sample.
use serde_json::{Value, json};

/// From nanoseconds to microseconds; null if there are no samples.
pub fn micros(samples: &mut [u64]) -> Value {
    samples.sort_unstable();
    let Some(max) = samples.last() else {
        return Value::Null;
    };
    let at = |share| quantile(samples, share) as f64 / 1000.0;
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": *max as f64 / 1000.0})
}

/// The smallest sample that at least a `share` of all samples do not exceed. `sorted` must not be
/// empty.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let samples: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&samples, 0.5), 50);
        assert_eq!(quantile(&samples, 0.99), 99);
        assert_eq!(quantile(&samples, 0.999), 100);
        assert_eq!(quantile(&[7], 0.5), 7);
    }

    #[test]
    fn of_nothing_is_null() {
        assert_eq!(micros(&mut []), Value::Null);
        assert_eq!(micros(&mut [3000, 1000])["max"], 3.0);
    }
}
