//! Makes one request of the parts of several.
use std::ops::Range;

use super::part::{InputPart, Part};
use crate::signature::Signature;
use crate::tensor::Shape;
use crate::wire::Rope;
use crate::wire::emit::{Values, entry_head};
use crate::wire::scan::Reader;

/// `PredictRequest.inputs`
const INPUTS: u32 = 2;

/// The `PredictRequest` with the rows of all parts in their order, filled to `rows` with copies of
/// the last row. All parts have the same key. No tensor value is copied.
pub(crate) fn join(signature: &Signature, parts: &[&Part], rows: u64) -> Rope {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Rope::new() };
    let missing = rows.saturating_sub(parts.iter().map(|part| part.rows).sum());
    let mut out = first.fields.clone();
    for (at, input) in first.inputs.iter().enumerate() {
        let key = signature.inputs.get(input.index).map_or("", |info| info.alias.as_str());
        if input.is_scalar {
            out.push(entry_head(
                INPUTS,
                key,
                input.dtype,
                &input.shape,
                values(input, input.values.len()),
                0,
            ));
            out.push_all(&input.values);
            continue;
        }
        let each = || parts.iter().filter_map(|part| part.inputs.get(at)).map(|input| &input.values);
        let row = if missing == 0 { Rope::new() } else { last_row(input, &last.inputs, at, last.rows) };
        let length = each().map(Rope::len).sum::<usize>() + row.len() * missing as usize;
        let shape: Shape = [rows as i64].into_iter().chain(input.shape.iter().copied()).collect();
        out.push(entry_head(INPUTS, key, input.dtype, &shape, values(input, length), 0));
        each().for_each(|values| out.push_all(values));
        (0..missing).for_each(|_| out.push_all(&row));
    }
    out
}

fn values(input: &InputPart, length: usize) -> Values {
    match input.dtype.size() {
        Some(_) => Values::Content { length },
        None => Values::Fields { length },
    }
}

/// The `PredictRequest` of `rows` rows that are copies of a part's rows, which themselves begin at
/// row `offset`, as they do in a run.
pub(crate) fn copies(signature: &Signature, part: &Part, offset: u64, rows: u64) -> Rope {
    let own = part.rows.max(1);
    let (before, after) = (offset % own, rows.saturating_sub(offset) % own);
    let ends = (cut(part, own - before..own), cut(part, 0..after));
    let mut parts = Vec::with_capacity((rows / own + 2) as usize);
    parts.extend((before > 0).then_some(&ends.0));
    parts.extend((0..(rows - before - after) / own).map(|_| part));
    parts.extend((after > 0).then_some(&ends.1));
    join(signature, &parts, rows)
}

/// Whether a run has no other rows than copies of those of its first part.
pub(crate) fn is_of_copies(signature: &Signature, parts: &[&Part], rows: u64) -> bool {
    parts.first().is_none_or(|first| copies(signature, first, 0, rows) == join(signature, parts, rows))
}

/// Some of the rows of a part.
fn cut(part: &Part, range: Range<u64>) -> Part {
    let mut cut = Part { rows: range.end - range.start, ..part.clone() };
    for input in cut.inputs.iter_mut().filter(|input| !input.is_scalar) {
        let at = |row| start(input, &input.values, row, part.rows);
        input.values = input.values.slice(at(range.start)..at(range.end));
    }
    cut
}

/// The values of the last of `rows` rows.
fn last_row(input: &InputPart, inputs: &[InputPart], at: usize, rows: u64) -> Rope {
    let Some(values) = inputs.get(at).map(|input| &input.values) else { return Rope::new() };
    values.slice(start(input, values, rows.saturating_sub(1), rows)..values.len())
}

/// Where in the values of `rows` rows those of a row begin.
fn start(input: &InputPart, values: &Rope, row: u64, rows: u64) -> usize {
    if input.dtype.size().is_some() {
        return values.len() / rows.max(1) as usize * row as usize;
    }
    let strings = input.shape.elements().unwrap_or(0).saturating_mul(row);
    let mut reader = Reader::of_range(values, &(0..values.len()));
    for _ in 0..strings {
        if !matches!(reader.next_field(), Ok(Some(_))) {
            break;
        }
    }
    reader.position()
}
