//! From measured times to advice: whether batching pays, up to how many rows, and the
//! configuration.
use crate::sorting;
use std::fmt::Write as _;

/// The times of the runs of one size, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    pub rows: u64,
    /// Of the very first run.
    pub first: f64,
    pub median: f64,
    /// The quartiles.
    pub low: f64,
    pub high: f64,
    pub runs: usize,
}

/// Two runs of a size at once, beside one alone: medians in microseconds until both have ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    pub rows: u64,
    pub alone: f64,
    pub both: f64,
}

/// What the measured times say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Advice {
    pub verdict: Verdict,
    /// The most rows of a run that are worth it.
    pub knee: u64,
    /// Rows a second in runs of so many rows, to those in runs of one row, each with as many runs
    /// at once as is best.
    pub gain: f64,
    /// The same with one run at a time.
    pub gain_of_one_run: f64,
    /// The largest measured size is not yet the knee.
    pub rises: bool,
    /// The first run of each size took far longer than the others.
    pub compiled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pays,
    PaysLittle,
    /// Rows cost as much together as apart.
    RowsCostAsMuch,
    /// Single rows that run at the same time are as fast.
    ParallelIsAsFast,
    /// The spread of the times is larger than the difference.
    Unclear,
}

/// Twice the rows must give so many times the rows a second to be worth the longer run.
const WORTH_DOUBLING: f64 = 1.1;
/// Less than this is no gain.
const MIN_GAIN: f64 = 1.1;
/// Less than this is a small gain: batching takes a run's time until the first answer of it.
const LITTLE_GAIN: f64 = 2.5;
/// The time of two runs at once, to that of one, below which they run at the same time.
const PARALLEL: f64 = 1.5;
/// A first run that takes so many times as long as the others, and so many microseconds longer,
/// compiled something.
const COMPILED: (f64, f64) = (10.0, 100_000.0);

impl Times {
    /// `samples` are not empty.
    pub(super) fn of(rows: u64, first: f64, samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorting::by(&mut sorted, f64::total_cmp);
        let at = |share: f64| {
            let position = share * sorted.len().saturating_sub(1) as f64;
            let (left, right) = (sorted[position.trunc() as usize], sorted[position.ceil() as usize]);
            left + (right - left) * position.fract()
        };
        Self { rows, first, median: at(0.5), low: at(0.25), high: at(0.75), runs: sorted.len() }
    }

    /// Rows a second.
    pub(super) fn rate(&self) -> f64 {
        self.rows as f64 * 1e6 / self.median
    }

    /// About two standard errors of the median, to the median.
    fn uncertainty(&self) -> f64 {
        2.0 * (self.high - self.low) / self.median / (self.runs as f64).sqrt()
    }
}

impl Pair {
    /// How many times as long as one run two take.
    pub(super) fn ratio(&self) -> f64 {
        self.both / self.alone
    }

    pub(super) fn is_parallel(&self) -> bool {
        self.ratio() < PARALLEL
    }
}

/// The smallest size beyond which doubling the rows is never worth the longer run.
pub(super) fn knee(curve: &[Times]) -> u64 {
    let worth = |from: &Times, to: &Times| {
        let doublings = (to.rows as f64 / from.rows as f64).log2();
        to.rate() >= from.rate() * WORTH_DOUBLING.powf(doublings)
    };
    let is_knee = |at: usize| curve[at + 1..].iter().all(|larger| !worth(&curve[at], larger));
    let found = (0..curve.len()).find(|at| is_knee(*at));
    found.map_or(1, |at| curve[at].rows)
}

/// `curve` begins with one row. `pairs` are of sizes in it; none if that was not measured.
pub(super) fn advise(curve: &[Times], pairs: &[Pair]) -> Advice {
    let knee = knee(curve);
    let of = |rows: u64| curve.iter().find(|times| times.rows == rows);
    let (Some(one), Some(best)) = (of(1), of(knee)) else {
        let verdict = Verdict::Unclear;
        return Advice { verdict, knee, gain: 1.0, gain_of_one_run: 1.0, rises: false, compiled: false };
    };
    // What a second run at once adds, by the measurement in which both were interleaved.
    let runs = |times: &Times| {
        let pair = pairs.iter().find(|pair| pair.rows == times.rows);
        pair.map_or(1.0, |pair| (2.0 / pair.ratio()).max(1.0))
    };
    let gain_of_one_run = best.rate() / one.rate();
    let gain = gain_of_one_run * runs(best) / runs(one);
    let uncertainty = one.uncertainty().hypot(best.uncertainty());
    let verdict = if is_unclear(gain, uncertainty) {
        Verdict::Unclear
    } else if gain_of_one_run < MIN_GAIN {
        Verdict::RowsCostAsMuch
    } else if gain < MIN_GAIN {
        Verdict::ParallelIsAsFast
    } else if gain < LITTLE_GAIN {
        Verdict::PaysLittle
    } else {
        Verdict::Pays
    };
    let rises = curve.len() > 1 && curve.last().is_some_and(|last| last.rows == knee);
    Advice { verdict, knee, gain, gain_of_one_run, rises, compiled: is_compiled(curve) }
}

/// Whether the true gain may be on either side of the least one.
fn is_unclear(gain: f64, uncertainty: f64) -> bool {
    uncertainty > MIN_GAIN - 1.0
        && gain * (1.0 + uncertainty) >= MIN_GAIN
        && gain / (1.0 + uncertainty) < MIN_GAIN
}

/// The first run of all may have loaded the model, so that of one row does not count.
fn is_compiled(curve: &[Times]) -> bool {
    let (times, more) = COMPILED;
    let slow = |of: &&Times| of.first > of.median * times && of.first > of.median + more;
    let larger = curve.get(1..).unwrap_or_default();
    larger.len() >= 2 && larger.iter().filter(slow).count() * 2 > larger.len()
}

impl Advice {
    pub(super) fn pays(&self) -> bool {
        matches!(self.verdict, Verdict::Pays | Verdict::PaysLittle)
    }

    /// The configuration that switches batching on.
    pub(super) fn configuration(&self, model: &str, signature: &str, sizes: &[u64]) -> String {
        let mut settings = format!("enabled: on, max_rows: {}", self.knee);
        if self.compiled {
            let sizes: Vec<String> =
                sizes.iter().filter(|size| **size <= self.knee).map(ToString::to_string).collect();
            write!(settings, ", allowed_batch_sizes: [{}]", sizes.join(", "))
                .expect("a string takes any text");
        }
        format!(
            "models:\n  {}:\n    signatures:\n      {}:\n        batching: {{{settings}}}\n",
            key(model),
            key(signature)
        )
    }
}

/// A name as a key in YAML, in quotes unless it certainly needs none.
fn key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let word = ["on", "off", "yes", "no", "true", "false", "null", "y", "n"];
    let needs_none = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(plain)
        && !word.contains(&name.to_ascii_lowercase().as_str());
    if needs_none { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

#[cfg(test)]
mod tests;
