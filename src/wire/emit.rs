//! Rewrites a request: a few new bytes between slices of the old ones, and values are not copied.
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use smallvec::SmallVec;

use super::model_spec::ModelSpec;
use super::predict::{InputView, PredictView};
use super::rope::Rope;
use super::tensor::{DTYPE, TENSOR_SHAPE, TensorView};
use crate::tensor::{Class, DataType, Shape, ValueList};

/// The changes to one tensor; `None` leaves a part as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorEdit {
    pub key: Option<String>,
    pub dtype: Option<DataType>,
    pub shape: Option<Shape>,
    /// Encoded fields of `TensorProto` that replace all of its values; see [`content`] and
    /// [`list`].
    pub values: Option<Rope>,
}

/// The change to one entry of `inputs`.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryEdit {
    Change(Box<TensorEdit>),
    Drop,
}

/// The changes to a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestEdit {
    pub model_name: Option<String>,
    pub signature_name: Option<String>,
    /// By index in [`PredictView::inputs`].
    pub entries: Vec<(usize, EntryEdit)>,
    /// New entries: key and encoded `TensorProto`.
    pub added: Vec<(String, Bytes)>,
}

/// The request with the edits applied. Everything else keeps its bytes and order. Entries that a
/// later one with the same key replaces are removed: if the later one were renamed, they would take
/// effect.
pub fn rewrite(message: &Rope, view: &PredictView, edit: &RequestEdit) -> Rope {
    let mut cuts: Vec<(Range<usize>, Rope)> = Vec::new();
    for shadowed in &view.shadowed {
        cuts.push((shadowed.clone(), Rope::new()));
    }
    for (index, change) in &edit.entries {
        let input = &view.inputs[*index];
        let new = match change {
            EntryEdit::Drop => Rope::new(),
            EntryEdit::Change(edit) => entry(message, input, edit),
        };
        cuts.push((input.entry.clone(), new));
    }
    let names = [edit.model_name.as_deref(), edit.signature_name.as_deref()];
    if names != [None, None] {
        cuts.extend(respec(message, &view.model_spec, &view.spec_fields, names));
    }
    let mut out = splice(message, 0..message.len(), cuts);
    for (key, tensor) in &edit.added {
        out.append(map_entry(key.as_bytes(), Rope::from(tensor.clone())));
    }
    out
}

/// The old bytes of a range with pieces of it replaced.
pub(super) fn splice(message: &Rope, range: Range<usize>, mut cuts: Vec<(Range<usize>, Rope)>) -> Rope {
    cuts.sort_by_key(|(at, _)| at.start);
    let mut out = Rope::new();
    let mut position = range.start;
    for (at, new) in cuts {
        out.append(message.slice(position..at.start));
        out.append(new);
        position = at.end;
    }
    out.append(message.slice(position..range.end));
    out
}

/// The replacements that give a message's `model_spec` (field 1) another name of the model, which
/// as the last one counts, or of the signature.
pub(super) fn respec(
    message: &Rope,
    spec: &ModelSpec,
    fields: &[Range<usize>],
    [model, signature]: [Option<&str>; 2],
) -> impl Iterator<Item = (Range<usize>, Rope)> {
    let mut merged = Rope::new();
    for payload in &spec.payloads {
        let inside = spec
            .signature_fields
            .iter()
            .filter(|field| signature.is_some() && payload.start <= field.start && field.end <= payload.end);
        merged.append(splice(
            message,
            payload.clone(),
            inside.map(|field| (field.clone(), Rope::new())).collect(),
        ));
    }
    let names = [(1, model), (3, signature)].into_iter();
    let names = names.filter_map(|(number, name)| Some(field(number, Rope::from(name?.as_bytes().to_vec()))));
    names.for_each(|name| merged.append(name));
    let mut first = Some(field(1, merged));
    fields.iter().cloned().map(move |at| (at, first.take().unwrap_or_default()))
}

fn entry(message: &Rope, input: &InputView, edit: &TensorEdit) -> Rope {
    map_entry_of(message, input, edit, INPUTS)
}

