//! One request as several calls, or as a fuller one: planned like every repair, and the answers put
//! together again.
use super::policy::{Limits, Policy};
use super::problem::Problem;
use super::reason::Reason;
use super::{Change, Repair, Step};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{PartialShape, Shape};
use crate::wire::emit::{EntryEdit, RequestEdit, rewrite};
use crate::wire::rows::{self, RowsError};
use crate::wire::{PredictView, Rope, reply};

/// The calls that a request becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    #[default]
    One,
    /// Calls of at most `per_call` rows each, their answers joined. `whole`: when the answers' rows
    /// do not fit, the request may be sent as it is instead.
    Split { rows: i64, per_call: i64, whole: bool },
    /// One call of `to` rows, filled up with copies of the last; the answer is cut back.
    Pad { rows: i64, to: i64 },
}

/// Calls that one request may become: one value can stand for millions of rows, and each call is a
/// message.
const MAX_CALLS: u64 = 256;

/// The largest batch that a request is filled up to, a row at a time.
const MAX_PADDED_ROWS: i64 = 65_536;

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

/// Looks whether the rows of a request are the one thing that is wrong with it, and whether a rule
/// fixes that.
pub(super) fn plan(
    signature: &Signature,
    policy: &Policy,
    limits: Limits,
    output_filter: &[String],
    shapes: &[(&TensorInfo, &Shape)],
    steps: &mut Vec<Step>,
    problems: &mut Vec<Problem>,
) -> Calls {
    let on = |name: &str| Repair::find(name).filter(|rule| rule.is_on(policy));
    let (Some(declared), Some(rows)) = (
        common(shapes, |info, _| info.shape.dims()?.first().copied()),
        common(shapes, |_, shape| shape.first().copied()),
    ) else {
        return Calls::One;
    };
    let with_rows = |info: &TensorInfo| matches!((info.shape.dims(), declared), (Some([first, ..]), declared) if *first == declared);
    let fits = |(info, shape): &(&TensorInfo, &Shape)| fits_but_rows(&info.shape, shape);
    if shapes.len() != signature.inputs.len()
        || !shapes.iter().all(fits)
        || !outputs_have_rows(signature, output_filter)
    {
        return Calls::One;
    }
    let fixed = declared > 0 && declared != rows;
    let max_rows = i64::try_from(policy.max_rows).unwrap_or(i64::MAX);
    let (rule, calls) = if declared == -1 && max_rows > 0 && rows > max_rows {
        (on("split_oversize"), Calls::Split { rows, per_call: max_rows, whole: true })
    } else if fixed && rows > declared && rows % declared == 0 {
        (on("fan_out"), Calls::Split { rows, per_call: declared, whole: false })
    } else if fixed
        && (2..=MAX_PADDED_ROWS).contains(&declared)
        && (1..declared).contains(&rows)
        && shapes.iter().all(|(info, shape)| !with_rows(info) || fits_filled_up(shape, declared, limits))
    {
        (on("pad_static_batch"), Calls::Pad { rows, to: declared })
    } else {
        return Calls::One;
    };
    let Some(rule) = rule.filter(|_| calls.count() <= MAX_CALLS) else { return Calls::One };
    for (info, shape) in shapes.iter().filter(|(info, _)| with_rows(info)) {
        let rows = match calls {
            Calls::Split { per_call, .. } => per_call,
            Calls::Pad { to, .. } => to,
            Calls::One => rows,
        };
        let new: Shape = [rows].into_iter().chain(shape.iter().skip(1).copied()).collect();
        let fixes = problems.iter().find(|problem| is_row_problem(problem, info)).cloned();
        let fixes = fixes.unwrap_or_else(|| {
            Problem::new(
                Reason::StaticBatch,
                &info.alias,
                format!("{} rows in {shape}, at most {rows} go into one call", shape[0]),
            )
        });
        let change = Change::Rows { old: (*shape).clone(), new };
        steps.push(Step { rule, input: info.alias.clone(), index: None, change, fixes });
    }
    problems.retain(|problem| !shapes.iter().any(|(info, _)| is_row_problem(problem, info)));
    calls
}

/// Whether a tensor filled up to `rows` rows keeps to the limit on elements.
fn fits_filled_up(shape: &Shape, rows: i64, limits: Limits) -> bool {
    let full: Shape = [rows].into_iter().chain(shape.iter().skip(1).copied()).collect();
    full.elements().is_ok_and(|elements| elements <= limits.max_elements)
}

fn is_row_problem(problem: &Problem, info: &TensorInfo) -> bool {
    problem.input == info.alias && matches!(problem.reason, Reason::StaticBatch | Reason::DimMismatch)
}

/// What every input that is not a scalar has in common; `None` if they differ or there is none.
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
    let fetched = |info: &&TensorInfo| filter.is_empty() || filter.contains(&info.alias);
    signature.outputs.iter().filter(fetched).all(|info| info.shape.rank().is_some_and(|rank| rank > 0))
}

/// The messages of the calls, and the rows of each, of a message that conforms but for its rows.
pub fn requests(message: &Rope, calls: Calls) -> Result<Vec<(Rope, i64)>, RowsError> {
    let view = PredictView::scan(message)?;
    match calls {
        Calls::One => Ok(vec![(message.clone(), 0)]),
        Calls::Pad { rows, to } => {
            let pieces = |message: &Rope, tensor: &crate::wire::TensorView| {
                let all = rows::take(message, tensor, &(0..rows as u64))?;
                let last = rows::take(message, tensor, &(rows as u64 - 1..rows as u64))?;
                Ok([all].into_iter().chain(std::iter::repeat_n(last, (to - rows) as usize)).collect())
            };
            Ok(vec![(with_rows(message, &view, rows, to, pieces)?, to)])
        }
        Calls::Split { rows, per_call, .. } => {
            let mut all = Vec::new();
            let mut start = 0;
            while start < rows {
                let end = rows.min(start.saturating_add(per_call));
                let part = |message: &Rope, tensor: &crate::wire::TensorView| {
                    Ok(vec![rows::take(message, tensor, &(start as u64..end as u64))?])
                };
                all.push((with_rows(message, &view, rows, end - start, part)?, end - start));
                start = end;
            }
            Ok(all)
        }
    }
}

/// The answer of the request out of the answers of its calls: each with the rows that it was asked
/// for.
pub fn answer(parts: &[(Rope, i64)], calls: Calls) -> Result<Rope, RowsError> {
    match (calls, parts) {
        (Calls::Pad { rows, to }, [(only, _)]) => reply::cut(only, rows, to),
        _ => reply::join(parts),
    }
}

fn with_rows(
    message: &Rope,
    view: &PredictView,
    rows: i64,
    new: i64,
    pieces: impl Fn(&Rope, &crate::wire::TensorView) -> Result<Vec<rows::Piece>, RowsError>,
) -> Result<Rope, RowsError> {
    let mut edit = RequestEdit::default();
    for (index, input) in view.inputs.iter().enumerate() {
        // Scalars go into every call as they are.
        if input.tensor.shape.first() == Some(&rows) {
            let tensor = rows::join(&input.tensor, new, pieces(message, &input.tensor)?);
            edit.entries.push((index, EntryEdit::Change(Box::new(tensor))));
        }
    }
    Ok(rewrite(message, view, &edit))
}
