//! Requests that are split into several upstream calls or padded to a full batch, and the responses
//! put back together.
use std::collections::HashMap;

use super::policy::{Limits, Mode, Policy};
use super::problem::Problem;
use super::reason::Reason;
use super::rules::SPLIT_OVERSIZE;
use super::{Change, Propose, Repair, RuleSet, Stage, Step};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{PartialShape, Shape};
use crate::wire::emit::{EntryEdit, RequestEdit, TensorEdit, rewrite};
use crate::wire::rows::{self, Cutter, RowsError};
use crate::wire::{PredictView, Rope, TensorView, reply};

/// The upstream calls that are made with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    #[default]
    One,
    /// Calls of at most `per_call` rows each, whose responses are joined. `whole`: if the rows of
    /// the responses do not fit, the request may be sent unsplit instead.
    Split { rows: i64, per_call: i64, whole: bool },
    /// One call of `to` rows, padded with copies of the last row; the response is cut back.
    Pad { rows: i64, to: i64 },
}

/// Maximum number of calls for one request. One value can stand for millions of rows, and each call
/// is a message of its own.
const MAX_CALLS: u64 = 256;

impl Calls {
    fn count(self) -> u64 {
        match self {
            Self::One | Self::Pad { .. } => 1,
            Self::Split { rows, per_call, .. } => {
                rows.unsigned_abs().div_ceil(per_call.unsigned_abs().max(1))
            }
        }
    }
}

/// What a rule of [`Propose::Calls`] sees: a request that conforms except for its number of rows,
/// which is the same in all inputs that are not scalars.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallsCase<'a> {
    /// Dimension 0 as the signature declares it.
    pub declared: i64,
    /// Dimension 0 as it was sent.
    pub rows: i64,
    pub policy: &'a Policy,
    pub limits: Limits,
    shapes: &'a [(&'a TensorInfo, &'a Shape)],
}

impl CallsCase<'_> {
    /// The inputs that have rows, with their sent shapes: all but the scalars.
    pub(crate) fn batched(&self) -> impl Iterator<Item = (&TensorInfo, &Shape)> {
        let shapes = self.shapes.iter().copied();
        shapes.filter(|(info, _)| info.shape.dims().is_some_and(|dims| dims.first() == Some(&self.declared)))
    }
}

/// The rules that are on. Where requests share runs, one with more rows than a run may have is
/// split too. It conforms, so the modes that only check leave it as it is.
pub(super) fn rules(policy: &Policy, mode: Mode, shapes: &[(&TensorInfo, &Shape)]) -> RuleSet {
    let mut rules = policy.rules;
    if policy.batching.enabled && mode == Mode::Repair {
        let max = i64::try_from(policy.batching.rows_per_run()).unwrap_or(i64::MAX);
        let is_large = |shape: &Shape| shape.first().is_some_and(|rows| *rows > max);
        if shapes.iter().any(|(_, shape)| is_large(shape)) {
            rules.set(&SPLIT_OVERSIZE, true);
        }
    }
    rules
}

/// Plans the calls, if the number of rows is the only thing wrong with the request and a rule fixes
/// it.
#[expect(clippy::too_many_arguments, reason = "it has one caller, which has them all")]
pub(super) fn plan(
    signature: &Signature,
    policy: &Policy,
    on: RuleSet,
    limits: Limits,
    output_filter: &[String],
    shapes: &[(&TensorInfo, &Shape)],
    steps: &mut Vec<Step>,
    problems: &mut Vec<Problem>,
) -> Calls {
    let mut rules = on.of(Stage::Rows).peekable();
    if rules.peek().is_none() && problems.iter().all(|problem| problem.reason != Reason::StaticBatch) {
        return Calls::One;
    }
    let (Some(declared), Some(rows)) = (
        common(shapes, |info, _| info.shape.dims()?.first().copied()),
        common(shapes, |_, shape| shape.first().copied()),
    ) else {
        return Calls::One;
    };
    let fits = |(info, shape): &(&TensorInfo, &Shape)| fits_but_rows(&info.shape, shape);
    if shapes.len() != signature.inputs.len()
        || !shapes.iter().all(fits)
        || !outputs_have_rows(signature, output_filter)
    {
        return Calls::One;
    }
    let case = CallsCase { declared, rows, policy, limits, shapes };
    let propose = |rule: &'static Repair| {
        let Propose::Calls(propose) = rule.propose else { return None };
        propose(&case).filter(|calls| calls.count() <= MAX_CALLS).map(|calls| (rule, calls))
    };
    let Some((rule, calls)) = rules.find_map(propose) else {
        let switch = on.off(Stage::Rows).find(|rule| propose(rule).is_some());
        let fixed = |problem: &&mut Problem| problem.reason == Reason::StaticBatch;
        problems.iter_mut().filter(fixed).for_each(|problem| problem.switch = switch);
        return Calls::One;
    };
    let mut fixed: HashMap<&str, &Problem> = HashMap::new();
    for problem in problems.iter().filter(|problem| is_row_problem(problem)) {
        fixed.entry(&problem.input).or_insert(problem);
    }
    for (info, shape) in case.batched() {
        let rows = match calls {
            Calls::Split { per_call, .. } => per_call,
            Calls::Pad { to, .. } => to,
            Calls::One => rows,
        };
        let fixes = fixed.get(info.alias.as_str()).copied().cloned().unwrap_or_else(|| {
            Problem::new(
                Reason::StaticBatch,
                &info.alias,
                format!("{} rows in {shape}, at most {rows} go into one call", shape[0]),
            )
        });
        let change = Change::Rows { old: shape.clone(), new: with_rows(shape, rows) };
        steps.push(Step { rule, input: info.alias.clone(), index: None, change, fixes });
    }
    problems.retain(|problem| !is_row_problem(problem) || signature.input(&problem.input).is_none());
    calls
}

