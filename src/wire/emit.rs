//! Writing a request anew around the slices of the old one that stay: new heads are a few bytes,
//! values are not copied.
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::model_spec::ModelSpec;
use super::predict::{InputView, PredictView};
use super::rope::Rope;
use super::tensor::{DTYPE, TENSOR_SHAPE, TensorView};
use crate::tensor::{Class, DataType, Shape, ValueList};

/// What changes in one tensor; `None` stays as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorEdit {
    pub key: Option<String>,
    pub dtype: Option<DataType>,
    pub shape: Option<Shape>,
    /// Encoded fields of `TensorProto` that replace all of its values: see [`content`] and
    /// [`list`].
    pub values: Option<Rope>,
}

/// What becomes of one entry of `inputs`.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryEdit {
    Change(Box<TensorEdit>),
    Drop,
}

/// What becomes of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestEdit {
    pub signature_name: Option<String>,
    /// By index in [`PredictView::inputs`].
    pub entries: Vec<(usize, EntryEdit)>,
    /// Entries that were not sent: key, and an encoded `TensorProto`.
    pub added: Vec<(String, Bytes)>,
}

/// The request with the edits in it. Everything that no edit names is the old bytes, in their old
/// order; entries that a later one with the same key replaces are left out, since renaming the
/// later one would bring them back to life.
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
    if let Some(name) = &edit.signature_name {
        cuts.extend(respec(message, &view.model_spec, &view.spec_fields, name));
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

/// Cuts that give a message's `model_spec` (field 1) another signature name.
pub(super) fn respec(
    message: &Rope,
    spec: &ModelSpec,
    fields: &[Range<usize>],
    name: &str,
) -> impl Iterator<Item = (Range<usize>, Rope)> {
    let mut merged = Rope::new();
    for payload in &spec.payloads {
        let inside = spec
            .signature_fields
            .iter()
            .filter(|field| payload.start <= field.start && field.end <= payload.end);
        merged.append(splice(
            message,
            payload.clone(),
            inside.map(|field| (field.clone(), Rope::new())).collect(),
        ));
    }
    merged.append(field(3, Rope::from(name.as_bytes().to_vec())));
    let mut first = Some(field(1, merged));
    fields.iter().cloned().map(move |at| (at, first.take().unwrap_or_default()))
}

fn entry(message: &Rope, input: &InputView, edit: &TensorEdit) -> Rope {
    map_entry_of(message, input, edit, INPUTS)
}

/// An entry of a map of tensors, in the field of this number, with an edit in it.
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
    let mut head = Vec::with_capacity(key.len() + 12);
    put_tag(&mut head, 1, 2);
    put_varint(&mut head, key.len() as u64);
    head.extend_from_slice(key);
    put_tag(&mut head, 2, 2);
    put_varint(&mut head, value.len() as u64);
    let mut outer = Vec::with_capacity(head.len() + 12);
    put_tag(&mut outer, map, 2);
    put_varint(&mut outer, (head.len() + value.len()) as u64);
    outer.extend_from_slice(&head);
    let mut out = Rope::from(outer);
    out.append(value);
    out
}

fn tensor(message: &Rope, view: &TensorView, edit: &TensorEdit) -> Rope {
    let mut head = Vec::new();
    if let Some(dtype) = edit.dtype {
        put_tag(&mut head, DTYPE, 0);
        put_varint(&mut head, i64::from(dtype.number()) as u64);
    }
    if let Some(shape) = &edit.shape {
        put_shape(&mut head, shape);
    }
    let mut out = Rope::from(head);
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

/// `tensor_content` with these bytes.
pub fn content(bytes: Rope) -> Rope {
    field(super::tensor::TENSOR_CONTENT, bytes)
}

/// A typed list with this payload: packed numbers, or the bytes of one string.
pub fn list(list: ValueList, payload: Rope) -> Rope {
    field(list.field(), payload)
}

/// A typed list of elements that are given little-endian, each in the width of `dtype`: packed, as
/// proto3 writes it.
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
            let mut payload = Vec::with_capacity(elements.len());
            for element in elements.chunks_exact(size) {
                // Negative numbers are ten bytes long in every integer list but those of unsigned
                // ones.
                let negative = signed && element.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..size].copy_from_slice(element);
                put_varint(&mut payload, u64::from_le_bytes(wide));
            }
            payload
        }
    };
    self::list(list, Rope::from(payload))
}

/// A `TensorProto` from nothing.
pub fn new_tensor(dtype: DataType, shape: &Shape, values: &Rope) -> Bytes {
    let mut head = Vec::new();
    put_tag(&mut head, DTYPE, 0);
    put_varint(&mut head, i64::from(dtype.number()) as u64);
    put_shape(&mut head, shape);
    let mut out = Rope::from(head);
    out.append(values.clone());
    out.to_bytes()
}

pub(crate) fn field(number: u32, payload: Rope) -> Rope {
    let mut head = Vec::with_capacity(12);
    put_tag(&mut head, number, 2);
    put_varint(&mut head, payload.len() as u64);
    let mut out = Rope::from(head);
    out.append(payload);
    out
}

/// `TensorShapeProto`: field 2 is a dim, whose field 1 is its size; a size of 0 is left out as
/// proto3 does.
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

/// A base-128 varint, as protobuf writes it.
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

    /// Encoded once: the order of a map differs from one encoding to the next.
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
    fn no_edit_is_the_same_bytes() {
        let (out, ..) = rewritten(&RequestEdit::default());
        assert_eq!(out, request().0);
    }

    #[test]
    fn only_what_an_edit_names_changes() {
        let edit = TensorEdit {
            key: Some("a".into()),
            dtype: Some(DataType::DOUBLE),
            shape: Some(Shape::from([1, 0, 300])),
            values: Some(content(Rope::from(vec![9; 300]))),
        };
        let edit = RequestEdit {
            signature_name: Some("other".into()),
            entries: vec![(index("x"), EntryEdit::Change(Box::new(edit)))],
            added: Vec::new(),
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
            signature_name: None,
            entries: vec![(index("ids"), EntryEdit::Drop)],
            added: vec![("rate".into(), tensor)],
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
        assert!(fresh < 40, "{fresh} bytes written anew");
    }
}
