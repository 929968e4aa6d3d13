//! A message of a form, for judging it: its descriptors, and zeros for its values.
use std::sync::LazyLock;

use bytes::Bytes;

use super::form::{Api, Carrier, Dim, Form, Input, Method, Sizes, Values};
use crate::tensor::{DataType, Shape, ValueList};
use crate::wire::Rope;
use crate::wire::emit;
use crate::wire::tensor::{MAX_RANK, TENSOR_CONTENT};

/// Bytes of a message; they are chunks of the same zeros, but casts read them.
pub(super) const MAX_BYTES: u64 = 64 << 20;

const BLOCK: usize = 64 << 10;
/// Made when it is needed: a constant of zeros would be in the program as such.
static ZEROS: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; BLOCK]));

/// One number for each size that the form leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub rows: u64,
    pub other_rows: u64,
    pub open: u64,
}

impl Chosen {
    /// The smallest sizes that were seen.
    pub(super) fn smallest(sizes: &Sizes) -> Self {
        let least = |range: super::Range| if range.is_empty() { 2 } else { range.min };
        Self { rows: least(sizes.rows), other_rows: least(sizes.other_rows), open: least(sizes.open) }
    }

    fn size(self, dim: Dim) -> i64 {
        let open = |size| i64::try_from(size).unwrap_or(i64::MAX);
        match dim {
            Dim::Exact(size) => size,
            Dim::Rows => open(self.rows),
            Dim::OtherRows => open(self.other_rows),
            Dim::Open => open(self.open),
        }
    }
}

impl Input {
    /// The shape with these sizes.
    pub(super) fn shape_of(&self, chosen: Chosen) -> Shape {
        self.shape.iter().map(|dim| chosen.size(*dim)).collect()
    }
}

/// The message, and its bytes if it is too large or has no such sizes.
pub(super) fn message(form: &Form, chosen: Chosen) -> Option<Rope> {
    let specs = form.signatures.iter().map(|name| spec(&form.model, name));
    if form.method != Method::Predict {
        return Some(examples(form, specs));
    }
    let mut message = specs.map(|spec| emit::field(1, spec)).next()?;
    for input in &form.inputs {
        message.append(emit::map_entry(input.name.as_bytes(), tensor(input, chosen)?));
        if message.len() as u64 > MAX_BYTES {
            return None;
        }
    }
    for name in &form.outputs {
        message.append(text(3, name));
    }
    Some(message)
}

fn spec(model: &str, signature: &str) -> Rope {
    let mut spec = text(1, model);
    spec.append(text(3, signature));
    spec
}

fn text(field: u32, text: &str) -> Rope {
    emit::field(field, Rope::from(text.as_bytes().to_vec()))
}

/// `ClassificationRequest`, `RegressionRequest` (`model_spec` 1, `input` 2) or
/// `MultiInferenceRequest` (`tasks` 1, each with a `model_spec` 1; `input` 2).
fn examples(form: &Form, specs: impl Iterator<Item = Rope>) -> Rope {
    let mut message = Rope::new();
    for spec in specs {
        let spec = emit::field(1, spec);
        message.append(if form.method == Method::MultiInference { emit::field(1, spec) } else { spec });
    }
    let empty = form.findings.iter().any(|finding| finding.kind == "NOT_AN_EXAMPLE");
    // `ExampleList.examples`
    let list = if empty { Rope::new() } else { emit::field(1, Rope::new()) };
    message.append(emit::field(2, emit::field(1, list)));
    message
}

fn tensor(input: &Input, chosen: Chosen) -> Option<Rope> {
    if input.shape.len() > MAX_RANK + 1 {
        return None;
    }
    let shape = input.shape_of(chosen);
    let mut tensor = Rope::from(emit::new_tensor(input.dtype, &shape, &Rope::new()));
    if input.unknown_rank {
        // `TensorShapeProto.unknown_rank`; protobuf merges it with the dims.
        tensor.append(emit::field(2, Rope::from(vec![3 << 3, 1])));
    }
    let elements = shape.elements().ok();
    for (at, (carrier, values)) in input.carriers.iter().enumerate() {
        // Fields with different values: the first has other ones than the rest.
        let other = input.conflict && at == 0;
        tensor.append(field(input.dtype, *carrier, *values, elements, other)?);
    }
    Some(tensor)
}

