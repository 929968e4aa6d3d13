//! The values of a tensor in the form in which they are joined and compared: little-endian
//! elements, or one field for each string.
use std::ops::Range;

use super::sharable::Bypass;
use crate::tensor::{DtypeInfo, ValueList};
use crate::wire::emit::varint_size;
use crate::wire::rope::Rope;
use crate::wire::scan::{Reader, Wire};
use crate::wire::tensor::{DTYPE, Run, TENSOR_CONTENT, TENSOR_SHAPE};
use crate::wire::values::{self, Carrier};
use crate::wire::{TensorView, WireError};

/// Where the values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// These bytes of the message are the elements.
    Elements(Range<usize>),
    /// The elements are decoded from a list, and the last one is repeated.
    Decoded { list: ValueList, bytes: u64 },
    /// All fields of `string_val`.
    Strings,
    /// This field of `string_val` stands for all elements.
    OneString { field: Range<usize>, bytes: u64 },
}

/// Size of two complex numbers.
const MAX_UNPACKED: usize = 32;

impl Source {
    /// Finds the values of a tensor with this many elements.
    ///
    /// # Errors
    /// They are in several fields, in an unusual one, or there are too many or too few.
    pub(super) fn of(tensor: &TensorView, dtype: &DtypeInfo, elements: u64) -> Result<Self, Bypass> {
        let mut carrier: Option<&Run> = None;
        let (mut runs, mut values) = (0, 0);
        for run in &tensor.runs {
            match run.field {
                DTYPE | TENSOR_SHAPE => {}
                field if carrier.is_none_or(|carrier| carrier.field == field) => {
                    carrier = Some(run);
                    runs += 1;
                    values += run.values;
                }
                _ => return Err(Bypass::Encoding),
            }
        }
        let Some(run) = carrier.filter(|_| values > 0) else {
            return if elements == 0 { Ok(Self::Elements(0..0)) } else { Err(Bypass::NotConforming) };
        };
        if run.field == TENSOR_CONTENT {
            let size = dtype.size.ok_or(Bypass::Encoding)? as u64;
            let content = tensor.content.clone().unwrap_or_default();
            let fits = elements.checked_mul(size) == Some(content.len() as u64);
            return if fits { Ok(Self::Elements(content)) } else { Err(Bypass::NotConforming) };
        }
        if run.field != dtype.list.field() {
            return Err(Bypass::Encoding);
        }
        let list = dtype.list;
        let per_element = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
        if values % per_element != 0 {
            return Err(Bypass::Encoding);
        }
        let values = values / per_element;
        if values > elements {
            return Err(Bypass::NotConforming);
        }
        let Some(size) = dtype.size else {
            return match list {
                ValueList::String if values == elements => Ok(Self::Strings),
                ValueList::String if values == 1 && runs == 1 => {
                    let bytes = elements.saturating_mul(run.span.len() as u64);
                    Ok(Self::OneString { field: run.span.clone(), bytes })
                }
                _ => Err(Bypass::Encoding),
            };
        };
        let bytes = elements.saturating_mul(size as u64);
        let like_content = matches!(
            list,
            ValueList::Float
                | ValueList::Double
                | ValueList::SComplex
                | ValueList::DComplex
                | ValueList::Float8
        );
        if like_content && values == elements && runs == 1 && is_one_field(run, bytes) {
            return Ok(Self::Elements(run.span.end - bytes as usize..run.span.end));
        }
        // A later `float8_val` replaces an earlier one.
        if list == ValueList::Float8 && !(runs == 1 && is_one_field(run, values)) {
            return Err(Bypass::Encoding);
        }
        Ok(Self::Decoded { list, bytes })
    }

    /// Bytes that [`Source::read`] allocates.
    pub(super) fn expansion(&self) -> u64 {
        match self {
            Self::Elements(_) | Self::Strings => 0,
            Self::Decoded { bytes, .. } | Self::OneString { bytes, .. } => *bytes,
        }
    }

