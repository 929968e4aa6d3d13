//! The values of an output, in order, from wherever the message has them.
use std::borrow::Cow;

use super::digits::ROOM;
use super::float::{self, Small};
use super::layout::Separator;
use super::out::Out;
use super::{Refusal, double};
use crate::tensor::{Cast, Class, DataType, Exactness, ValueList};
use crate::wire::scan::{Reader, Wire};
use crate::wire::values::{self, Carrier};
use crate::wire::{Rope, TensorView};

/// How a value is printed, and how many bytes it has.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Float,
    Double,
    Small(Small),
    Bool,
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
}

/// The numbers of a tensor.
#[derive(Debug)]
pub(super) struct Numbers<'a> {
    /// Little-endian: a part of the message, if the values lie together in it.
    bytes: Cow<'a, [u8]>,
    kind: Kind,
    /// The numbers of an element: two if it is complex.
    pub(super) lanes: usize,
    /// The numbers that the message has, at least one element.
    sent: usize,
    /// The next number.
    at: usize,
}

impl<'a> Numbers<'a> {
    /// The numbers of a tensor that has `elements`.
    ///
    /// # Errors
    /// If the dtype is not one of numbers, or the values cannot be read.
    pub(super) fn of(message: &'a Rope, tensor: &TensorView, elements: u64) -> Result<Self, Refusal> {
        let dtype = tensor.dtype;
        let unprintable = || Refusal::unprintable(dtype);
        let info = dtype.info().ok_or_else(unprintable)?;
        let carrier = match (&tensor.content, info.size) {
            (Some(_), Some(size)) => Carrier::Content { size },
            _ => Carrier::List(info.list),
        };
        let from_list = matches!(carrier, Carrier::List(_));
        let (kind, lanes) = kind(dtype, from_list).ok_or_else(unprintable)?;
        let mut bytes = match together(message, tensor, carrier) {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(copied(message, tensor, carrier)?),
        };
        let number_cast = match kind {
            Kind::Small(_) => Cast::new(dtype, DataType::FLOAT, Exactness::Exact),
            Kind::Signed32 if !from_list => Cast::new(dtype, DataType::INT32, Exactness::Exact),
            _ => None,
        };
        if let Some(cast) = number_cast {
            let mut wide = Vec::new();
            cast.convert(&bytes, &mut wide);
            bytes = Cow::Owned(wide);
        }
        let width = kind.width();
        let mut sent = bytes.len() / width / lanes * lanes;
        if !from_list && sent as u64 != elements.saturating_mul(lanes as u64) {
            return Err(Refusal::unreadable("the size of its `tensor_content`"));
        }
        if sent == 0 {
            // No value at all stands for zeros (`Tensor::FromProto`).
            bytes = Cow::Owned(vec![0; 16]);
            sent = lanes;
        }
        Ok(Self { bytes, kind, lanes, sent, at: 0 })
    }

    /// The length that a number probably has.
    pub(super) fn expected_length(&self) -> usize {
        match self.kind {
            Kind::Float => 14,
            Kind::Double => 19,
            Kind::Small(_) => 7,
            Kind::Bool => 5,
            Kind::Signed8 | Kind::Unsigned8 => 3,
            Kind::Signed16 | Kind::Unsigned16 => 5,
            Kind::Signed32 | Kind::Unsigned32 => 6,
            Kind::Signed64 | Kind::Unsigned64 => 8,
        }
    }

