//! How one value is judged under a mistake: how likely it is, and what it should have been.
use super::checks::Checks;
use super::likelihood::{Density, MAX_VALUE_RATIO};
use super::mistakes::Form;
use super::moments::same;

/// A value under a hypothesis.
pub(super) struct Judged {
    /// The logarithm of the likelihood ratio, of at most [`MAX_VALUE_RATIO`] either way.
    pub(super) ratio: f64,
    pub(super) fit: f64,
    pub(super) back: bool,
    /// The value as it should have been, NaN if that is unknown.
    pub(super) fixed: f64,
}

impl Form {
    /// Whether a zero stays a zero, so that it says nothing about the mistake.
    pub(super) fn keeps_zero(&self, at: usize) -> bool {
        match self {
            Self::Affine(all) => all[at].1 == 0.0,
            Self::Function(function) => function.apply(0.0).0 == 0.0,
            Self::Code(_) | Self::From(_) => true,
            Self::Raw | Self::Constant(_) | Self::Ids(_) => false,
        }
    }
}

/// Whether a value says something about its scale: not a zero where most are zero.
pub(super) fn informs(checks: &Checks, feature: usize, value: f64) -> bool {
    value != 0.0 || checks.features[feature].zero < 0.5
}

/// What fixed values are compared with.
pub(super) fn target<'a>(checks: &'a Checks, form: &Form, feature: usize) -> Option<&'a Density> {
    let all = if matches!(form, Form::Raw) { &checks.raw_density } else { &checks.density };
    all.get(feature)?.as_ref()
}

/// Where the values of a feature are if the mistake was made, all but 2 %.
pub(super) fn band(checks: &Checks, form: &Form, at: usize, feature: usize) -> Option<(f64, f64)> {
    let quantiles = target(checks, form, feature)?.quantiles();
    let (low, high) = (*quantiles.first()?, *quantiles.last()?);
    let (one, other) = match form {
        Form::Affine(all) => ((low - all[at].1) / all[at].0, (high - all[at].1) / all[at].0),
        Form::Function(function) => (function.invert(low), function.invert(high)),
        Form::Raw => (low, high),
        _ => return None,
    };
    let slack = 0.01 * (other - one).abs();
    let band = (one.min(other) - slack, one.max(other) + slack);
    (band.0.is_finite() && band.1.is_finite()).then_some(band)
}

/// One value under a hypothesis; `None` if it says nothing.
pub(super) fn judge(
    checks: &Checks,
    form: &Form,
    at: usize,
    feature: usize,
    group: &[f64],
) -> Option<Judged> {
    let value = group[feature];
    let density = checks.density[feature].as_ref()?;
    let excluded = checks.excludes(feature, value);
    let (fit, back, fixed) = match form {
        Form::Code(codes) if same(codes[at], value) => (density.certain() + RARE, true, f64::NAN),
        Form::Constant(codes) if same(codes[at], value) => (density.certain(), true, f64::NAN),
        _ if !value.is_finite() && !excluded => return None,
        _ if !value.is_finite() => {
            return Some(Judged { ratio: -MAX_VALUE_RATIO, fit: LEAST, back: false, fixed: f64::NAN });
        }
        // All but the code are as they should be.
        Form::Code(_) => (density.log(value) - 0.1, !excluded, value),
        Form::Constant(_) => (LEAST, false, f64::NAN),
        Form::Ids(most) => {
            let is_id = value >= 0.0 && value.fract() == 0.0 && value <= 4.0 * most;
            (if is_id { -most.max(1.0).ln() } else { LEAST }, is_id, f64::NAN)
        }
        Form::Raw => {
            let raw = checks.raw_density[feature].as_ref()?;
            // The same data has two profiles that differ a little: one that explains it by a
            // function is preferred.
            (raw.log(value) - 0.5, raw.contains(value), value)
        }
        Form::From(from) => {
            let fixed = *group.get(from[at])?;
            fix(checks, density, feature, fixed, 0.0)
        }
        Form::Affine(all) => {
            let (factor, offset) = all[at];
            fix(checks, density, feature, value.mul_add(factor, offset), factor.abs().ln())
        }
        Form::Function(function) => {
            let (fixed, stretch) = function.apply(value);
            fix(checks, density, feature, fixed, stretch)
        }
    };
    let before = if value.is_finite() { density.log(value) } else { LEAST };
    let ratio = (fit - before).clamp(-MAX_VALUE_RATIO, MAX_VALUE_RATIO);
    Some(Judged { ratio, fit, back, fixed })
}

/// A code stands for one value in twenty, as a natural logarithm.
const RARE: f64 = -3.0;
/// The logarithm of the likelihood of a value that cannot be.
const LEAST: f64 = -50.0;

/// The likelihood of a fixed value, whether it is back, and the value.
fn fix(checks: &Checks, density: &Density, feature: usize, fixed: f64, stretch: f64) -> (f64, bool, f64) {
    if !fixed.is_finite() || !stretch.is_finite() {
        return (LEAST, false, f64::NAN);
    }
    let (log, is_atom) = density.log_or_atom(fixed);
    let whole = checks.whole[feature] == 0.0 || (fixed - fixed.round()).abs() <= 1e-6 * (1.0 + fixed.abs());
    (log + if is_atom { 0.0 } else { stretch }, whole && density.contains(fixed), fixed)
}
