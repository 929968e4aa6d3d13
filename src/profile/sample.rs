//! Reads some values of a tensor as `f64`: whole groups of features, strided over the whole tensor.
use std::ops::Range;

use crate::profile::By;
use crate::tensor::{DataType, ValueList};
use crate::wire::values::{self, Carrier};
use crate::wire::{Rope, TensorView};

/// Values of one request. They are ordered by row, then group, then feature. A group has one value
/// of each feature: it is a row of `[N, F]`, and one of several time steps or pixels of a row
/// otherwise.
#[derive(Debug, Default, Clone)]
pub struct Sample {
    /// `rows * groups * features` numbers. Integers above 2^53 are rounded.
    pub values: Vec<f64>,
    /// Features or channels, 1 for a tensor as a whole.
    pub features: usize,
    /// Groups that were read of each row.
    pub groups: usize,
    /// Rows that were read.
    pub rows: usize,
    /// Rows of the request.
    pub total_rows: u64,
    /// Whether every group of the rows was read.
    pub whole_rows: bool,
}

/// How much of a request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Values. At least one group is read.
    pub values: usize,
    pub rows: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: 4096, rows: 64 }
    }
}

impl Sample {
    /// The values of a row.
    pub fn row(&self, row: usize) -> &[f64] {
        let size = self.groups * self.features;
        self.values.get(row * size..(row + 1) * size).unwrap_or_default()
    }

    /// A sample of whole rows of `features` numbers each. Numbers that fill no row are dropped.
    pub fn of_rows(features: usize, values: &[f64]) -> Self {
        let rows = values.len() / features.max(1);
        Self {
            values: values[..rows * features].to_vec(),
            features,
            groups: 1,
            rows,
            total_rows: rows as u64,
            whole_rows: true,
        }
    }

    /// Replaces the sample by one of a tensor with numbers, whose shape fits the features. It does
    /// not allocate once the buffer is as large as the budget.
    ///
    /// `features` is the number of features of the profile. Returns whether something was read: not
    /// if the last axis has another size, if the values are not numbers, or if there are not as
    /// many as the shape says (TensorFlow repeats the last one then, `tensor.cc`).
    pub fn read(
        &mut self,
        message: &Rope,
        tensor: &TensorView,
        by: By,
        features: usize,
        budget: Budget,
    ) -> bool {
        self.values.clear();
        self.rows = 0;
        let Ok(elements) = tensor.shape.elements() else { return false };
        let Some(source) = Source::of(message, tensor, elements) else { return false };
        let counted = matches!(source, Source::Counted(_));
        let Some(plan) = Plan::new(tensor, elements, by, features, budget, counted) else { return false };
        let read = match source {
            Source::Fixed(span, dtype) => self.fixed(message, &plan, span, dtype),
            Source::Counted(list) => self.counted(message, tensor, &plan, list),
        };
        (self.features, self.groups, self.rows) = (plan.features, plan.groups, plan.rows);
        (self.total_rows, self.whole_rows) = (plan.total_rows, plan.groups == plan.row_groups);
        if read && self.values.len() == plan.rows * plan.groups * plan.features {
            return true;
        }
        self.values.clear();
        self.rows = 0;
        false
    }

    /// From elements of a fixed size that lie in one piece of the message, but in several chunks.
    fn fixed(&mut self, message: &Rope, plan: &Plan, span: Range<usize>, dtype: DataType) -> bool {
        let Some(size) = dtype.size() else { return false };
        match dtype {
            // The compiler makes a loop of its own for the most frequent one.
            DataType::FLOAT => {
                self.gather(message, plan, span, size, |bytes, out| push(DataType::FLOAT, bytes, out))
            }
            other => self.gather(message, plan, span, size, |bytes, out| push(other, bytes, out)),
        }
    }

    fn gather(
        &mut self,
        message: &Rope,
        plan: &Plan,
        span: Range<usize>,
        size: usize,
        push: impl Fn(&[u8], &mut Vec<f64>),
    ) -> bool {
        let length = plan.features * size;
        let mut chunks = message.chunks(span);
        let mut cursor = Cursor { chunk: chunks.next().unwrap_or_default(), start: 0, rest: chunks };
        let mut carry = [0_u8; 16];
        let mut read = |at: usize, out: &mut Vec<f64>| {
            let (mut from, end) = (at * length, (at + 1) * length);
            while from < end {
                // All whole elements of this chunk at once, and one that lies in several by itself.
                let Some(bytes) = cursor.whole(from, end, size) else { return false };
                if !bytes.is_empty() {
                    push(bytes, out);
                    from += bytes.len();
                    continue;
                }
                let Some(bytes) = cursor.element(from, size, &mut carry) else { return false };
                push(bytes, out);
                from += size;
            }
            true
        };
        plan.groups().all(|at| read(at, &mut self.values))
    }