    /// How many numbers the message has.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Writes the next numbers. If the message has no more, the last element is repeated
    /// (`Tensor::FromProto`).
    pub(super) fn write(&mut self, out: &mut Out, count: usize, between: &Separator) -> Result<(), Refusal> {
        match self.kind {
            Kind::Float => self.each_of(out, count, between, Out::floats),
            Kind::Double => self.each(out, count, between, |b, to| double::write(f64::from_le_bytes(b), to)),
            Kind::Small(small) => {
                self.each(out, count, between, |b, to| float::write_small(f32::from_le_bytes(b), small, to))
            }
            Kind::Bool => self.each(out, count, between, |[b]: [u8; 1], to| {
                text(if b == 0 { "false" } else { "true" }, to)
            }),
            Kind::Unsigned8 => self.each(out, count, between, |b, to| integer(u8::from_le_bytes(b), to)),
            Kind::Unsigned16 => self.each(out, count, between, |b, to| integer(u16::from_le_bytes(b), to)),
            Kind::Unsigned32 => self.each(out, count, between, |b, to| integer(u32::from_le_bytes(b), to)),
            Kind::Unsigned64 => self.each(out, count, between, |b, to| integer(u64::from_le_bytes(b), to)),
            Kind::Signed8 => self.each(out, count, between, |b, to| integer(i8::from_le_bytes(b), to)),
            Kind::Signed16 => self.each(out, count, between, |b, to| integer(i16::from_le_bytes(b), to)),
            Kind::Signed32 => self.each(out, count, between, |b, to| integer(i32::from_le_bytes(b), to)),
            Kind::Signed64 => self.each(out, count, between, |b, to| integer(i64::from_le_bytes(b), to)),
        }
    }

    #[inline]
    fn each<const N: usize>(
        &mut self,
        out: &mut Out,
        count: usize,
        between: &Separator,
        write: impl Fn([u8; N], &mut [u8; ROOM]) -> usize,
    ) -> Result<(), Refusal> {
        self.each_of(out, count, between, |out, numbers, between| out.numbers(numbers, between, &write))
    }

    #[inline]
    fn each_of<const N: usize>(
        &mut self,
        out: &mut Out,
        count: usize,
        between: &Separator,
        write: impl Fn(&mut Out, &[[u8; N]], &Separator) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let numbers = self.bytes.as_chunks::<N>().0;
        let numbers = numbers.get(..self.sent).unwrap_or(numbers);
        let next = numbers.get(self.at..).unwrap_or_default();
        let next = next.get(..count).unwrap_or(next);
        write(out, next, between)?;
        let last = numbers.get(self.sent - self.lanes..).unwrap_or_default();
        for at in self.at + next.len()..self.at + count {
            let number = last.get(at % self.lanes).copied().unwrap_or([0; N]);
            write(out, &[number], between)?;
        }
        self.at += count;
        out.drop_separator(between);
        Ok(())
    }
}

impl Kind {
    const fn width(self) -> usize {
        match self {
            Self::Bool | Self::Unsigned8 | Self::Signed8 => 1,
            Self::Unsigned16 | Self::Signed16 => 2,
            Self::Float | Self::Small(_) | Self::Unsigned32 | Self::Signed32 => 4,
            Self::Double | Self::Unsigned64 | Self::Signed64 => 8,
        }
    }
}

/// How the values of a dtype are printed, and how many numbers an element has. `None` for strings
/// and handles.
fn kind(dtype: DataType, from_list: bool) -> Option<(Kind, usize)> {
    let small = |mantissa, least| Some((Kind::Small(Small { mantissa, least }), 1));
    let info = dtype.info()?;
    match dtype {
        DataType::FLOAT => return Some((Kind::Float, 1)),
        DataType::DOUBLE => return Some((Kind::Double, 1)),
        DataType::COMPLEX64 => return Some((Kind::Float, 2)),
        DataType::COMPLEX128 => return Some((Kind::Double, 2)),
        DataType::HALF => return small(10, -14),
        DataType::BFLOAT16 => return small(7, -126),
        DataType::FLOAT8_E5M2 => return small(2, -14),
        DataType::FLOAT8_E4M3FN => return small(3, -6),
        DataType::FLOAT8_E4M3FNUZ => return small(3, -7),
        DataType::FLOAT8_E4M3B11FNUZ => return small(3, -10),
        DataType::FLOAT8_E5M2FNUZ => return small(2, -15),
        DataType::FLOAT4_E2M1FN => return small(1, 0),
        _ => {}
    }
    let unsigned = info.class == Class::Unsigned || matches!(dtype, DataType::QUINT8 | DataType::QUINT16);
    let kind = match (info.list, info.size) {
        (ValueList::Bool, _) => Kind::Bool,
        (ValueList::Int64, _) => Kind::Signed64,
        (ValueList::Uint32, _) => Kind::Unsigned32,
        (ValueList::Uint64, _) => Kind::Unsigned64,
        (ValueList::Int, _) if from_list => Kind::Signed32,
        // They fill a part of their byte.
        (ValueList::Int, Some(1)) if matches!(dtype.number(), 29..=32) => Kind::Signed32,
        (ValueList::Int, Some(1)) if unsigned => Kind::Unsigned8,
        (ValueList::Int, Some(2)) if unsigned => Kind::Unsigned16,
        (ValueList::Int, Some(1)) => Kind::Signed8,
        (ValueList::Int, Some(2)) => Kind::Signed16,
        (ValueList::Int, _) => Kind::Signed32,
        _ => return None,
    };
    Some((kind, 1))
}

