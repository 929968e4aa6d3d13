//! Cuts the answer of a run into those of its members.
use std::ops::Range;

use bytes::Bytes;

use super::values::decode;
use crate::tensor::{DataType, Shape, ValueList};
use crate::wire::emit::{Values, entry_head};
use crate::wire::reply::ReplyView;
use crate::wire::rows::RowsError;
use crate::wire::scan::Reader;
use crate::wire::tensor::{DTYPE, TENSOR_CONTENT, TENSOR_SHAPE};
use crate::wire::{InputView, Rope};

/// Cuts an answer from front to back. No value is copied.
#[derive(Debug)]
pub(crate) struct Slicer {
    outputs: Vec<Output>,
    /// All fields but the outputs: `model_spec`, and unknown ones.
    others: Rope,
    left: u64,
    /// The number of rows that the outputs' heads were made for.
    rows: u64,
}

/// One output of the answer.
#[derive(Debug)]
struct Output {
    key: String,
    dtype: DataType,
    /// Without the rows.
    inner: Shape,
    values: Rope,
    /// The bytes of `values` that were taken.
    taken: usize,
    cut: Cut,
    /// Fields of the tensor that are neither dtype, shape nor values.
    others: Rope,
    /// What comes before the values, if it depends on nothing but the number of rows.
    head: Bytes,
}

/// How the values of a row are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// So many bytes of `tensor_content`, or of this packed list.
    Bytes { list: Option<ValueList>, per_row: usize },
    /// So many varints of this packed list.
    Varints { list: ValueList, per_row: u64 },
    /// So many fields.
    Fields { per_row: u64 },
    /// One value stands for all elements.
    Fill,
}

/// `PredictResponse.outputs`
const OUTPUTS: u32 = 1;

impl Slicer {
    /// `rows`: how many the run had.
    ///
    /// # Errors
    /// An output does not have as many rows, or cannot be cut.
    pub(crate) fn new(answer: &Rope, rows: u64) -> Result<Self, RowsError> {
        let view = ReplyView::scan(answer)?;
        let mut outputs = Vec::with_capacity(view.outputs.len());
        let mut others = Rope::new();
        let mut position = 0;
        for output in view.outputs {
            others.append(answer.slice(position..output.entry.start));
            position = output.entry.end;
            outputs.push(Output::new(answer, output, rows)?);
        }
        others.append(answer.slice(position..answer.len()));
        Ok(Self { outputs, others, left: rows, rows: 0 })
    }

    /// The `PredictResponse` with the next rows.
    ///
    /// # Errors
    /// The values cannot be read, or so many rows are not left.
    pub(crate) fn next(&mut self, rows: u64) -> Result<Rope, RowsError> {
        let count = RowsError::Count { expected: rows as i64, found: self.left as i64 };
        self.left = self.left.checked_sub(rows).ok_or(count)?;
        let is_new = self.rows != rows;
        self.rows = rows;
        let mut answer = Rope::new();
        for output in &mut self.outputs {
            let values = output.take(rows)?;
            if is_new || !matches!(output.cut, Cut::Bytes { .. } | Cut::Fill) {
                output.head = output.head(rows, values.len());
            }
            answer.push(output.head.clone());
            answer.push_slice(&output.values, values);
            answer.push_all(&output.others);
        }
        answer.push_all(&self.others);
        Ok(answer)
    }
}

impl Output {
    fn new(answer: &Rope, output: InputView, rows: u64) -> Result<Self, RowsError> {
        let (key, tensor) = (output.key, output.tensor);
        let no_rows = || RowsError::NoRows { shape: tensor.shape.clone() };
        let (found, inner) = tensor.shape.split_first().ok_or_else(no_rows)?;
        if u64::try_from(*found) != Ok(rows) {
            return Err(RowsError::Count { expected: rows as i64, found: *found });
        }
        let inner = Shape::from(inner);
        let stride = inner.elements().map_err(|_| no_rows())?;
        let elements = tensor.shape.elements().map_err(|_| no_rows())?;
        let info = tensor.dtype.info();
        let list = info.map_or(ValueList::Variant, |info| info.list);
        let mut others = Rope::new();
        for run in &tensor.runs {
            let is_value = run.field == TENSOR_CONTENT || ValueList::from_field(run.field).is_some();
            if !is_value && run.field != DTYPE && run.field != TENSOR_SHAPE {
                others.append(answer.slice(run.span.clone()));
            }
        }
        let (values, cut) = if elements == 0 {
            (Rope::new(), Cut::Bytes { list: None, per_row: 0 })
        } else if let Some(content) = &tensor.content {
            let size = tensor.dtype.size().ok_or(RowsError::StringContent)?;
            if elements.checked_mul(size as u64) != Some(content.len() as u64) {
                return Err(RowsError::ShortList);
            }
            (answer.slice(content.clone()), Cut::Bytes { list: None, per_row: stride as usize * size })
        } else {
            list_values(answer, &tensor, list, elements, stride)?
        };
        Ok(Self { key, dtype: tensor.dtype, inner, values, taken: 0, cut, others, head: Bytes::new() })
    }