/// The shape with another dimension 0.
pub(super) fn with_rows(shape: &Shape, rows: i64) -> Shape {
    [rows].into_iter().chain(shape.iter().skip(1).copied()).collect()
}

fn is_row_problem(problem: &Problem) -> bool {
    matches!(problem.reason, Reason::StaticBatch | Reason::DimMismatch)
}

/// The value that all inputs except scalars have in common; `None` if they differ or there are
/// none.
fn common(shapes: &[(&TensorInfo, &Shape)], of: impl Fn(&TensorInfo, &Shape) -> Option<i64>) -> Option<i64> {
    let mut found = None;
    for (info, shape) in shapes {
        if info.shape.rank() == Some(0) {
            continue;
        }
        let value = of(info, shape)?;
        if found.is_some_and(|found| found != value) {
            return None;
        }
        found = Some(value);
    }
    found
}

fn fits_but_rows(declared: &PartialShape, sent: &Shape) -> bool {
    match (declared.dims(), &sent[..]) {
        (Some([]), []) => true,
        (Some([_, want @ ..]), [_, have @ ..]) => {
            want.len() == have.len() && want.iter().zip(have).all(|(want, have)| *want == -1 || want == have)
        }
        _ => false,
    }
}

fn outputs_have_rows(signature: &Signature, filter: &[String]) -> bool {
    let has_rows = |info: &TensorInfo| info.shape.rank().is_some_and(|rank| rank > 0);
    if filter.is_empty() {
        return signature.outputs.iter().all(has_rows);
    }
    filter.iter().filter_map(|name| signature.output(name)).all(has_rows)
}

/// The messages of the calls, each with its number of rows. `message` conforms except for its rows.
///
/// # Errors
/// If the message cannot be cut between its rows.
pub fn requests(message: &Rope, calls: Calls) -> Result<Vec<(Rope, i64)>, RowsError> {
    let view = PredictView::scan(message)?;
    let (rows, per_call) = match calls {
        Calls::One => return Ok(vec![(message.clone(), 0)]),
        Calls::Pad { rows, to } => {
            let edits = batched(&view, rows).map(|(index, tensor)| {
                let all = rows::take(message, tensor, &(0..rows as u64))?;
                let last = rows::take(message, tensor, &(rows as u64 - 1..rows as u64))?;
                let pieces = [all].into_iter().chain(std::iter::repeat_n(last, (to - rows) as usize));
                Ok(change(index, rows::join(tensor, to, pieces)))
            });
            let entries = edits.collect::<Result<_, RowsError>>()?;
            let edit = RequestEdit { entries, ..RequestEdit::default() };
            return Ok(vec![(rewrite(message, &view, &edit), to)]);
        }
        Calls::Split { rows, per_call, .. } => (rows, per_call),
    };
    let mut cutters = batched(&view, rows)
        .map(|(index, tensor)| Ok((index, tensor, Cutter::new(message, tensor)?)))
        .collect::<Result<Vec<_>, RowsError>>()?;
    let mut all = Vec::new();
    let mut start = 0;
    while start < rows {
        let count = per_call.min(rows - start);
        let edits = cutters.iter_mut().map(|(index, tensor, cutter)| {
            Ok(change(*index, rows::join(tensor, count, [cutter.next(count as u64)?])))
        });
        let entries = edits.collect::<Result<_, RowsError>>()?;
        let edit = RequestEdit { entries, ..RequestEdit::default() };
        all.push((rewrite(message, &view, &edit), count));
        start += count;
    }
    Ok(all)
}

/// The inputs that have these rows: all but the scalars, which are the same in every call.
fn batched(view: &PredictView, rows: i64) -> impl Iterator<Item = (usize, &TensorView)> {
    let tensors = view.inputs.iter().map(|input| &input.tensor).enumerate();
    tensors.filter(move |(_, tensor)| tensor.shape.first() == Some(&rows))
}

fn change(index: usize, edit: TensorEdit) -> (usize, EntryEdit) {
    (index, EntryEdit::Change(Box::new(edit)))
}

/// The response to the request, from the responses to its calls. Each part comes with the number of
/// rows that were sent.
///
/// # Errors
/// If a response does not have as many rows as its call, or the responses do not match.
pub fn answer(parts: &[(Rope, i64)], calls: Calls) -> Result<Rope, RowsError> {
    match (calls, parts) {
        (Calls::Pad { rows, to }, [(only, _)]) => reply::cut(only, rows, to),
        _ => reply::join(parts),
    }
}
