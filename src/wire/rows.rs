//! Slices and joins tensors along dimension 0 without copying their values.
use std::ops::Range;

use super::emit::{self, TensorEdit};
use super::rope::Rope;
use super::scan::{Reader, Wire, WireError};
use super::tensor::{Layout, TensorView, layout};
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
    let no_rows = || RowsError::NoRows { shape: tensor.shape.clone() };
    let (_, inner) = tensor.shape.split_first().ok_or_else(no_rows)?;
    let stride = Shape::from(inner).elements().map_err(|_| no_rows())?;
    let elements = tensor.shape.elements().map_err(|_| no_rows())?;
    let range = rows.start * stride..rows.end * stride;
    if let Some(content) = &tensor.content {
        let size = tensor.dtype.size().ok_or(RowsError::StringContent)?;
        let byte = |element: u64| content.start + element as usize * size;
        return Ok(Piece::Content(message.slice(byte(range.start)..byte(range.end).min(content.end))));
    }
    let list = tensor.dtype.info().map_or(ValueList::Variant, |info| info.list);
    let per_element = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
    let values = tensor.list_values(list);
    if values == elements * per_element {
        let range = range.start * per_element..range.end * per_element;
        return Ok(Piece::List(list_slice(message, tensor, list, &range)?));
    }
    if values == per_element {
        return Ok(Piece::Fill(list_slice(message, tensor, list, &(0..per_element))?));
    }
    Err(RowsError::ShortList)
}

/// Encoded fields with a range of a list's wire values.
fn list_slice(
    message: &Rope,
    tensor: &TensorView,
    list: ValueList,
    range: &Range<u64>,
) -> Result<Rope, WireError> {
    let mut out = Rope::new();
    let mut at = 0_u64;
    for run in tensor.runs.iter().filter(|run| run.field == list.field()) {
        let mut reader = Reader::of_range(message, &run.span);
        while let Some(field) = reader.next_field()? {
            if at >= range.end {
                return Ok(out);
            }
            let width = match (layout(list), field.wire) {
                (Layout::Fixed32, Wire::Bytes) => 4,
                (Layout::Fixed64, Wire::Bytes) => 8,
                (Layout::Blob, _) => 1,
                (Layout::Varint, Wire::Bytes) => {
                    let payload = packed_varints(reader.inner(&field), &mut at, range)?;
                    if !payload.is_empty() {
                        out.append(emit::list(list, message.slice(payload)));
                    }
                    continue;
                }
                // One field, one value.
                _ => {
                    if range.contains(&at) {
                        out.append(message.slice(field.span));
                    }
                    at += 1;
                    continue;
                }
            };
            let values = (field.payload.len() / width) as u64;
            let (from, to) = (range.start.max(at) - at, range.end.min(at + values).saturating_sub(at));
            if from < to {
                let start = field.payload.start + from as usize * width;
                let end = field.payload.start + to as usize * width;
                out.append(emit::list(list, message.slice(start..end)));
            }
            at += values;
        }
    }
    Ok(out)
}

/// The bytes of a range of values in a packed list of varints.
fn packed_varints(
    mut values: Reader<'_>,
    at: &mut u64,
    range: &Range<u64>,
) -> Result<Range<usize>, WireError> {
    let (mut start, mut end) = (values.position(), values.position());
    while !values.is_at_end() {
        if *at == range.start {
            start = values.position();
        }
        values.varint()?;
        *at += 1;
        if *at <= range.end {
            end = values.position();
        }
        if *at <= range.start {
            start = values.position();
        }
    }
    Ok(start..end.max(start))
}

/// The edit that gives a tensor this number of rows and these values, in order.
pub(crate) fn join(tensor: &TensorView, rows: i64, pieces: Vec<Piece>) -> TensorEdit {
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
        view.merge(&rope, Reader::new(&rope)).unwrap();
        let rows = cuts.iter().map(|cut| (cut.end - cut.start) as i64).sum();
        let pieces = cuts.iter().map(|cut| take(&rope, &view, cut).unwrap()).collect();
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
}
