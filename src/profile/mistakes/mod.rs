//! The known mistakes: each proposes how the values that were seen came about, and how to undo it.
mod coded;
mod log;
mod order;
mod range;
mod scaling;
mod unit;
mod vocabulary;

use super::checks::Checks;
use super::finding::{Detail, Mistake};
use super::moments::Moments;

/// Features that a trial looks at; of more, some at equal distances.
pub(super) const MAX_TRIED: usize = 64;

/// What is known when a trial begins.
pub(super) struct Suspects<'a> {
    pub(super) checks: &'a Checks,
    pub(super) moments: &'a Moments,
    /// Features most of whose values the training data excludes.
    pub(super) outside: Vec<usize>,
    /// Features with another mean or spread, whether or not they are in `outside`.
    pub(super) moved: Vec<usize>,
    /// Features whose excluded values are nearly all the same one, with it and their share.
    pub(super) coded: Vec<(usize, f64, f64)>,
}

/// How the values came about.
#[derive(Debug, Clone)]
pub(super) struct Hypothesis {
    pub(super) mistake: Mistake,
    pub(super) detail: Detail,
    /// Features that are tried.
    pub(super) features: Vec<usize>,
    pub(super) form: Form,
}

/// How to undo it. Lists have one element for each of the features that are tried.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// Multiply, then add.
    Affine(Vec<(f64, f64)>),
    Function(Function),
    /// Take the value at this position of the group.
    From(Vec<usize>),
    /// Nothing: the values are those of the raw profile.
    Raw,
    /// This value stands for a missing one.
    Code(Vec<f64>),
    /// The value is always this one.
    Constant(Vec<f64>),
    /// The values are ids up to about this one.
    Ids(f64),
}

/// A function that undoes its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Ln,
    Ln1p,
    Exp,
    ExpM1,
}

impl Function {
    /// The value and the logarithm of the derivative. NaN where there is none.
    pub(super) fn apply(self, x: f64) -> (f64, f64) {
        match self {
            Self::Ln => (x.ln(), -x.ln()),
            Self::Ln1p => (x.ln_1p(), -x.ln_1p()),
            Self::Exp => (x.exp(), x),
            Self::ExpM1 => (x.exp_m1(), x),
        }
    }

    /// The value that it makes `y` of.
    pub(super) fn invert(self, y: f64) -> f64 {
        match self {
            Self::Ln => y.exp(),
            Self::Ln1p => y.exp_m1(),
            Self::Exp => y.ln(),
            Self::ExpM1 => y.ln_1p(),
        }
    }
}

/// At most this many hypotheses are tried at once; the false-alarm bound is divided by it.
pub(super) const MAX_HYPOTHESES: usize = 32;

/// All hypotheses worth a trial. Work is linear in the features, but for a sort.
pub(super) fn propose(suspects: &Suspects<'_>) -> Vec<Hypothesis> {
    let mut all = Vec::new();
    // If values are excluded, those features must be explained, else those that moved.
    let affected = if suspects.outside.is_empty() { &suspects.moved } else { &suspects.outside };
    let features = spread(affected);
    if !features.is_empty() {
        scaling::propose(suspects, &features, &mut all);
        range::propose(suspects, &features, &mut all);
        log::propose(suspects, &features, &mut all);
        unit::propose(suspects, &features, &mut all);
        order::propose(suspects, &features, &mut all);
        vocabulary::propose(suspects, &features, &mut all);
    }
    coded::propose(suspects, &mut all);
    all.truncate(MAX_HYPOTHESES);
    all
}

/// At most [`MAX_TRIED`] of the features, at equal distances.
pub(super) fn spread(features: &[usize]) -> Vec<usize> {
    let take = features.len().min(MAX_TRIED);
    (0..take).map(|at| features[at * features.len() / take]).collect()
}
