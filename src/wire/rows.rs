//! Slices and joins tensors along dimension 0 without copying their values.
use std::ops::Range;

use super::emit::{self, TensorEdit};
use super::rope::Rope;
use super::scan::{Field, Reader, Wire, WireError};
use super::tensor::{Layout, Run, TensorView, layout};
use crate::tensor::{Shape, ValueList};

/// Why rows could not be cut or joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    #[error("expected a tensor with rows, got shape {shape}")]
    NoRows { shape: Shape },
    #[error("expected {expected} rows, got {found}")]
    Count { expected: i64, found: i64 },
    #[error("the list of values is shorter than the shape")]
    ShortList,
    #[error("strings in tensor_content cannot be cut")]
    StringContent,
    #[error("the responses have different outputs")]
    Outputs,
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The values of some rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// Bytes of `tensor_content`.
    Content(Rope),
    /// Encoded fields of a typed list.
    List(Rope),
    /// The one value that all elements share, as an encoded field.
    Fill(Rope),
}

/// The number of rows of a tensor.
///
/// # Errors
/// If the tensor is a scalar.
pub(crate) fn rows_of(tensor: &TensorView) -> Result<i64, RowsError> {
    tensor.shape.first().copied().ok_or_else(|| RowsError::NoRows { shape: tensor.shape.clone() })
}

/// The values of a range of rows, not copied.
///
/// # Errors
/// If the tensor has no rows, or its values cannot be cut between rows.
pub(crate) fn take(message: &Rope, tensor: &TensorView, rows: &Range<u64>) -> Result<Piece, RowsError> {
    let mut cutter = Cutter::new(message, tensor)?;
    cutter.next(rows.start)?;
    cutter.next(rows.end - rows.start)
}

/// Cuts a tensor into pieces of consecutive rows. All pieces together take one pass over the
/// values.
#[derive(Debug)]
pub(crate) struct Cutter<'a> {
    message: &'a Rope,
    /// Bytes of `tensor_content` in a row, or wire values of a list.
    per_row: u64,
    left: Left<'a>,
}

/// The values that were not taken yet.
#[derive(Debug)]
enum Left<'a> {
    Content(Range<usize>),
    List(Values<'a>),
    Fill(Rope),
}

impl<'a> Cutter<'a> {
    /// # Errors
    /// If the tensor has no rows, or its values cannot be cut between rows.
    pub(crate) fn new(message: &'a Rope, tensor: &'a TensorView) -> Result<Self, RowsError> {
        let no_rows = || RowsError::NoRows { shape: tensor.shape.clone() };
        let (_, inner) = tensor.shape.split_first().ok_or_else(no_rows)?;
        let stride = Shape::from(inner).elements().map_err(|_| no_rows())?;
        let elements = tensor.shape.elements().map_err(|_| no_rows())?;
        if let Some(content) = &tensor.content {
            let size = tensor.dtype.size().ok_or(RowsError::StringContent)?;
            let left = Left::Content(content.clone());
            return Ok(Self { message, per_row: stride.saturating_mul(size as u64), left });
        }
        let list = tensor.dtype.info().map_or(ValueList::Variant, |info| info.list);
        let per_element = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
        let per_row = stride.saturating_mul(per_element);
        let mut values = Values::new(message, tensor, list);
        let left = match tensor.list_values(list) {
            found if Some(found) == elements.checked_mul(per_element) => Left::List(values),
            found if found == per_element => Left::Fill(values.take(per_element)?),
            _ => return Err(RowsError::ShortList),
        };
        Ok(Self { message, per_row, left })
    }

    /// The values of the next rows, not copied.
    ///
    /// # Errors
    /// If the values cannot be read.
    pub(crate) fn next(&mut self, rows: u64) -> Result<Piece, RowsError> {
        let count = rows.saturating_mul(self.per_row);
        Ok(match &mut self.left {
            Left::Content(left) => {
                let start = left.start;
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                left.start = start.saturating_add(count).min(left.end);
                Piece::Content(self.message.slice(start..left.start))
            }
            Left::List(values) => Piece::List(values.take(count)?),
            Left::Fill(value) => Piece::Fill(value.clone()),
        })
    }
}

