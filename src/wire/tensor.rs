//! One `tensorflow.TensorProto` as it lies in a message: its heads read, its values only located
//! and counted.
use std::ops::Range;

use smallvec::SmallVec;

use super::rope::Rope;
use super::scan::{Field, Reader, Wire, WireError};
use crate::tensor::{DataType, Shape, ValueList};

/// Dims kept of a sent shape; TensorFlow itself takes ranks up to 254
/// (`TensorShape::MaxDimensions`).
pub const MAX_RANK: usize = 254;

/// Alternations between fields that one tensor may have. Encoders write each field in one piece;
/// only hostile bytes alternate.
const MAX_RUNS: usize = 256;

pub(super) const DTYPE: u32 = 1;
pub(super) const TENSOR_SHAPE: u32 = 2;
pub(super) const TENSOR_CONTENT: u32 = 4;

/// Neighbouring fields of one number: a whole typed list, packed or not, is one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub field: u32,
    /// All of its fields, tags included.
    pub span: Range<usize>,
    /// Values in it: elements of a typed list (single floats for complex pairs), bytes of
    /// `tensor_content` and `float8_val`.
    pub values: u64,
}

/// What a `TensorProto` says of itself. Repeated occurrences are merged as protobuf merges them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorView {
    pub dtype: DataType,
    /// The sent dims; at most `MAX_RANK` + 1 of them are kept, which is already one too many.
    pub shape: Shape,
    pub unknown_rank: bool,
    pub runs: SmallVec<[Run; 3]>,
    /// Payload of the last `tensor_content` field; an empty one counts as absent, as in proto3.
    pub content: Option<Range<usize>>,
}

impl TensorView {
    pub(super) fn merge(&mut self, rope: &Rope, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.next_field()? {
            let mut values = 1;
            match field.number {
                DTYPE => {
                    field.expect(Wire::Varint)?;
                    self.dtype = DataType::from_number(field.varint as i32);
                }
                TENSOR_SHAPE => {
                    field.expect(Wire::Bytes)?;
                    self.merge_shape(reader.inner(&field))?;
                }
                TENSOR_CONTENT => {
                    field.expect(Wire::Bytes)?;
                    values = field.payload.len() as u64;
                    self.content = (values > 0).then(|| field.payload.clone());
                }
                number => {
                    if let Some(list) = ValueList::from_field(number) {
                        values = count(rope, list, &field)?;
                    }
                }
            }
            self.push_run(field, values)?;
        }
        Ok(())
    }

    fn push_run(&mut self, field: Field, values: u64) -> Result<(), WireError> {
        if let Some(last) = self.runs.last_mut()
            && last.field == field.number
            && last.span.end == field.span.start
        {
            last.span.end = field.span.end;
            last.values += values;
            return Ok(());
        }
        if self.runs.len() == MAX_RUNS {
            let what = "alternating fields in a tensor";
            return Err(WireError::TooMany { at: field.span.start, what, limit: MAX_RUNS });
        }
        self.runs.push(Run { field: field.number, span: field.span, values });
        Ok(())
    }

    fn merge_shape(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.next_field()? {
            match field.number {
                2 => {
                    field.expect(Wire::Bytes)?;
                    let mut size = 0;
                    let mut dim = reader.inner(&field);
                    while let Some(part) = dim.next_field()? {
                        if part.number == 1 {
                            part.expect(Wire::Varint)?;
                            size = part.varint as i64;
                        }
                    }
                    if self.shape.rank() <= MAX_RANK {
                        self.shape.push(size);
                    }
                }
                3 => {
                    field.expect(Wire::Varint)?;
                    self.unknown_rank = field.varint != 0;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The typed lists that have values, with how many wire values each has, in field order of
    /// first appearance.
    pub fn lists(&self) -> SmallVec<[(ValueList, u64); 2]> {
        let mut lists: SmallVec<[(ValueList, u64); 2]> = SmallVec::new();
        for run in &self.runs {
            let Some(list) = ValueList::from_field(run.field).filter(|_| run.values > 0) else { continue };
            match lists.iter_mut().find(|(known, _)| *known == list) {
                Some((_, values)) => *values += run.values,
                None => lists.push((list, run.values)),
            }
        }
        lists
    }

    /// Wire values in one typed list; single floats, not pairs, for the complex lists.
    pub fn list_values(&self, list: ValueList) -> u64 {
        self.runs.iter().filter(|run| run.field == list.field()).map(|run| run.values).sum()
    }
}

/// How the elements of a typed list lie on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Varint,
    Fixed32,
    Fixed64,
    /// One field an element: strings, messages.
    Bytes,
    /// The one singular field, `float8_val`: one byte an element; the last occurrence wins.
    Blob,
}

pub(super) const fn layout(list: ValueList) -> Layout {
    match list {
        ValueList::Float | ValueList::SComplex => Layout::Fixed32,
        ValueList::Double | ValueList::DComplex => Layout::Fixed64,
        ValueList::Int
        | ValueList::Int64
        | ValueList::Bool
        | ValueList::Half
        | ValueList::Uint32
        | ValueList::Uint64 => Layout::Varint,
        ValueList::String | ValueList::ResourceHandle | ValueList::Variant => Layout::Bytes,
        ValueList::Float8 => Layout::Blob,
    }
}

fn count(rope: &Rope, list: ValueList, field: &Field) -> Result<u64, WireError> {
    let packed = |size: usize| {
        if field.payload.len().is_multiple_of(size) {
            return Ok((field.payload.len() / size) as u64);
        }
        Err(WireError::Packed { at: field.span.start, length: field.payload.len(), size })
    };
    match (layout(list), field.wire) {
        (Layout::Bytes, Wire::Bytes) | (Layout::Varint, Wire::Varint) => Ok(1),
        (Layout::Fixed32, Wire::Fixed32) | (Layout::Fixed64, Wire::Fixed64) => Ok(1),
        (Layout::Fixed32, Wire::Bytes) => packed(4),
        (Layout::Fixed64, Wire::Bytes) => packed(8),
        (Layout::Varint, Wire::Bytes) => count_varints(rope, field),
        (Layout::Blob, Wire::Bytes) => Ok(field.payload.len() as u64),
        (layout, _) => field
            .expect(match layout {
                Layout::Varint => Wire::Varint,
                Layout::Fixed32 => Wire::Fixed32,
                Layout::Fixed64 => Wire::Fixed64,
                Layout::Bytes | Layout::Blob => Wire::Bytes,
            })
            .map(|()| 0),
    }
}

/// A varint ends at each byte below 0x80; the blocks keep the sums in bytes, so that the compiler
/// can count 16 or 32 at once.
fn count_varints(rope: &Rope, field: &Field) -> Result<u64, WireError> {
    let mut ends = 0_u64;
    let mut last = 0;
    for chunk in rope.chunks(field.payload.clone()) {
        for block in chunk.chunks(192) {
            ends += u64::from(block.iter().map(|byte| u8::from(*byte < 0x80)).sum::<u8>());
        }
        last = chunk.last().copied().unwrap_or(last);
    }
    if last >= 0x80 {
        return Err(WireError::Truncated { at: field.payload.end });
    }
    if ends.saturating_mul(10) < field.payload.len() as u64 {
        return Err(WireError::LongVarint { at: field.payload.start });
    }
    Ok(ends)
}