/// The values as they are in the message, if they lie together in one chunk.
fn together<'a>(message: &'a Rope, tensor: &TensorView, carrier: Carrier) -> Option<&'a [u8]> {
    let range = match carrier {
        Carrier::Content { .. } => tensor.content.clone()?,
        Carrier::List(
            list @ (ValueList::Float | ValueList::Double | ValueList::SComplex | ValueList::DComplex),
        ) => {
            let mut runs = tensor.runs.iter().filter(|run| run.field == list.field());
            let run = runs.next()?;
            let mut reader = Reader::of_range(message, &run.span);
            let field = reader.next_field().ok()??;
            if runs.next().is_some() || !reader.is_at_end() || field.wire != Wire::Bytes {
                return None;
            }
            field.payload
        }
        Carrier::List(_) => return None,
    };
    let length = range.len();
    message.chunks(range).next().filter(|chunk| chunk.len() == length)
}

/// The values, decoded and joined.
fn copied(message: &Rope, tensor: &TensorView, carrier: Carrier) -> Result<Vec<u8>, Refusal> {
    let bytes = match carrier {
        Carrier::Content { .. } => tensor.content.as_ref().map_or(0, ExactSizeIterator::len),
        Carrier::List(list) => {
            let values = usize::try_from(tensor.list_values(list)).unwrap_or(usize::MAX);
            let lanes = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
            values.saturating_mul(values::width(list)) / lanes
        }
    };
    // Every value was counted in the message, in which it has at least one byte.
    let mut all = Vec::with_capacity(bytes.min(message.len().saturating_mul(8)));
    let read = values::read::<()>(message, tensor, carrier, &mut |block| {
        all.extend_from_slice(block);
        Ok(())
    });
    read.map(|()| all).map_err(|_| Refusal::unreadable("its values"))
}

fn text(text: &str, to: &mut [u8; ROOM]) -> usize {
    to[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

fn integer(value: impl itoa::Integer, to: &mut [u8; ROOM]) -> usize {
    text(itoa::Buffer::new().format(value), to)
}

/// The strings of a tensor.
#[derive(Debug)]
pub(super) struct Strings<'a> {
    message: &'a Rope,
    tensor: &'a TensorView,
    /// The next run, and the fields of the current one.
    run: usize,
    fields: Option<Reader<'a>>,
    last: Cow<'a, [u8]>,
}

impl<'a> Strings<'a> {
    pub(super) fn of(message: &'a Rope, tensor: &'a TensorView) -> Self {
        Self { message, tensor, run: 0, fields: None, last: Cow::Borrowed(&[]) }
    }

    /// The bytes of the strings and of their fields.
    pub(super) fn sent_bytes(&self) -> usize {
        self.tensor.runs.iter().map(|run| run.span.len()).sum()
    }

    /// The next string. If the message has no more, the last one, or an empty one.
    pub(super) fn next(&mut self) -> Result<&[u8], Refusal> {
        loop {
            let Some(fields) = &mut self.fields else {
                let Some(run) = self.tensor.runs.get(self.run) else { return Ok(&self.last) };
                self.run += 1;
                if run.field == ValueList::String.field() {
                    self.fields = Some(Reader::of_range(self.message, &run.span));
                }
                continue;
            };
            let Some(field) = fields.next_field().map_err(|_| Refusal::unreadable("its strings"))? else {
                self.fields = None;
                continue;
            };
            let length = field.payload.len();
            let mut chunks = self.message.chunks(field.payload);
            let first = chunks.next().unwrap_or_default();
            self.last = Cow::Borrowed(first);
            if first.len() < length {
                let mut all = first.to_vec();
                all.extend(chunks.flatten());
                self.last = Cow::Owned(all);
            }
            return Ok(&self.last);
        }
    }
}
