//! Findings about single values of a request.
use super::checks::Checks;
use super::finding::{Finding, Kind, MAX_SHOWN_BYTES, Value};
use super::{Sample, TextProfile};

/// Findings of one tensor that are kept; more are not reported.
pub const MAX_FINDINGS: usize = 8;

impl Checks {
    /// Appends the findings about the values of one request, at most [`MAX_FINDINGS`]. A sample of
    /// another number of features has none.
    pub fn rows(&self, sample: &Sample, out: &mut Vec<Finding>) {
        let width = self.width();
        if sample.features != width {
            return;
        }
        let limit = out.len() + MAX_FINDINGS;
        for block in sample.values.chunks(self.tile) {
            // Without a branch for each value, so that several are compared at once.
            let mut inside = true;
            for ((value, low), high) in block.iter().zip(&self.far_low).zip(&self.far_high) {
                inside &= value >= low;
                inside &= value <= high;
            }
            if !inside {
                for (at, value) in block.iter().enumerate() {
                    if let Some(kind) = self.kind(at % width, *value) {
                        self.report(kind, at % width, *value, out, limit);
                    }
                }
            }
        }
        if self.categories.is_empty() {
            return;
        }
        for group in sample.values.chunks_exact(width) {
            for &at in &self.categories {
                let value = group[at];
                let known = |(known, _): &(f64, f64)| known.total_cmp(&value);
                let (low, high) = (self.far_low[at], self.far_high[at]);
                if value >= low && value <= high && self.features[at].values.binary_search_by(known).is_err()
                {
                    // -0.0 is 0.0 for TensorFlow, but not for the order.
                    if value == 0.0 && self.features[at].values.iter().any(|(known, _)| *known == 0.0) {
                        continue;
                    }
                    self.report(Kind::UnknownCategory, at, value, out, limit);
                }
            }
        }
    }

    fn kind(&self, at: usize, value: f64) -> Option<Kind> {
        let profile = &self.features[at];
        if value.is_nan() {
            return (profile.missing == 0.0).then_some(Kind::NotFinite);
        }
        if value.is_infinite() {
            return (profile.non_finite == 0.0).then_some(Kind::NotFinite);
        }
        (value < self.far_low[at] || value > self.far_high[at]).then_some(Kind::OutOfRange)
    }

    fn report(&self, kind: Kind, at: usize, value: f64, out: &mut Vec<Finding>, limit: usize) {
        if let Some(known) = out.iter_mut().find(|known| known.kind == kind && known.feature == Some(at)) {
            known.count = known.count.saturating_add(1);
            return;
        }
        if out.len() >= limit {
            return;
        }
        let profile = &self.features[at];
        let range = (kind == Kind::OutOfRange).then_some((profile.min, profile.max));
        let (value, name) = (Value::Number(value), self.name(at));
        out.push(Finding { kind, feature: Some(at), name, count: 1, value, range });
    }
}

/// Appends the findings about the strings of one request.
pub fn texts<'a>(profile: &TextProfile, strings: impl Iterator<Item = &'a [u8]>, out: &mut Vec<Finding>) {
    // Good and Turing, as for numbers: a set in which many strings occurred once is not complete.
    // Those that a schema allows and the data does not have, of share 0, did not occur at all.
    let once = 1.5 / profile.count.max(1) as f64;
    let singles = profile.values.iter().filter(|(_, share)| *share > 0.0 && *share <= once).count();
    let closed = profile.complete && profile.count >= 100 && singles as f64 <= 1e-4 * profile.count as f64;
    let mut report = |kind, text: &[u8]| match out
        .iter_mut()
        .find(|known| known.kind == kind && known.feature.is_none())
    {
        Some(known) => known.count = known.count.saturating_add(1),
        None => out.push(Finding {
            kind,
            feature: None,
            name: String::new(),
            count: 1,
            value: Value::Text(text.get(..MAX_SHOWN_BYTES).unwrap_or(text).to_vec()),
            range: None,
        }),
    };
    for text in strings {
        if text.is_empty() {
            if profile.empty == 0.0 {
                report(Kind::EmptyText, text);
            }
        } else if closed && !profile.values.iter().any(|(known, _)| known.as_bytes() == text) {
            report(Kind::UnknownCategory, text);
        }
    }
}