    /// From a typed list whose elements must be counted.
    fn counted(&mut self, message: &Rope, tensor: &TensorView, plan: &Plan, list: ValueList) -> bool {
        let width = values::width(list);
        if width == 0 || width > 8 {
            return false;
        }
        let mut groups = plan.groups().peekable();
        let (mut at, features, dtype) = (0_usize, plan.features, tensor.dtype);
        let target = plan.rows * plan.groups * plan.features;
        // It stops once it has enough, which is not an error.
        let stopped = values::read::<()>(message, tensor, Carrier::List(list), &mut |block| {
            let elements = block.len() / width;
            while let Some(group) = groups.peek() {
                let from = (group * features).max(at);
                let to = ((group + 1) * features).min(at + elements);
                if from >= at + elements {
                    break;
                }
                push_list(list, dtype, &block[(from - at) * width..(to - at) * width], &mut self.values);
                if to < (group + 1) * features {
                    break;
                }
                groups.next();
            }
            at += elements;
            if self.values.len() >= target { Err(()) } else { Ok(()) }
        });
        drop(stopped);
        self.values.len() == target
    }
}

/// Where the values are.
enum Source {
    /// In one piece, as elements of this dtype.
    Fixed(Range<usize>, DataType),
    /// In a list whose elements must be counted: varints, or fields that are not packed.
    Counted(ValueList),
}

impl Source {
    /// `None` if there are not as many values as the shape says.
    fn of(message: &Rope, tensor: &TensorView, elements: u64) -> Option<Self> {
        let info = tensor.dtype.info()?;
        if let Some(content) = &tensor.content {
            let fits = content.len() as u64 == elements.checked_mul(info.size? as u64)?;
            return fits.then(|| Self::Fixed(content.clone(), tensor.dtype));
        }
        if tensor.list_values(info.list) != elements {
            return None;
        }
        Some(match values::packed_fixed(message, tensor, info.list) {
            Some(span) => Self::Fixed(span, info.list.native()?),
            None => Self::Counted(info.list),
        })
    }
}

/// Which groups are read.
struct Plan {
    features: usize,
    /// Groups of each row, and how many of them are read.
    row_groups: usize,
    groups: usize,
    rows: usize,
    total_rows: u64,
    /// Rows at the beginning that are reached, 0 for a part of the first; `None` for all.
    prefix: Option<usize>,
}

/// Elements of a list of varints that are counted at most: to count more costs more than it tells.
const MAX_COUNTED: usize = 2 * 4096;

impl Plan {
    fn new(
        tensor: &TensorView,
        elements: u64,
        by: By,
        features: usize,
        budget: Budget,
        counted: bool,
    ) -> Option<Self> {
        let dims: &[i64] = &tensor.shape;
        let features = if by == By::Whole { 1 } else { features };
        let last = usize::try_from(*dims.last().unwrap_or(&1)).ok()?;
        if elements == 0 || features == 0 || (by != By::Whole && features != 1 && last != features) {
            return None;
        }
        let total_rows = match dims {
            [] => 1,
            [only] if by == By::Whole || features == 1 => u64::try_from(*only).ok()?,
            [_] => 1,
            [rows, ..] => u64::try_from(*rows).ok()?,
        };
        let row_groups = usize::try_from(elements / total_rows / features as u64).ok()?;
        if row_groups == 0 {
            return None;
        }
        let mut plan = Self { features, row_groups, groups: 1, rows: 1, total_rows, prefix: None };
        let groups = (budget.values / features).max(1);
        plan.rows = budget.rows.max(1).min(groups).min(usize::try_from(total_rows).unwrap_or(usize::MAX));
        plan.groups = (groups / plan.rows).clamp(1, row_groups);
        if counted && elements > MAX_COUNTED as u64 {
            plan.prefix(MAX_COUNTED, groups);
        }
        Some(plan)
    }

    /// Reads only groups of the first elements, at most this many.
    fn prefix(&mut self, elements: usize, groups: usize) {
        let row = self.row_groups * self.features;
        let whole = elements / row;
        self.prefix = Some(whole);
        self.rows = self.rows.min(whole.max(1));
        self.groups = (groups / self.rows).clamp(1, self.row_groups);
        if whole == 0 {
            self.groups = self.groups.min((elements / self.features).max(1));
        }
    }

