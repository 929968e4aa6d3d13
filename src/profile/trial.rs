//! Tries the known mistakes on rows that came after they were proposed.
use super::checks::Checks;
use super::evidence::Evidence;
use super::finding::{CallerFinding, Detail, Mistake};
use super::judge::{band, informs, judge, target};
use super::likelihood::DECISIVE;
use super::mistakes::{Form, Hypothesis, MAX_HYPOTHESES, Suspects, propose, spread};
use super::moments::same;

/// After how many informative rows the trial may decide; after the last it ends.
const DECISIONS: [u32; 6] = [40, 60, 80, 120, 160, 240];
/// Rows after which it ends although few of them said anything.
const MOST_ROWS: u32 = 1000;
/// Trials of one window.
pub(super) const MAX_TRIALS: u32 = 16;
/// Values of a row that are tried.
const MAX_VALUES: usize = 256;
/// Groups of a row (pixels, time steps) from which it is an observation of its own kind.
pub(super) const MANY_GROUPS: usize = 64;
/// The share of values that must be back within the training data.
const BACK: f64 = 0.9;
/// The share of a row's values that must be where the mistake puts them.
const IN_BAND: f64 = 0.8;
/// The false-alarm rate of a window, divided among all that is tried, as a natural logarithm.
fn threshold() -> f64 {
    (1e6 * MAX_HYPOTHESES as f64 * f64::from(MAX_TRIALS)).ln()
}

/// A trial in progress.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    tried: Vec<Tried>,
    /// Features whose values the training data excludes; empty if they only moved.
    outside: Vec<usize>,
    affected: usize,
    /// Against "at most a quarter of the rows are excluded".
    excluded: Evidence,
    /// The share of a row's values that makes it excluded.
    share: f64,
    many_groups: bool,
    informative: u32,
    rows: u32,
    decision: usize,
}

/// What the trial does after a row.
#[derive(Debug)]
pub(super) enum Outcome {
    Continue,
    Found(Box<CallerFinding>),
    Nothing,
}

#[derive(Debug, Clone)]
struct Tried {
    hypothesis: Hypothesis,
    /// Against "the values come from the training data", where none of them is excluded.
    evidence: Option<Evidence>,
    /// Where the mistake puts nearly all values of each feature.
    bands: Vec<(f64, f64)>,
    scores: Vec<Score>,
    /// Sum over the rows of the mean ratio of their values, in favour of the mistake.
    ratio: f64,
    /// The same of the likelihood under the mistake, without a bound.
    fit: f64,
}

/// One feature under one hypothesis.
#[derive(Debug, Clone, Default)]
struct Score {
    rows: u32,
    values: u32,
    back: u32,
    ratio: f64,
    fitted: u32,
    below: [u32; 7],
    upto: [u32; 7],
    row: (f64, f64, u32),
}

impl Trial {
    /// `None` if there is nothing to try. `groups` is the number of groups of a row.
    pub(super) fn new(suspects: &Suspects<'_>, groups: usize) -> Option<Self> {
        let checks = suspects.checks;
        let many_groups = groups >= MANY_GROUPS;
        let only_moved = suspects.outside.is_empty();
        let tried: Vec<Tried> = propose(suspects)
            .into_iter()
            .filter_map(|hypothesis| Tried::new(checks, hypothesis, only_moved, many_groups))
            .collect();
        let affected = if only_moved { suspects.moved.len() } else { suspects.outside.len() };
        let (outside, excluded) = (spread(&suspects.outside), Evidence::new(0.25));
        let share = if many_groups { 0.02 } else { 0.5 };
        let counts = (0, 0, 0);
        (!tried.is_empty()).then_some(Self {
            tried,
            outside,
            affected,
            excluded,
            share,
            many_groups,
            informative: counts.0,
            rows: counts.1,
            decision: counts.2,
        })
    }

    /// Adds a row that was not seen before.
    pub(super) fn add(&mut self, checks: &Checks, row: &[f64]) -> Outcome {
        let width = checks.width();
        self.rows += 1;
        if self.rows >= MOST_ROWS {
            return Outcome::Nothing;
        }
        let groups = row.len() / width;
        let mut says_something = true;
        if !self.outside.is_empty() {
            let (mut excluded, mut all) = (0_u32, 0_u32);
            for group in row.chunks_exact(width) {
                for at in &self.outside {
                    excluded += u32::from(checks.excludes(*at, group[*at]));
                    all += u32::from(informs(checks, *at, group[*at]));
                }
            }
            if all > 0 {
                self.excluded.add(f64::from(excluded) >= self.share * f64::from(all));
            }
            says_something = all > 0;
        }
        self.informative += u32::from(says_something);
        for tried in &mut self.tried {
            let most = (MAX_VALUES / tried.hypothesis.features.len().max(1)).max(1);
            let step = groups.div_ceil(most).max(1);
            tried.add(checks, row.chunks_exact(width).step_by(step));
        }
        if !says_something {
            return Outcome::Continue;
        }
        if self.informative.is_multiple_of(8) {
            let shared = self.excluded.log();
            self.tried.retain(|tried| tried.is_open(shared));
            if self.tried.is_empty() {
                return Outcome::Nothing;
            }
        }
        match DECISIONS.get(self.decision) {
            Some(rows) if self.informative >= *rows => {
                self.decision += 1;
                if let Some(found) = self.decide(checks) {
                    return Outcome::Found(found.into());
                }
                if self.decision == DECISIONS.len() { Outcome::Nothing } else { Outcome::Continue }
            }
            _ => Outcome::Continue,
        }
    }