/// An entry of a map of tensors, in the field of this number, with an edit applied.
pub(super) fn map_entry_of(message: &Rope, input: &InputView, edit: &TensorEdit, map: u32) -> Rope {
    let key = edit.key.as_deref().unwrap_or(&input.key);
    map_field(map, key.as_bytes(), tensor(message, &input.tensor, edit))
}

/// `PredictRequest.inputs`
const INPUTS: u32 = 2;

/// A new entry of `PredictRequest.inputs`.
pub(crate) fn map_entry(key: &[u8], value: Rope) -> Rope {
    map_field(INPUTS, key, value)
}

fn map_field(map: u32, key: &[u8], value: Rope) -> Rope {
    let mut header = Vec::with_capacity(key.len() + 12);
    put_tag(&mut header, 1, 2);
    put_varint(&mut header, key.len() as u64);
    header.extend_from_slice(key);
    put_tag(&mut header, 2, 2);
    put_varint(&mut header, value.len() as u64);
    let mut outer = Vec::with_capacity(header.len() + 12);
    put_tag(&mut outer, map, 2);
    put_varint(&mut outer, (header.len() + value.len()) as u64);
    outer.extend_from_slice(&header);
    let mut out = Rope::from(outer);
    out.append(value);
    out
}

fn tensor(message: &Rope, view: &TensorView, edit: &TensorEdit) -> Rope {
    let mut header = Vec::new();
    if let Some(dtype) = edit.dtype {
        put_tag(&mut header, DTYPE, 0);
        put_varint(&mut header, i64::from(dtype.number()) as u64);
    }
    if let Some(shape) = &edit.shape {
        put_shape(&mut header, shape);
    }
    let mut out = Rope::from(header);
    for run in &view.runs {
        let replaced = match run.field {
            DTYPE => edit.dtype.is_some(),
            TENSOR_SHAPE => edit.shape.is_some(),
            number => edit.values.is_some() && is_value(number),
        };
        if !replaced {
            out.append(message.slice(run.span.clone()));
        }
    }
    if let Some(values) = &edit.values {
        out.append(values.clone());
    }
    out
}

fn is_value(field: u32) -> bool {
    field == super::tensor::TENSOR_CONTENT || ValueList::from_field(field).is_some()
}

/// The request, for this version. In protobuf a later `model_spec` is merged into an earlier one,
/// and of a oneof the last field counts.
pub(crate) fn pinned(message: &Rope, version: i64) -> Rope {
    let mut number = Vec::with_capacity(11);
    put_tag(&mut number, 1, 0);
    put_varint(&mut number, version as u64);
    let mut out = message.clone();
    out.append(field(1, field(2, Rope::from(number))));
    out
}

/// `tensor_content` with these bytes.
pub fn content(bytes: Rope) -> Rope {
    field(super::tensor::TENSOR_CONTENT, bytes)
}

/// A typed list with this payload: packed numbers, or the bytes of one string.
pub fn list(list: ValueList, payload: Rope) -> Rope {
    field(list.field(), payload)
}

/// A typed list in packed form, as proto3 writes it. `elements` are little-endian, each as wide as
/// `dtype`.
pub fn packed(list: ValueList, dtype: DataType, elements: &[u8]) -> Rope {
    let size = dtype.size().unwrap_or(1);
    let signed = dtype.info().is_some_and(|info| info.class == Class::Signed);
    let payload = match list {
        ValueList::Float
        | ValueList::Double
        | ValueList::SComplex
        | ValueList::DComplex
        | ValueList::Float8 => elements.to_vec(),
        _ => {
            let values = elements.chunks_exact(size).map(|element| {
                // Negative numbers are sign-extended: ten bytes, whatever their width.
                let negative = signed && element.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..size].copy_from_slice(element);
                u64::from_le_bytes(wide)
            });
            // A buffer that grows may take twice its size.
            let mut payload = Vec::with_capacity(values.clone().map(varint_size).sum());
            values.for_each(|value| put_varint(&mut payload, value));
            payload
        }
    };
    self::list(list, Rope::from(payload))
}