    /// Where the values of the next rows are in `values`.
    fn take(&mut self, rows: u64) -> Result<Range<usize>, RowsError> {
        let start = self.taken;
        self.taken = match self.cut {
            Cut::Fill => return Ok(0..self.values.len()),
            Cut::Bytes { per_row, .. } => start + per_row * rows as usize,
            Cut::Varints { per_row, .. } => {
                let mut reader = Reader::of_range(&self.values, &(start..self.values.len()));
                for _ in 0..per_row * rows {
                    reader.varint()?;
                }
                reader.position()
            }
            Cut::Fields { per_row } => {
                let mut reader = Reader::of_range(&self.values, &(start..self.values.len()));
                for _ in 0..per_row * rows {
                    reader.next_field()?.ok_or(RowsError::ShortList)?;
                }
                reader.position()
            }
        };
        Ok(start..self.taken)
    }

    fn head(&self, rows: u64, length: usize) -> Bytes {
        let shape: Shape = [rows as i64].into_iter().chain(self.inner.iter().copied()).collect();
        let values = match self.cut {
            Cut::Bytes { list: None, .. } => Values::Content { length },
            Cut::Bytes { list: Some(list), .. } | Cut::Varints { list, .. } => {
                Values::Packed { list, length }
            }
            Cut::Fields { .. } | Cut::Fill => Values::Fields { length },
        };
        entry_head(OUTPUTS, &self.key, self.dtype, &shape, values, self.others.len())
    }
}

/// The values of a tensor that are in a typed list, and how they are cut.
fn list_values(
    answer: &Rope,
    tensor: &crate::wire::TensorView,
    list: ValueList,
    elements: u64,
    stride: u64,
) -> Result<(Rope, Cut), RowsError> {
    let per_element = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
    let found = tensor.list_values(list);
    let mut runs = tensor.runs.iter().filter(|run| run.field == list.field() && run.values > 0);
    let run = runs.next().ok_or(RowsError::ShortList)?;
    let only = runs.next().is_none();
    if found == per_element && elements > 1 && only {
        return Ok((answer.slice(run.span.clone()), Cut::Fill));
    }
    if Some(found) != elements.checked_mul(per_element) {
        return Err(RowsError::ShortList);
    }
    let Some(size) = tensor.dtype.size() else {
        let mut fields = Rope::new();
        for run in tensor.runs.iter().filter(|run| run.field == list.field()) {
            fields.append(answer.slice(run.span.clone()));
        }
        return Ok((fields, Cut::Fields { per_row: stride }));
    };
    let field = Reader::of_range(answer, &run.span).next_field()?;
    let packed = field.filter(|field| only && field.span == run.span && field.payload.start > run.span.start);
    let Some(field) = packed.filter(|field| field.wire == crate::wire::scan::Wire::Bytes) else {
        // In several fields, as no usual encoder writes it.
        let mut all = Vec::new();
        decode(answer, tensor, list, size, &mut all)?;
        if Some(all.len() as u64) != elements.checked_mul(size as u64) {
            return Err(RowsError::ShortList);
        }
        return Ok((Rope::from(all), Cut::Bytes { list: None, per_row: stride as usize * size }));
    };
    let values = answer.slice(field.payload);
    let cut = match list {
        ValueList::Float
        | ValueList::Double
        | ValueList::SComplex
        | ValueList::DComplex
        | ValueList::Float8 => Cut::Bytes { list: Some(list), per_row: stride as usize * size },
        _ => Cut::Varints { list, per_row: stride },
    };
    Ok((values, cut))
}