/// Reads the encoded values of a typed list from front to back.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    message: &'a Rope,
    list: ValueList,
    runs: std::slice::Iter<'a, Run>,
    /// The fields of the current run.
    fields: Option<Reader<'a>>,
    /// What is left of a packed field.
    packed: Option<Packed<'a>>,
}

#[derive(Debug)]
struct Packed<'a> {
    values: Reader<'a>,
    /// Bytes of a value; `None` for varints.
    width: Option<usize>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(message: &'a Rope, tensor: &'a TensorView, list: ValueList) -> Self {
        Self { message, list, runs: tensor.runs.iter(), fields: None, packed: None }
    }

    /// Encoded fields with the next values, or with all that are left.
    ///
    /// # Errors
    /// If the values cannot be read.
    pub(crate) fn take(&mut self, mut count: u64) -> Result<Rope, WireError> {
        let mut out = Rope::new();
        // Adjacent fields of one value each, such as strings, become one slice.
        let mut single = 0..0;
        while count > 0 {
            if let Some(packed) = &mut self.packed {
                let start = packed.values.position();
                count -= packed.advance(count)?;
                let taken = self.message.slice(start..packed.values.position());
                if packed.values.is_at_end() {
                    self.packed = None;
                }
                if !taken.is_empty() {
                    out.append(emit::list(self.list, taken));
                }
                continue;
            }
            let Some(field) = self.next_field()? else { break };
            if self.packed.is_none() && single.end == field.span.start {
                single.end = field.span.end;
            } else {
                let next = if self.packed.is_none() { field.span } else { 0..0 };
                out.append(self.message.slice(std::mem::replace(&mut single, next)));
            }
            count -= u64::from(self.packed.is_none());
        }
        out.append(self.message.slice(single));
        Ok(out)
    }

    /// The next field of the list. If it is packed, its values are those to be taken next.
    fn next_field(&mut self) -> Result<Option<Field>, WireError> {
        loop {
            let Some(fields) = &mut self.fields else {
                let Some(run) = self.runs.find(|run| run.field == self.list.field()) else { return Ok(None) };
                self.fields = Some(Reader::of_range(self.message, &run.span));
                continue;
            };
            let Some(field) = fields.next_field()? else {
                self.fields = None;
                continue;
            };
            let width = match (layout(self.list), field.wire) {
                (Layout::Fixed32, Wire::Bytes) => Some(4),
                (Layout::Fixed64, Wire::Bytes) => Some(8),
                (Layout::Blob, _) => Some(1),
                (Layout::Varint, Wire::Bytes) => None,
                // One field, one value.
                _ => return Ok(Some(field)),
            };
            self.packed = Some(Packed { values: fields.inner(&field), width });
            return Ok(Some(field));
        }
    }
}

impl Packed<'_> {
    /// Passes over the next values, and returns how many there were.
    fn advance(&mut self, count: u64) -> Result<u64, WireError> {
        if let Some(width) = self.width {
            let values = count.min((self.values.remaining() / width) as u64);
            self.values.skip(values as usize * width)?;
            if values < count {
                self.values.skip(self.values.remaining())?;
            }
            return Ok(values);
        }
        let mut passed = 0;
        while passed < count && !self.values.is_at_end() {
            self.values.varint()?;
            passed += 1;
        }
        Ok(passed)
    }
}

