//! The answer to `:predict`: rows or columns of the outputs (`json_tensor.cc`).
use super::layout::{Lines, Values, Writer};
use super::out::Out;
use super::strings::string;
use super::values::{Numbers, Strings};
use super::{Answer, Format, Refusal};
use crate::tensor::{DataType, ValueList};
use crate::wire::InputView;
use crate::wire::reply::{self, ReplyView};
use crate::wire::{Rope, TensorView};

/// Strings of outputs with such names are base64 (`kBytesTensorNameSuffix`).
const BYTES_SUFFIX: &str = "_bytes";

/// The text around the values.
const FRAME: usize = 64;

/// Writes a `PredictResponse`. Several outputs are in the order of their names; TF Serving's order
/// is random. Dtypes that TF Serving cannot print are numbers with the fewest digits that give the
/// value back, or `[re, im]`.
///
/// # Errors
/// As TF Serving, if there are no outputs, an output is a resource or a variant, or rows are asked
/// for and the outputs do not have the same number of them. Also if the message is not valid, or
/// the text would be longer than `max_bytes`.
pub fn predict(message: &Rope, format: Format, max_bytes: usize) -> Result<Answer, Refusal> {
    let view = ReplyView::scan(message).map_err(|error| Refusal::unreadable(&error.to_string()))?;
    let version = reply::version(message).map_err(|error| Refusal::unreadable(&error.to_string()))?;
    let outputs = sorted(&view);
    if outputs.is_empty() {
        return Err(Refusal::invalid("Cannot convert empty tensor map to JSON"));
    }
    let rows = match format {
        Format::Row => Some(common_rows(&outputs)?),
        Format::Column => None,
    };
    let mut writers = Vec::with_capacity(outputs.len());
    let single = outputs.len() == 1;
    let (mut expected, mut least) = (FRAME, 0_u128);
    for output in &outputs {
        let (lines, level, skip) = match format {
            Format::Row if single => (Lines::One, 1, 0),
            Format::Row => (Lines::One, 3, 1),
            Format::Column if single => (Lines::Many, 1, 0),
            Format::Column => (Lines::Many, 2, 0),
        };
        let writer = writer(message, output, lines, level, skip)?;
        let copies = if skip == 1 { rows.unwrap_or(1) } else { 1 };
        let around = output.key.len() + 8 + 4 * (level + 1);
        let names = if single { 0 } else { copies.saturating_mul(around) };
        expected = expected.saturating_add(writer.expected_length()).saturating_add(names);
        least = least.saturating_add((writer.least_length() + around as u128).saturating_mul(copies as u128));
        writers.push((output.key.as_str(), writer));
    }
    // A few bytes of a message can stand for very many values: the last one is repeated.
    if least.saturating_sub(2 * FRAME as u128) > max_bytes as u128 {
        return Err(Refusal::too_long(max_bytes));
    }
    let mut out = Out::new(expected, max_bytes);
    out.put(if rows.is_some() { b"{\n    \"predictions\": " } else { b"{\n    \"outputs\": " })?;
    match (rows, writers.as_mut_slice()) {
        (_, [(_, only)]) => only.write(&mut out, Lines::Many)?,
        (Some(rows), several) => row_objects(&mut out, rows, several)?,
        (None, several) => object(&mut out, several, 1)?,
    }
    out.put(b"\n}")?;
    let replaced = writers.iter().find(|(_, writer)| writer.replaced).map(|(name, _)| (*name).to_owned());
    Ok(Answer { json: out.finish()?, version, replaced })
}

/// The outputs by name. Of several with the same name the last, as protobuf reads a map.
fn sorted(view: &ReplyView) -> Vec<&InputView> {
    let mut outputs: Vec<&InputView> = view.outputs.iter().rev().collect();
    outputs.sort_by(|left, right| left.key.cmp(&right.key));
    outputs.dedup_by(|later, earlier| later.key == earlier.key);
    outputs
}

fn common_rows(outputs: &[&InputView]) -> Result<usize, Refusal> {
    let mut common = None;
    for output in outputs {
        let name = &output.key;
        let rows = match output.tensor.shape.first() {
            Some(rows) => *rows,
            None => return Err(Refusal::invalid(&format!("Tensor name: {name} has no shape information "))),
        };
        let expected = *common.get_or_insert(rows);
        if rows != expected {
            let text =
                format!("Tensor name: {name} has inconsistent batch size: {rows} expecting: {expected}");
            return Err(Refusal::invalid(&text));
        }
    }
    usize::try_from(common.unwrap_or(0)).map_err(|_| Refusal::unreadable("the shape of an output"))
}

/// The writer of an output, or of each of its rows if `skip` is 1.
fn writer<'a>(
    message: &'a Rope,
    output: &'a InputView,
    lines: Lines,
    level: usize,
    skip: usize,
) -> Result<Writer<'a>, Refusal> {
    let tensor = &output.tensor;
    let unreadable = || Refusal::unreadable(&format!("the shape of output `{}`", output.key));
    if tensor.unknown_rank {
        return Err(unreadable());
    }
    let elements = tensor.shape.elements().map_err(|_| unreadable())?;
    let dims: Result<Vec<usize>, _> = tensor.shape.iter().map(|size| usize::try_from(*size)).collect();
    let dims = dims.map_err(|_| unreadable())?;
    let values = if tensor.dtype == DataType::STRING {
        let strings = strings(message, tensor)?;
        if output.key.ends_with(BYTES_SUFFIX) { Values::Base64(strings) } else { Values::Strings(strings) }
    } else {
        Values::Numbers(Numbers::of(message, tensor, elements)?)
    };
    Ok(Writer::new(values, dims.get(skip..).unwrap_or_default(), lines, level))
}

fn strings<'a>(message: &'a Rope, tensor: &'a TensorView) -> Result<Strings<'a>, Refusal> {
    if tensor.content.is_some() && tensor.list_values(ValueList::String) == 0 {
        return Err(Refusal::unreadable("strings in `tensor_content`"));
    }
    Ok(Strings::of(message, tensor))
}

/// An object for each row.
fn row_objects(out: &mut Out, rows: usize, outputs: &mut [(&str, Writer<'_>)]) -> Result<(), Refusal> {
    out.put(b"[")?;
    for row in 0..rows {
        if row > 0 {
            out.put(b",")?;
        }
        out.line(2)?;
        object(out, outputs, 2)?;
    }
    if rows > 0 {
        out.line(1)?;
    }
    out.put(b"]")
}

/// The next value of each output, by name.
fn object(out: &mut Out, outputs: &mut [(&str, Writer<'_>)], level: usize) -> Result<(), Refusal> {
    for (at, (name, writer)) in outputs.iter_mut().enumerate() {
        out.put(if at == 0 { b"{" } else { b"," })?;
        out.line(level + 1)?;
        string(out, name)?;
        out.put(b": ")?;
        let lines = writer.lines();
        writer.write(out, lines)?;
    }
    out.line(level)?;
    out.put(b"}")
}
