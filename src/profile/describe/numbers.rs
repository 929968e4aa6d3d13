//! Statistics of the numbers of one feature.
use tdigest::TDigest;

use crate::profile::{FeatureProfile, MAX_VALUES, QUANTILES};

/// Centroids of the digest. Between its tails, the share of values below an estimated quantile
/// differs from the wanted one by less than 1 / 100, in practice by a tenth of that.
const CENTROIDS: usize = 100;
/// Values that the digest buffers before it sorts them in: `BUFFER_FACTOR` of the crate.
const BUFFERED: usize = 5 * CENTROIDS;

/// Statistics of numbers, in about 6 KB.
#[derive(Debug, Clone)]
pub struct Numbers {
    count: u64,
    missing: u64,
    infinite: u64,
    integral: u64,
    zero: u64,
    min: f64,
    max: f64,
    /// Mean and sum of squared deviations from it, by Welford's method: no large sums are
    /// subtracted.
    mean: f64,
    squares: f64,
    /// The quantiles of numbers that are not few distinct ones.
    digest: TDigest,
    /// Distinct values with their counts, ascending, while all are whole and they are few.
    values: Option<Vec<(f64, u64)>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            count: 0,
            missing: 0,
            infinite: 0,
            integral: 0,
            zero: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            squares: 0.0,
            digest: TDigest::new_with_size(CENTROIDS),
            values: Some(Vec::new()),
        }
    }
}

impl Numbers {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if !value.is_finite() {
            if value.is_nan() {
                self.missing += 1;
            } else {
                self.infinite += 1;
            }
            return;
        }
        // -0.0 is the same value.
        let value = value + 0.0;
        self.zero += u64::from(value == 0.0);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let before = value - self.mean;
        self.mean += before / self.finite() as f64;
        self.squares += before * (value - self.mean);
        let whole = value.fract() == 0.0;
        self.integral += u64::from(whole);
        self.digest.push(value);
        if whole {
            self.count_value(value, 1);
        } else {
            self.values = None;
        }
    }

    /// Values that are numbers.
    fn finite(&self) -> u64 {
        self.count - self.missing - self.infinite
    }

    fn count_value(&mut self, value: f64, times: u64) {
        let Some(values) = &mut self.values else { return };
        match values.binary_search_by(|(known, _)| known.total_cmp(&value)) {
            Ok(at) => {
                if let Some((_, count)) = values.get_mut(at) {
                    *count += times;
                }
            }
            Err(at) if values.len() < MAX_VALUES => values.insert(at, (value, times)),
            Err(_) => self.values = None,
        }
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: &mut Self) {
        let (own, of) = (self.finite() as f64, other.finite() as f64);
        if of > 0.0 {
            // Chan's formula for the deviations of two samples together.
            let apart = other.mean - self.mean;
            let share = of / (own + of);
            self.mean += apart * share;
            self.squares += other.squares + apart * apart * own * share;
        }
        self.count += other.count;
        self.missing += other.missing;
        self.infinite += other.infinite;
        self.integral += other.integral;
        self.zero += other.zero;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        match &other.values {
            None => self.values = None,
            Some(values) => values.iter().for_each(|(value, times)| self.count_value(*value, *times)),
        }
        self.digest.flush();
        other.digest.flush();
        let own = std::mem::replace(&mut self.digest, TDigest::new_with_size(CENTROIDS));
        self.digest = TDigest::merge_digests(vec![own, other.digest.clone()]);
    }

    /// The statistics so far.
    pub fn profile(&mut self) -> FeatureProfile {
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { rounded(part as f64 / of as f64, 9) };
        let finite = self.finite();
        let mut profile = FeatureProfile {
            count: self.count,
            missing: share(self.missing, self.count),
            non_finite: share(self.infinite, self.count),
            integral: share(self.integral, finite),
            zero: share(self.zero, finite),
            ..FeatureProfile::empty()
        };
        if finite == 0 {
            return profile;
        }
        let (min, max) = (self.min, self.max);
        // Where sums of huge numbers overflow, what is known is the range.
        let within =
            |value: f64| if value.is_nan() { f64::midpoint(min, max) } else { value.clamp(min, max) };
        let widest = max / 2.0 - min / 2.0;
        let std = (self.squares / finite as f64).max(0.0).sqrt();
        profile.min = min;
        profile.max = max;
        profile.mean = within(rounded(self.mean, 12));
        profile.std = if std <= widest { rounded(std, 9).min(widest) } else { widest };
        profile.quantiles = match &self.values {
            Some(values) => exact(values, finite),
            None => {
                self.digest.flush();
                let mut at = self.digest.quantiles(&QUANTILES).into_iter();
                let estimates = QUANTILES.map(|_| within(at.next().flatten().unwrap_or(f64::NAN)));
                let gaps = estimates.iter().zip(estimates.iter().skip(1)).map(|(low, high)| high - low);
                let gap = gaps.filter(|gap| *gap > 0.0).fold(f64::INFINITY, f64::min);
                let mut last = min;
                estimates.map(|estimate| {
                    last = within(rounded_to(estimate, gap)).max(last);
                    last
                })
            }
        };
        let values = self.values.as_deref().unwrap_or_default();
        profile.values = values.iter().map(|(value, count)| (*value, share(*count, finite))).collect();
        profile
    }

    pub fn bytes(&self) -> usize {
        let values = self.values.as_ref().map_or(0, |values| values.capacity() * size_of::<(f64, u64)>());
        size_of::<Self>() + size_of_val(self.digest.centroids()) + BUFFERED * size_of::<f64>() + values
    }
}

/// The quantiles of distinct values with counts: the smallest value that enough values are not
/// above.
fn exact(values: &[(f64, u64)], count: u64) -> [f64; 7] {
    QUANTILES.map(|quantile| {
        let wanted = (quantile * count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = values.iter().find(|(_, times)| {
            below += times;
            below >= wanted
        });
        found.or(values.last()).map_or(f64::NAN, |(value, _)| *value)
    })
}

/// With so many significant digits.
fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

/// To a thousandth of the gap between two quantiles: further digits would only make the file
/// longer.
fn rounded_to(value: f64, gap: f64) -> f64 {
    let step = 10_f64.powf((gap.log10() - 3.0).div_euclid(1.0));
    // The multiple of a power of ten may have the digits `30000000000000004` again.
    let rounded = rounded((value / step).round() * step, 15);
    if rounded.is_finite() { rounded } else { value }
}