    fn decide(&self, checks: &Checks) -> Option<CallerFinding> {
        let passing: Vec<&Tried> = self.tried.iter().filter(|tried| self.holds(checks, tried)).collect();
        let best = passing.iter().map(|tried| tried.fit).fold(f64::NEG_INFINITY, f64::max);
        // Where two mistakes come to the same, the usual one is named.
        let margin = 0.02 * f64::from(self.informative);
        let order =
            |tried: &&&Tried| Mistake::ALL.iter().position(|known| *known == tried.hypothesis.mistake);
        let close = passing.iter().filter(|tried| tried.fit >= best - margin);
        let first = close.clone().filter_map(|tried| order(&tried)).min()?;
        let same = close.filter(|tried| order(tried) == Some(first));
        let chosen = same.max_by(|one, other| one.fit.total_cmp(&other.fit))?;
        let Hypothesis { mistake, detail, features, .. } = &chosen.hypothesis;
        let named: Vec<usize> = features.iter().take(16).copied().collect();
        Some(CallerFinding {
            mistake: *mistake,
            names: named.iter().map(|at| checks.name(*at)).collect(),
            affected: match mistake {
                Mistake::Permuted | Mistake::MissingCoded | Mistake::Constant => features.len(),
                _ => self.affected.max(features.len()),
            },
            features: named,
            total: checks.width(),
            rows: self.informative,
            log10_ratio: chosen.ratio / std::f64::consts::LN_10,
            detail: match detail {
                Detail::Order(order) => Detail::Order(order.iter().take(16).copied().collect()),
                detail => detail.clone(),
            },
        })
    }

    /// Whether the evidence is enough for one mistake.
    fn holds(&self, checks: &Checks, tried: &Tried) -> bool {
        let evidence = tried.evidence.as_ref().unwrap_or(&self.excluded);
        if evidence.log() < threshold() || tried.ratio < DECISIVE {
            return false;
        }
        if !tried.scores.iter().all(Score::holds) {
            return false;
        }
        let Hypothesis { mistake, features, form, .. } = &tried.hypothesis;
        let distances: Vec<f64> = tried.scores.iter().filter_map(Score::distance).collect();
        let mean = distances.iter().sum::<f64>() / distances.len().max(1) as f64;
        // How far the fixed values may be from those of the training data. A slice of them is far:
        // it is only told from drift where several features are many ranges away.
        let limit = match form {
            Form::Constant(_) | Form::Ids(_) => return true,
            Form::Code(_) => 0.5,
            Form::From(_) if self.many_groups => 0.3,
            Form::From(_) => 0.35,
            _ if self.outside.is_empty() => 0.25,
            Form::Affine(_) | Form::Raw
                if features.len() >= 3
                    && *mistake != Mistake::Unit
                    && features.iter().all(|at| tried.is_far(checks, *at)) =>
            {
                return true;
            }
            _ if features.len() >= 3 => 0.4,
            _ => 0.35,
        };
        mean <= limit
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |tried: &Tried| tried.scores.len() * (size_of::<Score>() + 32) + size_of::<Tried>();
        size_of::<Self>() + self.tried.iter().map(of).sum::<usize>()
    }
}

impl Tried {
    /// `None` if the mistake cannot be told from the training data.
    fn new(checks: &Checks, mut hypothesis: Hypothesis, only_moved: bool, many_groups: bool) -> Option<Self> {
        let mut bands = Vec::new();
        let evidence = match (&hypothesis.form, only_moved) {
            // A code must be one that training never had; a slice of it has it rarely at most.
            (Form::Code(_) | Form::Constant(_), _) => Some(Evidence::new(0.02)),
            (Form::From(_) | Form::Ids(_), true) => return None,
            (_, false) => None,
            (_, true) => {
                let mut mass = 0.0;
                let mut kept = Vec::new();
                for (at, feature) in hypothesis.features.iter().enumerate() {
                    let Some((low, high)) = band(checks, &hypothesis.form, at, *feature) else { continue };
                    let share =
                        checks.density[*feature].as_ref().map_or(1.0, |density| density.mass(low, high));
                    if share <= 0.6 {
                        mass += share;
                        bands.push((low, high));
                        kept.push(at);
                    }
                }
                if kept.is_empty() || (kept.len() < 3 && !many_groups) {
                    return None;
                }
                mass /= kept.len() as f64;
                hypothesis.keep(&kept);
                // By Markov's inequality at most this share of the rows of the training data has
                // eight in ten values there.
                Some(Evidence::new((mass / IN_BAND * 1.1 + 0.02).clamp(0.25, 0.9)))
            }
        };
        let scores = vec![Score::default(); hypothesis.features.len()];
        Some(Self { hypothesis, evidence, bands, scores, ratio: 0.0, fit: 0.0 })
    }

