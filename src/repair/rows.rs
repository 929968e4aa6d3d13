//! The rows of a request: whether there are any, and whether its inputs have the same number.
//!
//! Only inputs whose declared dim 0 is -1 are compared. That they are the same rows is likely, not
//! certain: ragged tensors, graphs, and one user beside many items have such inputs too, and
//! TensorFlow answers them.
use std::collections::BTreeMap;

use super::policy::{Limits, Policy, RowAgreement};
use super::problem::{Problem, Weight};
use super::reason::Reason;
use super::report::ascii;
use super::warning::Warning;
use super::{Change, Step, Tier, ValueChange};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::Shape;

/// How many rows a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// No input has rows.
    None,
    /// All inputs with rows have this many.
    Same(i64),
    Differ,
}

/// Maximum number of inputs in a text.
const MAX_LISTED: usize = 8;

impl Rows {
    /// Compares the inputs whose shapes conform.
    pub(super) fn of(shapes: &[(&TensorInfo, Shape)]) -> Self {
        let mut found = Self::None;
        for (_, rows) in row_counts(shapes) {
            match found {
                Self::None => found = Self::Same(rows),
                Self::Same(first) if first == rows => {}
                Self::Same(_) | Self::Differ => return Self::Differ,
            }
        }
        found
    }

    /// The number of rows, if there is one.
    pub(super) fn common(self) -> Option<i64> {
        match self {
            Self::Same(rows) => Some(rows),
            Self::None | Self::Differ => None,
        }
    }
}

/// Refuses inputs without rows, the added ones included, where the server batches.
pub(super) fn check_not_empty(limits: Limits, shapes: &[(&TensorInfo, &Shape)], problems: &mut Vec<Problem>) {
    for (info, shape) in shapes {
        if limits.refuse_zero_rows && info.has_rows() && shape.first() == Some(&0) {
            let what = format!("no rows in {shape}, expected at least 1");
            let problem = Problem::new(Reason::DimMismatch, &info.alias, what).weight(Weight::Shield);
            problems.push(problem.hint("a server that batches never answers an empty request"));
        }
    }
}

/// What follows if the inputs differ in their number of rows. A request that was sent so is
/// forwarded with a warning, or refused, as the policy says. If only a shape repair makes it so,
/// the repair was not the only reading of the shape and is not made.
#[cold]
pub(super) fn disagree(
    signature: &Signature,
    policy: &Policy,
    shapes: &[(&TensorInfo, Shape)],
    steps: &mut Vec<Step>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) {
    let counts = odd_first(shapes);
    let before = steps.len();
    steps.retain(|step| {
        let doubtful = reshapes(step) && signature.input(&step.input).is_some_and(TensorInfo::has_rows);
        if doubtful {
            problems.push(step.fixes.clone());
        }
        !doubtful
    });
    let what = if steps.len() < before {
        "with the shapes repaired, the inputs would have different numbers of rows"
    } else if policy.row_agreement == RowAgreement::Refuse {
        "the inputs have different numbers of rows"
    } else {
        let text = format!("rows differ: {}", list(&counts, " "));
        warnings.push(Warning { reason: Reason::BatchMismatch, input: String::new(), text });
        return;
    };
    let problem = Problem::new(Reason::BatchMismatch, "", format!("{what} {{{}}}", list(&counts, ": ")));
    problems.push(problem.hint("send every input with the same dimension 0"));
}

/// Whether the step relabels a shape and leaves the values as they are.
fn reshapes(step: &Step) -> bool {
    let Change::Tensor { before, after, values } = &step.change else { return false };
    before.shape != after.shape
        && step.rule.tier != Tier::Three
        && !matches!(values, Some(ValueChange::Pad(_)))
}

/// The inputs with rows whose shapes conform, and how many rows they have.
fn row_counts<'a>(shapes: &'a [(&TensorInfo, Shape)]) -> impl Iterator<Item = (&'a str, i64)> {
    let conforming = shapes.iter().filter(|(info, shape)| info.has_rows() && info.shape.accepts(shape));
    conforming.filter_map(|(info, shape)| Some((info.alias.as_str(), *shape.first()?)))
}

/// First the number of rows that the fewest inputs have, which is likely the wrong one.
fn odd_first<'a>(shapes: &'a [(&TensorInfo, Shape)]) -> Vec<(&'a str, i64)> {
    let mut counts: Vec<(&str, i64)> = row_counts(shapes).collect();
    let mut frequency: BTreeMap<i64, usize> = BTreeMap::new();
    for (_, rows) in &counts {
        *frequency.entry(*rows).or_default() += 1;
    }
    counts.sort_unstable_by_key(|(alias, rows)| (frequency.get(rows).copied(), *alias));
    counts
}

/// `ids: 43, vals: 58`, and how many are left out.
fn list(counts: &[(&str, i64)], sign: &str) -> String {
    let listed = counts.iter().take(MAX_LISTED);
    let mut parts: Vec<String> =
        listed.map(|(alias, rows)| format!("{}{sign}{rows}", ascii(alias))).collect();
    if counts.len() > MAX_LISTED {
        parts.push(format!("{} more", counts.len() - MAX_LISTED));
    }
    parts.join(", ")
}