    /// The elements, or the fields of the strings. Nothing is copied unless it has to be decoded or
    /// repeated.
    ///
    /// # Errors
    /// The values are not encoded as their number and size make likely.
    pub(super) fn read(&self, message: &Rope, tensor: &TensorView) -> Result<Rope, Bypass> {
        match self {
            Self::Elements(range) if range.is_empty() => Ok(Rope::new()),
            Self::Elements(range) => {
                let own = tensor.content.as_ref() == Some(range);
                if own || starts_field(message, tensor, range) {
                    return Ok(message.slice(range.clone()));
                }
                // Two unpacked values are as long as a packed field. Nothing was charged for them.
                if range.len() > MAX_UNPACKED {
                    return Err(Bypass::Encoding);
                }
                let list = tensor.dtype.info().ok_or(Bypass::Dtype)?.list;
                Self::Decoded { list, bytes: range.len() as u64 }.read(message, tensor)
            }
            Self::Decoded { list, bytes } => {
                let size = tensor.dtype.size().ok_or(Bypass::Dtype)?;
                let bytes = usize::try_from(*bytes).map_err(|_| Bypass::TooLarge)?;
                let mut all = Vec::with_capacity(bytes);
                decode(message, tensor, *list, size, &mut all).map_err(|_| Bypass::Encoding)?;
                let last = all.len().checked_sub(size).ok_or(Bypass::NotConforming)?;
                let mut left = bytes.checked_sub(all.len()).ok_or(Bypass::NotConforming)?;
                while left > 0 {
                    // Twice as much each time.
                    let take = left.min(all.len() - last);
                    all.extend_from_within(last..last + take);
                    left -= take;
                }
                Ok(Rope::from(all))
            }
            Self::Strings => {
                let mut fields = Rope::new();
                for run in tensor.runs.iter().filter(|run| run.field == ValueList::String.field()) {
                    fields.append(message.slice(run.span.clone()));
                }
                Ok(fields)
            }
            Self::OneString { field, bytes } => {
                let one = message.slice(field.clone()).to_bytes();
                let count = (*bytes / one.len().max(1) as u64) as usize;
                Ok(Rope::from(one.repeat(count)))
            }
        }
    }
}

/// Whether a run can be one packed field with this many bytes of values, judged by its length.
fn is_one_field(run: &Run, bytes: u64) -> bool {
    let head = varint_size(u64::from(run.field) << 3) + varint_size(bytes);
    run.span.len() as u64 == bytes + head as u64
}

/// Whether the range is the whole payload of a packed field that is a run of its own.
fn starts_field(message: &Rope, tensor: &TensorView, range: &Range<usize>) -> bool {
    let Some(run) = tensor.runs.iter().find(|run| run.span.end == range.end) else { return false };
    let field = Reader::of_range(message, &run.span).next_field();
    matches!(field, Ok(Some(field)) if field.wire == Wire::Bytes && field.payload == *range)
}

/// Appends the elements of a list, `size` bytes each. Integers are cut to that size, as TensorFlow
/// does when it reads `int_val` as int8 (`tensor.cc`).
pub(super) fn decode(
    message: &Rope,
    tensor: &TensorView,
    list: ValueList,
    size: usize,
    all: &mut Vec<u8>,
) -> Result<(), WireError> {
    let width = values::width(list);
    let read = values::read(message, tensor, Carrier::List(list), &mut |block| {
        if width == size {
            all.extend_from_slice(block);
        } else {
            block.chunks_exact(width).for_each(|wide| all.extend_from_slice(&wide[..size.min(width)]));
        }
        Ok::<(), std::convert::Infallible>(())
    });
    match read {
        Ok(()) => Ok(()),
        Err(values::Stop::Wire(error)) => Err(error),
        Err(values::Stop::Sink(never)) => match never {},
    }
}
