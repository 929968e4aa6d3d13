//! What one request brings to a run.
use smallvec::SmallVec;

use super::sharable::{Bypass, declared_rows, output_has_rows};
use super::values::Source;
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, Shape};
use crate::wire::emit;
use crate::wire::{InputView, PredictView, Rope, TensorView};

/// What a request brings to a run. Shares the memory of its message.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub rows: u64,
    /// The fields `model_spec`, as they were sent, and `output_filter`.
    pub fields: Rope,
    /// By alias, sorted.
    pub inputs: SmallVec<[InputPart; 2]>,
}

#[derive(Debug, Clone)]
pub(crate) struct InputPart {
    /// The index in the signature's inputs.
    pub index: usize,
    pub dtype: DataType,
    pub is_scalar: bool,
    /// Without the rows; the whole shape of a scalar.
    pub shape: Shape,
    /// Bytes of `tensor_content`, or fields of `string_val`.
    pub values: Rope,
}

/// More bytes than this are not allocated to expand the values of a request: a short message must
/// not become a long one, and what is this large gains little from sharing a run.
pub(crate) const MAX_EXPANSION: u64 = 256 << 10;

impl Part {
    /// What a request that conforms to the signature brings. The signature is
    /// [`sharable`](super::sharable()).
    ///
    /// # Errors
    /// Why it cannot share a run.
    pub(crate) fn of(signature: &Signature, message: &Rope, view: &PredictView) -> Result<Self, Bypass> {
        if !view.is_complete() {
            return Err(Bypass::Encoding);
        }
        let order = in_order(signature, view)?;
        let mut found: Option<(i64, i64)> = None;
        let (mut sources, mut expansion) = (SmallVec::<[Source; 4]>::new(), 0_u64);
        for (index, input) in &order {
            let (info, tensor) = (&signature.inputs[*index], &input.tensor);
            if let Some(declared) = declared_rows(info, true)? {
                let rows = (declared, tensor.shape.first().copied().unwrap_or(0));
                if *found.get_or_insert(rows) != rows {
                    return Err(Bypass::RowsDiffer);
                }
            }
            let source = source(info, tensor)?;
            expansion = expansion.saturating_add(source.expansion());
            sources.push(source);
        }
        let (declared, rows) = found.ok_or(Bypass::NoRows)?;
        let rows = u64::try_from(rows).map_err(|_| Bypass::NotConforming)?;
        if rows == 0 {
            return Err(Bypass::ZeroRows);
        }
        check_outputs(signature, &view.output_filter, declared)?;
        if expansion > MAX_EXPANSION {
            return Err(Bypass::TooLarge);
        }
        let mut inputs: SmallVec<[InputPart; 2]> = SmallVec::new();
        for ((index, input), source) in order.iter().zip(&sources) {
            let TensorView { dtype, shape, .. } = &input.tensor;
            let values = source.read(message, &input.tensor)?;
            let is_scalar = shape.rank() == 0;
            let shape = Shape::from(shape.get(1..).unwrap_or_default());
            inputs.push(InputPart { index: *index, dtype: *dtype, is_scalar, shape, values });
        }
        let mut fields = view.spec_fields(message);
        for name in &view.output_filter {
            fields.append(emit::field(3, Rope::from(name.as_bytes().to_vec())));
        }
        Ok(Self { rows, fields, inputs })
    }
}

/// Bytes that [`Part::of`] allocates for values, at most.
pub(crate) fn expansion(view: &PredictView) -> u64 {
    let each = view.inputs.iter().map(|InputView { tensor, .. }| {
        let (Some(dtype), Ok(elements)) = (tensor.dtype.info(), tensor.shape.elements()) else { return 0 };
        Source::of(tensor, dtype, elements).map_or(0, |source| source.expansion())
    });
    each.fold(0, u64::saturating_add)
}

/// The sent inputs in the order of the signature, each with its index there.
fn in_order<'a>(
    signature: &Signature,
    view: &'a PredictView,
) -> Result<SmallVec<[(usize, &'a InputView); 4]>, Bypass> {
    let mut order: SmallVec<[(usize, &InputView); 4]> = SmallVec::new();
    for input in &view.inputs {
        let index = signature.input_index(&input.key).ok_or(Bypass::NotConforming)?;
        order.push((index, input));
    }
    if order.len() != signature.inputs.len() {
        return Err(Bypass::MissingInput);
    }
    order.sort_unstable_by_key(|(index, _)| *index);
    Ok(order)
}

/// Where the values of an input are that conforms to `info`.
fn source(info: &TensorInfo, tensor: &TensorView) -> Result<Source, Bypass> {
    if tensor.dtype != info.dtype || info.shape.rank() != Some(tensor.shape.rank()) {
        return Err(Bypass::NotConforming);
    }
    if tensor.unknown_rank {
        return Err(Bypass::Encoding);
    }
    let dtype = tensor.dtype.info().ok_or(Bypass::Dtype)?;
    let elements = tensor.shape.elements().map_err(|_| Bypass::NotConforming)?;
    Source::of(tensor, dtype, elements)
}

/// Checks that every fetched output has rows.
fn check_outputs(signature: &Signature, filter: &[String], declared: i64) -> Result<(), Bypass> {
    if filter.is_empty() {
        let all = signature.outputs.iter().all(|output| output_has_rows(output, declared));
        return if all { Ok(()) } else { Err(Bypass::OutputWithoutRows) };
    }
    for name in filter {
        let output = signature.output(name).ok_or(Bypass::NotConforming)?;
        if !output_has_rows(output, declared) {
            return Err(Bypass::OutputWithoutRows);
        }
    }
    Ok(())
}