    /// The groups that are read, ascending, spread over the rows and over each row.
    fn groups(&self) -> impl Iterator<Item = usize> + use<> {
        let rows = match self.prefix {
            Some(rows) => rows.max(1) as u64,
            None => self.total_rows,
        };
        let (take, groups, row_groups) = (self.rows as u64, self.groups as u64, self.row_groups as u64);
        let spread = if self.prefix == Some(0) { groups } else { row_groups };
        let (step, rest) = (spread / groups, spread % groups);
        (0..take).flat_map(move |row| {
            let (mut at, mut over) = (row * rows / take * row_groups, 0);
            // The group `n * spread / groups` of the row, without a division for each.
            (0..groups).map(move |_| {
                let group = at;
                (at, over) = (at + step, over + rest);
                if over >= groups {
                    (at, over) = (at + 1, over - groups);
                }
                group as usize
            })
        })
    }
}

/// Reads elements at ascending positions from the chunks of a message.
struct Cursor<'a, I> {
    chunk: &'a [u8],
    /// Position of the chunk in the tensor.
    start: usize,
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cursor<'a, I> {
    /// The whole elements in the chunk of a position, which is not before that of the last call, up
    /// to `end`. `None` beyond the last chunk.
    #[inline]
    fn whole(&mut self, from: usize, end: usize, size: usize) -> Option<&'a [u8]> {
        while from >= self.start + self.chunk.len() {
            self.start += self.chunk.len();
            self.chunk = self.rest.next()?;
        }
        let rest = self.chunk.get(from - self.start..)?;
        let wanted = end - from;
        let take = if rest.len() >= wanted { wanted } else { rest.len() - rest.len() % size };
        rest.get(..take)
    }

    /// An element, which is assembled in `carry` if it lies in several chunks.
    fn element<'b>(&mut self, at: usize, size: usize, carry: &'b mut [u8; 16]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        while at >= self.start + self.chunk.len() {
            self.start += self.chunk.len();
            self.chunk = self.rest.next()?;
        }
        let from = at - self.start;
        if let Some(bytes) = self.chunk.get(from..from + size) {
            return Some(bytes);
        }
        let mut filled = 0;
        while filled < size {
            let have = self.chunk.get(at + filled - self.start..).unwrap_or_default();
            let take = have.len().min(size - filled);
            carry.get_mut(filled..filled + take)?.copy_from_slice(&have[..take]);
            filled += take;
            if filled < size {
                self.start += self.chunk.len();
                self.chunk = self.rest.next()?;
            }
        }
        carry.get(..size)
    }
}

/// Appends elements of `tensor_content`. Nothing is appended for dtypes that are not real numbers.
#[inline]
fn push(dtype: DataType, bytes: &[u8], out: &mut Vec<f64>) {
    macro_rules! each {
        ($size:literal, $read:expr) => {
            out.extend(bytes.as_chunks::<$size>().0.iter().map(|bytes| $read(*bytes)))
        };
    }
    match dtype {
        DataType::FLOAT => each!(4, |b| f64::from(f32::from_le_bytes(b))),
        DataType::DOUBLE => each!(8, f64::from_le_bytes),
        DataType::HALF => each!(2, |b| half::f16::from_le_bytes(b).to_f64()),
        DataType::BFLOAT16 => each!(2, |b| half::bf16::from_le_bytes(b).to_f64()),
        DataType::INT64 => each!(8, |b| i64::from_le_bytes(b) as f64),
        DataType::UINT64 => each!(8, |b| u64::from_le_bytes(b) as f64),
        DataType::INT32 | DataType::QINT32 => each!(4, |b| f64::from(i32::from_le_bytes(b))),
        DataType::UINT32 => each!(4, |b| f64::from(u32::from_le_bytes(b))),
        DataType::INT16 | DataType::QINT16 => each!(2, |b| f64::from(i16::from_le_bytes(b))),
        DataType::UINT16 | DataType::QUINT16 => each!(2, |b| f64::from(u16::from_le_bytes(b))),
        DataType::INT8 | DataType::QINT8 => each!(1, |b| f64::from(i8::from_le_bytes(b))),
        DataType::UINT8 | DataType::QUINT8 | DataType::BOOL => each!(1, |b: [u8; 1]| f64::from(b[0])),
        other => crate::tensor::each_f64(other, bytes, |value| out.push(value)),
    }
}

/// Appends elements as [`values::read`] delivers them for a typed list.
fn push_list(list: ValueList, dtype: DataType, bytes: &[u8], out: &mut Vec<f64>) {
    match list.native() {
        Some(native) => push(native, bytes, out),
        // The bits of half and bfloat16, and the bytes of the float8 dtypes.
        None => push(dtype, bytes, out),
    }
}