    fn add<'a>(&mut self, checks: &Checks, groups: impl Iterator<Item = &'a [f64]>) {
        let (mut ratio, mut fit, mut count) = (0.0, 0.0, 0_u32);
        let (mut events, mut values) = (0_u32, 0_u32);
        for group in groups {
            for (at, score) in self.scores.iter_mut().enumerate() {
                let feature = self.hypothesis.features[at];
                let value = group[feature];
                let Some(judged) = judge(checks, &self.hypothesis.form, at, feature, group) else { continue };
                score.fits(checks, &self.hypothesis.form, feature, judged.fixed);
                if !informs(checks, feature, value) && self.hypothesis.form.keeps_zero(at) {
                    continue;
                }
                values += 1;
                events += u32::from(match &self.hypothesis.form {
                    Form::Code(codes) | Form::Constant(codes) => {
                        same(codes[at], value) && checks.excludes(feature, value)
                    }
                    _ => self.bands.get(at).is_some_and(|(low, high)| (*low..=*high).contains(&value)),
                });
                score.values += 1;
                score.back += u32::from(judged.back);
                score.row.0 += judged.ratio;
                score.row.2 += 1;
                ratio += judged.ratio;
                fit += judged.fit;
                count += 1;
            }
        }
        for score in &mut self.scores {
            let (sum, _, values) = std::mem::take(&mut score.row);
            if values > 0 {
                score.ratio += sum / f64::from(values);
                score.rows += 1;
            }
        }
        if let Some(evidence) = &mut self.evidence {
            match &self.hypothesis.form {
                Form::Code(_) => evidence.add(events > 0),
                _ if values > 0 => evidence.add(f64::from(events) >= IN_BAND * f64::from(values)),
                _ => {}
            }
        }
        if count == 0 {
            return;
        }
        // The values of a row count as one, however many they are: they may all depend on each
        // other.
        self.ratio += ratio / f64::from(count);
        self.fit += fit / f64::from(count);
    }

    /// Whether more rows may still decide for the mistake.
    fn is_open(&self, shared: f64) -> bool {
        let evidence = self.evidence.as_ref().map_or(shared, Evidence::log);
        let is_back = |score: &Score| f64::from(score.back) >= 0.8 * f64::from(score.values);
        evidence > -8.0 && self.ratio > -20.0 && self.scores.iter().all(is_back)
    }

    /// Whether nearly all values, as they came, are ten ranges outside of the training data.
    fn is_far(&self, checks: &Checks, feature: usize) -> bool {
        let Some(at) = self.hypothesis.features.iter().position(|known| *known == feature) else {
            return false;
        };
        let (Some(density), Some((low, high))) =
            (&checks.density[feature], band(checks, &self.hypothesis.form, at, feature))
        else {
            return false;
        };
        let profile = &checks.features[feature];
        let away = 10.0 * density.range();
        low > profile.max + away || high < profile.min - away
    }
}

impl Score {
    /// Whether the feature is back, as far as its values say something.
    fn holds(&self) -> bool {
        let enough = if self.rows >= 8 { DECISIVE } else { 0.0 };
        self.values == 0 || (f64::from(self.back) >= BACK * f64::from(self.values) && self.ratio >= enough)
    }

    fn fits(&mut self, checks: &Checks, form: &Form, feature: usize, fixed: f64) {
        let Some(density) = target(checks, form, feature) else { return };
        if fixed.is_nan() {
            return;
        }
        self.fitted += 1;
        let rounding = 1e-6 * density.range();
        for (at, quantile) in density.quantiles().iter().enumerate() {
            self.below[at] += u32::from(fixed < quantile - rounding);
            self.upto[at] += u32::from(fixed <= quantile + rounding);
        }
    }

    /// The largest difference of the shares below the quantiles from those of the training data, as
    /// in the test of Kolmogorov and Smirnov; `None` with few values.
    fn distance(&self) -> Option<f64> {
        if self.fitted < 8 {
            return None;
        }
        let count = f64::from(self.fitted);
        let mut most = 0.0_f64;
        for (at, level) in super::QUANTILES.iter().enumerate() {
            most = most.max(f64::from(self.below[at]) / count - level);
            most = most.max(level - f64::from(self.upto[at]) / count);
        }
        Some(most)
    }
}

impl Hypothesis {
    /// Keeps the features at these places.
    fn keep(&mut self, kept: &[usize]) {
        self.features = kept.iter().map(|at| self.features[*at]).collect();
        match &mut self.form {
            Form::Affine(all) => *all = kept.iter().map(|at| all[*at]).collect(),
            Form::From(all) => *all = kept.iter().map(|at| all[*at]).collect(),
            Form::Code(all) | Form::Constant(all) => *all = kept.iter().map(|at| all[*at]).collect(),
            Form::Function(_) | Form::Raw | Form::Ids(_) => {}
        }
    }
}