/// The edit that gives a tensor this number of rows and these values, in order.
pub(crate) fn join(tensor: &TensorView, rows: i64, pieces: impl IntoIterator<Item = Piece>) -> TensorEdit {
    let mut content = Rope::new();
    let mut fields = Rope::new();
    let mut fill = None;
    for piece in pieces {
        match piece {
            Piece::Content(bytes) => content.append(bytes),
            Piece::List(list) => fields.append(list),
            Piece::Fill(list) => fill = Some(list),
        }
    }
    let values = match fill {
        Some(fill) => fill,
        None if content.is_empty() => fields,
        None => emit::content(content),
    };
    let shape = [rows].into_iter().chain(tensor.shape.iter().skip(1).copied()).collect();
    TensorEdit { shape: Some(shape), values: Some(values), ..TensorEdit::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

    fn tensor(rows: i64, width: i64) -> TensorProto {
        let dim = |size| Dim { size, name: String::new() };
        TensorProto {
            tensor_shape: Some(TensorShapeProto { dim: vec![dim(rows), dim(width)], unknown_rank: false }),
            ..TensorProto::default()
        }
    }

    fn cut_and_joined(proto: &TensorProto, cuts: &[Range<u64>]) -> TensorProto {
        let bytes = proto.encode_to_vec();
        let rope: Rope = bytes.chunks(5).map(Bytes::copy_from_slice).collect();
        let mut view = TensorView::default();
        view.merge(Reader::new(&rope)).unwrap();
        let rows = cuts.iter().map(|cut| (cut.end - cut.start) as i64).sum();
        let pieces: Vec<Piece> = cuts.iter().map(|cut| take(&rope, &view, cut).unwrap()).collect();
        let edit = join(&view, rows, pieces);
        let mut out = emit::new_tensor(view.dtype, &edit.shape.unwrap(), &edit.values.unwrap());
        TensorProto::decode(&mut out).unwrap()
    }

    #[test]
    fn rows_are_cut_and_joined_in_every_encoding() {
        let floats =
            TensorProto { dtype: 1, float_val: (0..8).map(|value| value as f32).collect(), ..tensor(4, 2) };
        let ints = TensorProto { dtype: 9, int64_val: vec![1, -1, 300, 4, 5, 70_000, 7, 8], ..tensor(4, 2) };
        let texts = (0..8).map(|value| Bytes::from(format!("t{value}"))).collect();
        let strings = TensorProto { dtype: 7, string_val: texts, ..tensor(4, 2) };
        let content =
            TensorProto { dtype: 5, tensor_content: (0..16).collect::<Vec<u8>>().into(), ..tensor(4, 2) };
        let complex = TensorProto {
            dtype: 8,
            scomplex_val: (0..16).map(|value| value as f32).collect(),
            ..tensor(4, 2)
        };
        for proto in [floats, ints, strings, content, complex] {
            assert_eq!(cut_and_joined(&proto, &[0..1, 1..3, 3..4]), proto);
            let last = cut_and_joined(&proto, &[3..4, 3..4]);
            assert_eq!(cut_and_joined(&last, &[0..1]), cut_and_joined(&proto, &[3..4]));
            assert_eq!(last.tensor_shape.as_ref().unwrap().dim[0].size, 2);
        }
        let fill = TensorProto { dtype: 1, float_val: vec![7.0], ..tensor(4, 2) };
        assert_eq!(cut_and_joined(&fill, &[1..3]).float_val, [7.0]);
        let middle =
            cut_and_joined(&TensorProto { dtype: 3, int_val: vec![-5, 6, 700, 8], ..tensor(4, 1) }, &[1..3]);
        assert_eq!(middle.int_val, [6, 700]);
    }

    #[test]
    fn consecutive_pieces_are_those_of_their_rows() {
        let ints = TensorProto { dtype: 9, int64_val: (0..12).map(|at| at * 99).collect(), ..tensor(6, 2) };
        let texts = (0..12).map(|value| Bytes::from(format!("t{value}"))).collect();
        let strings = TensorProto { dtype: 7, string_val: texts, ..tensor(6, 2) };
        for proto in [ints, strings] {
            let rope: Rope = proto.encode_to_vec().chunks(3).map(Bytes::copy_from_slice).collect();
            let mut view = TensorView::default();
            view.merge(Reader::new(&rope)).unwrap();
            let mut cutter = Cutter::new(&rope, &view).unwrap();
            let mut start = 0;
            for rows in [1, 3, 0, 2] {
                assert_eq!(cutter.next(rows), take(&rope, &view, &(start..start + rows)), "{start}");
                start += rows;
            }
        }
    }

    #[test]
    fn adjacent_strings_are_one_slice() {
        let texts = (0..1000).map(|value| Bytes::from(format!("t{value}"))).collect();
        let proto = TensorProto { dtype: 7, string_val: texts, ..tensor(1000, 1) };
        let rope = Rope::from(proto.encode_to_vec());
        let mut view = TensorView::default();
        view.merge(Reader::new(&rope)).unwrap();
        let Piece::List(list) = take(&rope, &view, &(10..900)).unwrap() else { panic!("strings are a list") };
        assert_eq!(list.segments().len(), 1);
    }
}
