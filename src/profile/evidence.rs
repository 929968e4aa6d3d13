//! A sequential test whose false alarms are bounded however often it is looked at, and the set that
//! counts equal rows once.

/// Evidence against "an event has at most probability `p0`, whatever happened before".
///
/// For each event the wealth is multiplied by `q / p0`, otherwise by `(1 - q) / (1 - p0)`. Under
/// the null hypothesis its expectation never grows, so it is a non-negative supermartingale, and it
/// ever reaches `k` with probability at most `1 / k` (Ville 1939). The mean of several such
/// processes is one as well, so `q` need not be known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    p0: f64,
    wealth: [f64; 3],
}

/// How far each `q` is on the way from `p0` to 1.
const ALTERNATIVES: [f64; 3] = [0.15, 0.6, 0.97];

impl Evidence {
    /// `p0` is between 0 and 1, both excluded.
    pub(super) fn new(p0: f64) -> Self {
        Self { p0, wealth: [0.0; 3] }
    }

    pub(super) fn add(&mut self, event: bool) {
        for (wealth, way) in self.wealth.iter_mut().zip(ALTERNATIVES) {
            let q = self.p0 + (1.0 - self.p0) * way;
            *wealth += if event { (q / self.p0).ln() } else { ((1.0 - q) / (1.0 - self.p0)).ln() };
        }
    }

    /// The natural logarithm of the mean wealth.
    pub(super) fn log(&self) -> f64 {
        let most = self.wealth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.wealth.iter().map(|wealth| (wealth - most).exp()).sum();
        most + (sum / self.wealth.len() as f64).ln()
    }
}

const BITS: usize = 16_384;

/// Which rows were seen. It never takes an equal row for a new one; a new one is taken for a known
/// one if their hashes fall on the same bit, which only loses evidence.
#[derive(Debug, Clone)]
pub(super) struct Distinct {
    bits: Box<[u64]>,
}

impl Distinct {
    pub(super) fn new() -> Self {
        Self { bits: vec![0; BITS / 64].into() }
    }

    /// Whether no row of this hash was seen before.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        let at = (hash >> 32) as usize % BITS;
        let (word, bit) = (&mut self.bits[at / 64], 1 << (at % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(super) fn bytes(&self) -> usize {
        self.bits.len() * 8
    }
}

/// A hash of numbers by their bits.
pub(super) fn hash(row: &[f64]) -> u64 {
    // Four lanes, so that a multiplication does not wait for the one before.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes =
        [0x243f_6a88_85a3_08d3_u64, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];
    let (blocks, rest) = row.as_chunks::<4>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = (lane.rotate_left(29) ^ value.to_bits()).wrapping_mul(FACTOR);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = (lane.rotate_left(29) ^ value.to_bits()).wrapping_mul(FACTOR);
    }
    lanes.iter().fold(row.len() as u64, |all, lane| {
        let mixed = (all.rotate_left(23) ^ lane).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wealth_multiplies_to_one_under_the_null() {
        // The expectation of one step, exactly: p0 * q/p0 + (1 - p0) * (1 - q)/(1 - p0) = 1.
        for p0 in [0.05, 0.25, 0.6] {
            let step = |event| {
                let mut evidence = Evidence::new(p0);
                evidence.add(event);
                evidence.log().exp()
            };
            let mean = p0 * step(true) + (1.0 - p0) * step(false);
            assert!((mean - 1.0).abs() < 1e-12, "{p0}: {mean}");
        }
    }

    #[test]
    fn equal_rows_count_once_and_different_ones_nearly_always() {
        let mut seen = Distinct::new();
        let new = (0..1000).filter(|at| seen.insert(hash(&[f64::from(*at), 1.0, 2.5]))).count();
        assert!((940..=1000).contains(&new), "{new}");
        assert_eq!((0..1000).filter(|at| seen.insert(hash(&[f64::from(*at), 1.0, 2.5]))).count(), 0);
    }
}