/// How many bytes an element can take in [`packed`] form.
pub(crate) fn packed_sizes(list: ValueList, dtype: DataType) -> RangeInclusive<usize> {
    let size = dtype.size().unwrap_or(1);
    let signed = dtype.info().is_some_and(|info| info.class == Class::Signed);
    match list {
        ValueList::Float
        | ValueList::Double
        | ValueList::SComplex
        | ValueList::DComplex
        | ValueList::Float8 => size..=size,
        _ if signed => 1..=10,
        _ => 1..=(8 * size).div_ceil(7),
    }
}

/// A new encoded `TensorProto`.
pub fn new_tensor(dtype: DataType, shape: &Shape, values: &Rope) -> Bytes {
    let mut header = Vec::new();
    put_tag(&mut header, DTYPE, 0);
    put_varint(&mut header, i64::from(dtype.number()) as u64);
    put_shape(&mut header, shape);
    let mut out = Rope::from(header);
    out.append(values.clone());
    out.to_bytes()
}

/// The values of a tensor whose length is known before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// The payload of `tensor_content`.
    Content { length: usize },
    /// The payload of a packed list.
    Packed { list: ValueList, length: usize },
    /// Whole fields.
    Fields { length: usize },
}

/// The beginning of an entry of a map of tensors, up to its values. They follow, and then `more`
/// bytes of other fields of the tensor.
pub(crate) fn entry_head(
    map: u32,
    key: &str,
    dtype: DataType,
    shape: &Shape,
    values: Values,
    more: usize,
) -> Bytes {
    let mut tensor = Vec::with_capacity(64);
    put_tag(&mut tensor, DTYPE, 0);
    put_varint(&mut tensor, i64::from(dtype.number()) as u64);
    put_shape(&mut tensor, shape);
    let (number, length) = match values {
        Values::Content { length } => (super::tensor::TENSOR_CONTENT, length),
        Values::Packed { list, length } => (list.field(), length),
        Values::Fields { length } => (0, length),
    };
    if number != 0 && length > 0 {
        put_tag(&mut tensor, number, 2);
        put_varint(&mut tensor, length as u64);
    }
    let size = (tensor.len() + length + more) as u64;
    let inner = 1 + varint_size(key.len() as u64) + key.len() + 1 + varint_size(size);
    let mut head = Vec::with_capacity(inner + tensor.len() + 12);
    put_tag(&mut head, map, 2);
    put_varint(&mut head, inner as u64 + size);
    put_tag(&mut head, 1, 2);
    put_varint(&mut head, key.len() as u64);
    head.extend_from_slice(key.as_bytes());
    put_tag(&mut head, 2, 2);
    put_varint(&mut head, size);
    head.extend_from_slice(&tensor);
    Bytes::from(head)
}

pub(crate) fn field(number: u32, payload: Rope) -> Rope {
    let mut header = Vec::with_capacity(12);
    put_tag(&mut header, number, 2);
    put_varint(&mut header, payload.len() as u64);
    let mut out = Rope::from(header);
    out.append(payload);
    out
}

/// Writes a `TensorShapeProto`: field 2 is a dim, whose field 1 is its size. A size of 0 is
/// omitted, as proto3 does.
fn put_shape(out: &mut Vec<u8>, shape: &Shape) {
    let mut dims: SmallVec<[u8; 64]> = SmallVec::new();
    let mut size = Vec::with_capacity(12);
    for dim in shape.iter() {
        size.clear();
        if *dim != 0 {
            put_tag(&mut size, 1, 0);
            put_varint(&mut size, *dim as u64);
        }
        dims.push(2 << 3 | 2);
        dims.push(size.len() as u8);
        dims.extend_from_slice(&size);
    }
    put_tag(out, TENSOR_SHAPE, 2);
    put_varint(out, dims.len() as u64);
    out.extend_from_slice(&dims);
}

fn put_tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    put_varint(out, u64::from(field << 3 | wire));
}

