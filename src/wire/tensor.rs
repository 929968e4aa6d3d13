//! Scans a `tensorflow.TensorProto`: reads dtype and shape, and locates and counts the values.
use std::ops::Range;

use smallvec::SmallVec;

use super::rope::Rope;
use super::scan::{Field, Reader, Wire, WireError};
use crate::tensor::{DataType, Shape, ValueList};

/// The highest rank that TensorFlow accepts (`TensorShape::MaxDimensions`).
pub(crate) const MAX_RANK: usize = 254;

/// Maximum number of runs in a tensor. Encoders write each field in one piece; only hostile
/// messages alternate between fields.
const MAX_RUNS: usize = 256;

pub(crate) const DTYPE: u32 = 1;
pub(crate) const TENSOR_SHAPE: u32 = 2;
pub(crate) const TENSOR_CONTENT: u32 = 4;

/// Adjacent fields of the same number. A whole typed list, packed or not, is one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub field: u32,
    /// All of its fields, including their tags.
    pub span: Range<usize>,
    /// Number of values: of a typed list its elements (two for each complex number), of
    /// `tensor_content` and `float8_val` the bytes.
    pub values: u64,
}

/// A scanned `TensorProto`. Repeated fields are merged as in protobuf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorView {
    pub dtype: DataType,
    /// The sent dims. At most `MAX_RANK` + 1 are kept, which is enough to see that there are too
    /// many.
    pub shape: Shape,
    pub unknown_rank: bool,
    pub runs: SmallVec<[Run; 3]>,
    /// Payload of the last `tensor_content` field. An empty one counts as absent, as in proto3.
    pub content: Option<Range<usize>>,
    /// Whether the shape, or the map entry around the tensor, has fields that are not read. Those
    /// of the tensor itself are in `runs`.
    pub(super) other_fields: bool,
}

impl TensorView {
    /// A tensor of these encoded fields.
    ///
    /// # Errors
    /// If the bytes are not a `TensorProto`.
    pub(crate) fn of(fields: &Rope) -> Result<Self, WireError> {
        let mut view = Self::default();
        view.merge(Reader::new(fields))?;
        Ok(view)
    }

    #[inline]
    pub(super) fn merge(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
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
                        values = count(&reader, list, &field)?;
                    }
                }
            }
            self.push_run(field, values)?;
        }
        Ok(())
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        if self.runs.spilled() { self.runs.len() * size_of::<Run>() } else { 0 }
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
                        } else {
                            self.other_fields = true;
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
                _ => self.other_fields = true,
            }
        }
        Ok(())
    }

    /// Whether there may be values in a typed list: a quick look before [`Self::lists`].
    pub fn has_lists(&self) -> bool {
        self.runs.iter().any(|run| run.field > TENSOR_CONTENT)
    }

    /// The typed lists that have values, each with its number of wire values, in the order of their
    /// first occurrence.
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

    /// Number of wire values in one typed list. A complex number counts as two.
    pub fn list_values(&self, list: ValueList) -> u64 {
        self.runs.iter().filter(|run| run.field == list.field()).map(|run| run.values).sum()
    }
}

/// How the elements of a typed list are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Varint,
    Fixed32,
    Fixed64,
    /// One field for each element: strings, messages.
    Bytes,
    /// The only singular field, `float8_val`: one byte for each element. The last occurrence
    /// counts.
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

fn count(reader: &Reader<'_>, list: ValueList, field: &Field) -> Result<u64, WireError> {
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
        (Layout::Varint, Wire::Bytes) => count_varints(reader, field),
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

/// Counts the bytes below 0x80, each of which ends a varint. The sum of a block fits in a byte, so
/// the compiler can process 16 or 32 bytes at once.
fn count_varints(reader: &Reader<'_>, field: &Field) -> Result<u64, WireError> {
    reader.burn_bytes(field.payload.len())?;
    let mut ends = 0_u64;
    let mut last = 0;
    for chunk in reader.inner(field).chunks() {
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
