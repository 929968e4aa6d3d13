//! Tests of parts, keys, joining, slicing and comparing, with messages of every dtype and encoding.
mod answers;
mod parts;
mod properties;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::batch::*;
use crate::proto::tensorflow::TensorProto;
use crate::proto::tensorflow::serving::{PredictRequest, PredictResponse};
use crate::repair::notation;
use crate::signature::Signature;
use crate::tensor::{Class, DataType, Shape, ValueList};
use crate::wire::emit;
use crate::wire::{PredictView, Rope, VersionChoice};

fn signature(text: &str) -> Arc<Signature> {
    Arc::clone(notation::signature(text).unwrap().iter().next().unwrap())
}

/// A message in chunks of this size.
fn chunked(message: &Rope, size: usize) -> Rope {
    message.to_bytes().chunks(size).map(Bytes::copy_from_slice).collect()
}

fn part(signature: &Signature, message: &Rope) -> Result<Part, Bypass> {
    Part::of(signature, message, &PredictView::scan(message).unwrap())
}

fn request(message: &Rope) -> PredictRequest {
    PredictRequest::decode(message.to_bytes()).unwrap()
}

fn response(message: &Rope) -> PredictResponse {
    PredictResponse::decode(message.to_bytes()).unwrap()
}

fn dims(tensor: &TensorProto) -> Vec<i64> {
    tensor.tensor_shape.iter().flat_map(|shape| &shape.dim).map(|dim| dim.size).collect()
}

/// The elements of a tensor, decoded by prost: little-endian, or the strings one by one. A short
/// list is expanded as TensorFlow does.
fn elements(tensor: &TensorProto) -> Vec<Vec<u8>> {
    let dtype = DataType::from_number(tensor.dtype);
    let count = dims(tensor).iter().product::<i64>() as usize;
    let info = dtype.info().unwrap();
    let Some(size) = info.size else {
        return expanded(tensor.string_val.iter().map(|text| text.to_vec()).collect(), count);
    };
    if !tensor.tensor_content.is_empty() {
        return tensor.tensor_content.chunks(size).map(<[u8]>::to_vec).collect();
    }
    fn cut<const N: usize>(values: impl Iterator<Item = [u8; N]>, size: usize) -> Vec<Vec<u8>> {
        if size > N {
            return values.collect::<Vec<_>>().concat().chunks(size).map(<[u8]>::to_vec).collect();
        }
        values.map(|value| value[..size].to_vec()).collect()
    }
    let found = match info.list {
        ValueList::Float => cut(tensor.float_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::SComplex => cut(tensor.scomplex_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Double => cut(tensor.double_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::DComplex => cut(tensor.dcomplex_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Int => cut(tensor.int_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Half => cut(tensor.half_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Int64 => cut(tensor.int64_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Uint32 => cut(tensor.uint32_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Uint64 => cut(tensor.uint64_val.iter().map(|value| value.to_le_bytes()), size),
        ValueList::Bool => cut(tensor.bool_val.iter().map(|value| [u8::from(*value)]), size),
        ValueList::Float8 => cut(tensor.float8_val.iter().map(|value| [*value]), size),
        ValueList::String | ValueList::ResourceHandle | ValueList::Variant => Vec::new(),
    };
    expanded(found, count)
}

fn expanded(mut found: Vec<Vec<u8>>, count: usize) -> Vec<Vec<u8>> {
    while found.len() < count {
        found.push(found.last().unwrap().clone());
    }
    found
}

/// How the values of a tensor are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Content,
    Packed,
    /// One field for each value.
    Unpacked,
    /// Two packed fields.
    Halves,
    /// The last values are left out, if they are equal.
    Short,
}

const CARRIERS: [Carrier; 5] =
    [Carrier::Content, Carrier::Packed, Carrier::Unpacked, Carrier::Halves, Carrier::Short];

/// The fields with these elements.
fn encoded(dtype: DataType, elements: &[Vec<u8>], carrier: Carrier) -> Rope {
    let info = dtype.info().unwrap();
    let all = |elements: &[Vec<u8>]| {
        let mut fields = Rope::new();
        if info.class == Class::String {
            for text in elements {
                fields.append(emit::list(ValueList::String, Rope::from(text.clone())));
            }
        } else if !elements.is_empty() {
            fields = emit::packed(info.list, dtype, &elements.concat());
        }
        fields
    };
    let is_blob = info.list == ValueList::Float8;
    match carrier {
        Carrier::Content if elements.is_empty() => Rope::new(),
        Carrier::Content if info.class != Class::String => emit::content(Rope::from(elements.concat())),
        Carrier::Unpacked if info.class != Class::String && !is_blob => unpacked(info.list, dtype, elements),
        Carrier::Halves if !is_blob => {
            let (left, right) = elements.split_at(elements.len() / 2);
            let mut fields = all(left);
            fields.append(all(right));
            fields
        }
        Carrier::Short => {
            let same = elements.iter().rev().take_while(|element| Some(*element) == elements.last()).count();
            let kept = (elements.len() + 1).saturating_sub(same);
            // Of strings, only one that stands for all is joined.
            let kept = if info.class == Class::String && kept > 1 { elements.len() } else { kept };
            all(&elements[..kept.min(elements.len())])
        }
        _ => all(elements),
    }
}

fn unpacked(list: ValueList, dtype: DataType, elements: &[Vec<u8>]) -> Rope {
    let (wire, width) = match list {
        ValueList::Float | ValueList::SComplex => (5, 4),
        ValueList::Double | ValueList::DComplex => (1, 8),
        _ => (0, 0),
    };
    let mut bytes = Vec::new();
    for element in elements {
        let payload = match wire {
            0 => {
                let field = emit::packed(list, dtype, element).to_bytes();
                let head = if list.field() < 16 { 2 } else { 3 };
                field.slice(head..)
            }
            _ => Bytes::copy_from_slice(element),
        };
        for value in payload.chunks(if width == 0 { payload.len() } else { width }) {
            emit::put_varint(&mut bytes, u64::from(list.field() << 3 | wire));
            bytes.extend_from_slice(value);
        }
    }
    Rope::from(bytes)
}

/// An entry of a map of tensors.
fn entry(map: u32, key: &str, dtype: DataType, shape: &Shape, values: &Rope) -> Rope {
    let tensor = Rope::from(emit::new_tensor(dtype, shape, values));
    let mut inside = emit::field(1, Rope::from(key.as_bytes().to_vec()));
    inside.append(emit::field(2, tensor));
    emit::field(map, inside)
}
