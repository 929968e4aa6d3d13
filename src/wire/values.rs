//! Reads the values of a tensor in blocks of whole little-endian elements, from `tensor_content` or
//! from a typed list, packed or not.
use std::ops::Range;

use bytes::Bytes;

use super::rope::{Chunks, Rope};
use super::scan::{Reader, Wire, WireError};
use super::tensor::{Layout, Run, TensorView, layout};
use crate::tensor::ValueList;

/// Size of the largest element, a complex128.
const MAX_ELEMENT: usize = 16;
/// Bytes of decoded varints that are passed on at once.
const BLOCK: usize = 4096;

/// The field that the values are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `tensor_content`, with elements of this many bytes.
    Content { size: usize },
    /// A typed list. Elements are as wide as their native dtype: 4 bytes for `float_val` and
    /// `int_val`, 2 for `half_val` (its low 16 bits), 8 for a pair of `scomplex_val`, 1 for
    /// `bool_val` and `float8_val`.
    List(ValueList),
}

/// Why reading stopped: invalid bytes, or an error of the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop<E> {
    Wire(WireError),
    Sink(E),
}

impl<E> From<WireError> for Stop<E> {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Passes all values to `sink` in order, in blocks of whole elements. An incomplete element at the
/// end is dropped. Nothing is read from lists of strings and handles, whose elements have no fixed
/// width.
///
/// # Errors
/// An error of the sink, or an invalid varint.
pub fn read<E>(
    message: &Rope,
    tensor: &TensorView,
    carrier: Carrier,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    match carrier {
        Carrier::Content { size } => {
            let Some(content) = tensor.content.clone() else { return Ok(()) };
            let mut whole = Aligner::new(size);
            whole.feed(message.chunks(content), sink)
        }
        Carrier::List(list) => match layout(list) {
            Layout::Bytes => Ok(()),
            Layout::Blob => {
                // A singular field: the last occurrence counts.
                let mut last = None;
                each_field(message, tensor, list, &mut |_, field| {
                    last = Some(field.payload.clone());
                    Ok(())
                })?;
                let mut whole = Aligner::new(1);
                last.map_or(Ok(()), |payload| whole.feed(message.chunks(payload), sink))
            }
            Layout::Fixed32 | Layout::Fixed64 => {
                let mut whole = Aligner::new(width(list));
                each_field(message, tensor, list, &mut |reader, field| {
                    let chunks = match field.wire {
                        Wire::Bytes => reader.inner(field).chunks(),
                        _ => message.chunks(field.payload.clone()),
                    };
                    whole.feed(chunks, sink)
                })
            }
            Layout::Varint => varints(message, tensor, list, sink),
        },
    }
}

/// The first strings of `string_val`, without a copy where they lie in one chunk. Longer ones are
/// cut at `max_length`.
pub fn strings(message: &Rope, tensor: &TensorView, limit: usize, max_length: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    // It stops at the limit, or where the bytes are invalid, which the scan has ruled out.
    let stopped = each_field(message, tensor, ValueList::String, &mut |_, field| {
        if all.len() == limit {
            return Err(Stop::Sink(()));
        }
        let (start, end) = (field.payload.start, field.payload.end);
        all.push(message.slice(start..end.min(start.saturating_add(max_length))).to_bytes());
        Ok(())
    });
    drop(stopped);
    all
}

/// The lengths in bytes of the first strings of `string_val`.
pub fn string_lengths(message: &Rope, tensor: &TensorView, limit: usize) -> Vec<usize> {
    let mut all = Vec::new();
    let stopped = each_field(message, tensor, ValueList::String, &mut |_, field| {
        if all.len() == limit {
            return Err(Stop::Sink(()));
        }
        all.push(field.payload.len());
        Ok(())
    });
    drop(stopped);
    all
}

/// Passes the strings of `string_val` to `sink`, in order, without a copy where they lie in one
/// chunk.
///
/// # Errors
/// An error of the sink.
pub fn each_string<E>(
    message: &Rope,
    tensor: &TensorView,
    sink: &mut dyn FnMut(Bytes) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    each_field(message, tensor, ValueList::String, &mut |_, field| {
        sink(message.slice(field.payload.clone()).to_bytes()).map_err(Stop::Sink)
    })
}

/// Size of the elements that [`read`] delivers for a list.
pub const fn width(list: ValueList) -> usize {
    match list {
        ValueList::Float | ValueList::Int | ValueList::Uint32 => 4,
        ValueList::Double | ValueList::Int64 | ValueList::Uint64 | ValueList::SComplex => 8,
        ValueList::DComplex => 16,
        ValueList::Half => 2,
        ValueList::Bool | ValueList::Float8 => 1,
        ValueList::String | ValueList::ResourceHandle | ValueList::Variant => 0,
    }
}

/// Where the elements of a list of fixed width are, if all are in one packed field.
pub fn packed_fixed(message: &Rope, tensor: &TensorView, list: ValueList) -> Option<Range<usize>> {
    if !matches!(layout(list), Layout::Fixed32 | Layout::Fixed64) {
        return None;
    }
    let mut runs = tensor.runs.iter().filter(|run| run.field == list.field() && run.values > 0);
    let (run, None) = (runs.next()?, runs.next()) else { return None };
    let field = Reader::of_range(message, &run.span).next_field().ok()??;
    let whole = field.wire == Wire::Bytes && field.payload.end == run.span.end;
    whole.then_some(field.payload)
}

type FieldSink<'a, E> = &'a mut dyn FnMut(&Reader<'_>, &super::scan::Field) -> Result<(), Stop<E>>;

fn each_field<E>(
    message: &Rope,
    tensor: &TensorView,
    list: ValueList,
    sink: FieldSink<'_, E>,
) -> Result<(), Stop<E>> {
    for Run { field, span, .. } in &tensor.runs {
        if *field == list.field() {
            let mut reader = Reader::of_range(message, span);
            while let Some(field) = reader.next_field()? {
                sink(&reader, &field)?;
            }
        }
    }
    Ok(())
}

fn varints<E>(
    message: &Rope,
    tensor: &TensorView,
    list: ValueList,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let width = width(list);
    let mut block = [0_u8; BLOCK];
    let mut filled = 0;
    let mut put = |value: u64| {
        let value = if list == ValueList::Bool { u64::from(value != 0) } else { value };
        block[filled..filled + width].copy_from_slice(&value.to_le_bytes()[..width]);
        filled += width;
        if filled == BLOCK {
            filled = 0;
            return sink(&block).map_err(Stop::Sink);
        }
        Ok(())
    };
    each_field(message, tensor, list, &mut |reader, field| {
        if field.wire == Wire::Varint {
            return put(field.varint);
        }
        let mut values = reader.inner(field);
        while !values.is_at_end() {
            put(values.varint()?)?;
        }
        Ok(())
    })?;
    if filled > 0 { sink(&block[..filled]).map_err(Stop::Sink) } else { Ok(()) }
}

/// Cuts chunks at element boundaries. An element that spans two chunks is assembled in a small
/// buffer.
struct Aligner {
    size: usize,
    carry: [u8; MAX_ELEMENT],
    carried: usize,
}

impl Aligner {
    fn new(size: usize) -> Self {
        Self { size: size.clamp(1, MAX_ELEMENT), carry: [0; MAX_ELEMENT], carried: 0 }
    }

    fn feed<E>(
        &mut self,
        chunks: Chunks<'_>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        for mut chunk in chunks {
            if self.carried > 0 {
                let take = (self.size - self.carried).min(chunk.len());
                self.carry[self.carried..self.carried + take].copy_from_slice(&chunk[..take]);
                self.carried += take;
                chunk = &chunk[take..];
                if self.carried < self.size {
                    continue;
                }
                self.carried = 0;
                sink(&self.carry[..self.size]).map_err(Stop::Sink)?;
            }
            let (whole, rest) = chunk.split_at(chunk.len() - chunk.len() % self.size);
            if !whole.is_empty() {
                sink(whole).map_err(Stop::Sink)?;
            }
            self.carry[..rest.len()].copy_from_slice(rest);
            self.carried = rest.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::TensorProto;

    fn values(tensor: &TensorProto, carrier: Carrier, cut: usize) -> Vec<u8> {
        let bytes = tensor.encode_to_vec();
        let rope: Rope = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
        let mut view = TensorView::default();
        view.merge(Reader::new(&rope)).unwrap();
        let mut all = Vec::new();
        read::<()>(&rope, &view, carrier, &mut |block| {
            all.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn chunk_boundaries_do_not_change_the_elements() {
        let floats: Vec<f32> = (0..50).map(|value| value as f32 * 0.5).collect();
        let raw: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
        let ints: Vec<i64> = (-2000..2000).map(|value| value * 1_000_003).collect();
        let long: Vec<u8> = ints.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = TensorProto {
            tensor_content: raw.clone().into(),
            float_val: floats,
            int64_val: ints,
            int_val: vec![-1, 70000],
            half_val: vec![0x3c00],
            bool_val: vec![true, false],
            ..TensorProto::default()
        };
        for cut in [1, 3, 7, 64, 100_000] {
            assert_eq!(values(&tensor, Carrier::Content { size: 4 }, cut), raw);
            assert_eq!(values(&tensor, Carrier::List(ValueList::Float), cut), raw);
            assert_eq!(values(&tensor, Carrier::List(ValueList::Int64), cut), long);
            assert_eq!(
                values(&tensor, Carrier::List(ValueList::Int), cut),
                [255, 255, 255, 255, 0x70, 0x11, 1, 0]
            );
            assert_eq!(values(&tensor, Carrier::List(ValueList::Half), cut), [0x00, 0x3c]);
            assert_eq!(values(&tensor, Carrier::List(ValueList::Bool), cut), [1, 0]);
        }
    }

    #[test]
    fn unpacked_elements_are_read_like_packed_ones() {
        // Two unpacked float_val elements (tag 5, fixed32), then a packed one.
        let bytes = [0x2d, 0, 0, 128, 63, 0x2d, 0, 0, 0, 64, 0x2a, 4, 0, 0, 64, 64];
        let rope = Rope::from(bytes.to_vec());
        let mut view = TensorView::default();
        view.merge(Reader::new(&rope)).unwrap();
        assert_eq!((view.runs.len(), view.list_values(ValueList::Float)), (1, 3));
        let mut all = Vec::new();
        read::<()>(&rope, &view, Carrier::List(ValueList::Float), &mut |block| {
            all.extend(block.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())));
            Ok(())
        })
        .unwrap();
        assert_eq!(all, [1.0, 2.0, 3.0]);
    }
}