/// Length of a base-128 varint.
pub(crate) fn varint_size(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Writes a base-128 varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::serving::PredictRequest;

    const UNKNOWN_FIELD: [u8; 4] = [0xba, 0x3e, 1, 7]; // field 999, one byte

    /// Encoded once, because the order of map entries differs between encodings.
    static REQUEST: LazyLock<(Rope, PredictRequest)> = LazyLock::new(|| {
        let request = super::super::predict::tests::request();
        let mut bytes = request.encode_to_vec();
        bytes.extend(UNKNOWN_FIELD);
        (bytes.chunks(11).map(Bytes::copy_from_slice).collect(), request)
    });

    fn request() -> (Rope, PredictRequest) {
        REQUEST.clone()
    }

    fn rewritten(edit: &RequestEdit) -> (Rope, PredictRequest, PredictRequest) {
        let (rope, before) = request();
        let view = PredictView::scan(&rope).unwrap();
        let out = rewrite(&rope, &view, edit);
        let after = PredictRequest::decode(out.to_bytes()).unwrap();
        assert!(out.to_bytes().ends_with(&UNKNOWN_FIELD) || !edit.added.is_empty());
        (out, before, after)
    }

    fn index(key: &str) -> usize {
        PredictView::scan(&request().0).unwrap().inputs.iter().position(|input| input.key == key).unwrap()
    }

    #[test]
    fn without_edits_the_bytes_stay_the_same() {
        let (out, ..) = rewritten(&RequestEdit::default());
        assert_eq!(out, request().0);
    }

    #[test]
    fn an_edit_changes_nothing_else() {
        let edit = TensorEdit {
            key: Some("a".into()),
            dtype: Some(DataType::DOUBLE),
            shape: Some(Shape::from([1, 0, 300])),
            values: Some(content(Rope::from(vec![9; 300]))),
        };
        let edit = RequestEdit {
            signature_name: Some("other".into()),
            entries: vec![(index("x"), EntryEdit::Change(Box::new(edit)))],
            ..RequestEdit::default()
        };
        let (_, mut before, after) = rewritten(&edit);
        let mut x = before.inputs.remove("x").unwrap();
        x.dtype = 2;
        x.tensor_content = vec![9; 300].into();
        let dims: Vec<i64> =
            after.inputs["a"].tensor_shape.as_ref().unwrap().dim.iter().map(|dim| dim.size).collect();
        assert_eq!(dims, [1, 0, 300]);
        x.tensor_shape = after.inputs["a"].tensor_shape.clone();
        before.inputs.insert("a".into(), x);
        before.model_spec.as_mut().unwrap().signature_name = "other".into();
        assert_eq!(after, before);
    }

    #[test]
    fn entries_are_dropped_and_added() {
        let tensor = new_tensor(
            DataType::FLOAT,
            &Shape::scalar(),
            &list(ValueList::Float, Rope::from(vec![0, 0, 128, 63])),
        );
        let edit = RequestEdit {
            entries: vec![(index("ids"), EntryEdit::Drop)],
            added: vec![("rate".into(), tensor)],
            ..RequestEdit::default()
        };
        let (_, before, after) = rewritten(&edit);
        assert_eq!(after.inputs.len(), 2);
        assert_eq!(after.inputs["x"], before.inputs["x"]);
        assert_eq!(
            (after.inputs["rate"].dtype, after.inputs["rate"].float_val.as_slice()),
            (1, [1.0].as_slice())
        );
    }

    #[test]
    fn a_new_shape_shares_the_memory_of_the_values() {
        let (_, proto) = request();
        let whole = Bytes::from(proto.encode_to_vec());
        let rope = Rope::from(whole.clone());
        let view = PredictView::scan(&rope).unwrap();
        let shape = TensorEdit { shape: Some(Shape::from([6])), ..TensorEdit::default() };
        let out = rewrite(
            &rope,
            &view,
            &RequestEdit { entries: vec![(0, EntryEdit::Change(Box::new(shape)))], ..RequestEdit::default() },
        );
        let range = whole.as_ptr_range();
        let fresh: usize =
            out.segments().iter().filter(|chunk| !range.contains(&chunk.as_ptr())).map(Bytes::len).sum();
        assert!(fresh < 40, "{fresh} new bytes");
    }
}