/// A field with so many values of zero; of one, if it must have `other` values.
fn field(
    dtype: DataType,
    carrier: Carrier,
    values: Values,
    elements: Option<u64>,
    other: bool,
) -> Option<Rope> {
    let count = match values {
        Values::All => elements?,
        Values::One => elements.filter(|elements| *elements > 1).map(|_| 1)?,
        Values::Short => elements.filter(|elements| *elements > 2).map(|elements| elements - 1)?,
        Values::Exact(count) => count,
    };
    let list = match carrier {
        Carrier::List(list) => list,
        Carrier::Content => {
            let bytes = match (values, dtype.size()) {
                (Values::All, Some(size)) => count.checked_mul(size as u64)?,
                _ => count,
            };
            // A string's length is no varint in these bytes.
            let broken = dtype == DataType::STRING && matches!(values, Values::Exact(_));
            let pattern: &[u8] = if other || broken { &[0xff] } else { &[0] };
            return Some(emit::field(TENSOR_CONTENT, repeated(pattern, bytes)?));
        }
    };
    // Of a packed list the payload; strings and messages are fields of their own, and empty.
    let tag = (list.field() << 3 | 2) as u8;
    let pattern: &[u8] = match list {
        ValueList::Float => &[0; 4],
        ValueList::Double | ValueList::SComplex => &[0; 8],
        ValueList::DComplex => &[0; 16],
        ValueList::String | ValueList::ResourceHandle | ValueList::Variant => {
            return repeated(&[tag, 0], count.checked_mul(2)?);
        }
        _ if other => &[1],
        _ => &[0],
    };
    Some(emit::list(list, repeated(pattern, count.checked_mul(pattern.len() as u64)?)?))
}

/// So many bytes of a pattern, whose length divides that of a block.
fn repeated(pattern: &[u8], bytes: u64) -> Option<Rope> {
    if bytes > MAX_BYTES {
        return None;
    }
    let mut rest = usize::try_from(bytes).ok()?;
    let zeros = pattern.iter().all(|byte| *byte == 0);
    let block =
        if zeros { ZEROS.clone() } else { Bytes::from(pattern.repeat(rest.min(BLOCK) / pattern.len())) };
    let mut rope = Rope::new();
    while rest > 0 {
        let part = rest.min(block.len());
        if part == 0 {
            break;
        }
        rope.push(block.slice(..part));
        rest -= part;
    }
    Some(rope)
}

/// Depth of nested lists in a body.
const MAX_DEPTH: usize = 32;
/// Values of a body.
const MAX_VALUES: u64 = 1 << 20;

/// A JSON body of a form. `None` if it would be too large, or is empty.
pub(super) fn body(form: &Form, chosen: Chosen) -> Option<Vec<u8>> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let named = |inputs: &[(&str, String)]| {
        let all: Vec<String> = inputs.iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
        format!("{{{}}}", all.join(","))
    };
    let mut count = 1;
    let mut inputs = Vec::new();
    for input in &form.inputs {
        let shape = input.shape_of(chosen);
        shape.elements().ok().filter(|elements| (1..=MAX_VALUES).contains(elements))?;
        let inner = match form.api {
            Api::Rows | Api::PlainRows => {
                count = usize::try_from(*shape.first()?).ok()?;
                shape.get(1..)?
            }
            Api::Columns | Api::Grpc => &shape[..],
        };
        inputs.push((input.name.as_str(), nested(input.dtype, inner)?));
    }
    let values = match (form.api, inputs.as_slice()) {
        (Api::Columns | Api::Grpc, _) => format!("\"inputs\":{}", named(&inputs)),
        (Api::PlainRows, [(_, row)]) => format!("\"instances\":[{}]", vec![row.as_str(); count].join(",")),
        (Api::PlainRows, _) => return None,
        (Api::Rows, _) => format!("\"instances\":[{}]", vec![named(&inputs); count].join(",")),
    };
    let signature = text(form.signatures.first()?);
    Some(format!("{{\"signature_name\":{signature},{values}}}").into_bytes())
}

/// Nested lists of zeros of this shape.
fn nested(dtype: DataType, shape: &[i64]) -> Option<String> {
    if shape.len() > MAX_DEPTH {
        return None;
    }
    let value = match dtype {
        DataType::STRING => "\"\"",
        DataType::BOOL => "false",
        _ => "0",
    };
    shape.iter().rev().try_fold(value.to_owned(), |value, size| {
        Some(format!("[{}]", vec![value; usize::try_from(*size).ok()?].join(",")))
    })
}
