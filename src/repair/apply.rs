//! Applies a plan to the bytes of a request. Values are rewritten only by steps that change them.
use super::cast_chain::CastChain;
use super::descriptor::Descriptor;
use super::pad::pad;
use super::policy::Literal;
use super::{AddedValues, Change, Plan, Stage, Step, ValueChange, notation};
use crate::tensor::{DataType, ValueList};
use crate::wire::emit::{self, EntryEdit, RequestEdit, TensorEdit};
use crate::wire::{InputView, PredictView, Rope, WireError};

/// Why a plan could not be applied. Planning has checked every value that a step casts, so none of
/// these is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("the plan names input {index}, which the request does not have")]
    NoSuchInput { index: usize },
    #[error("the plan's casts do not fit the dtypes of input '{input}'")]
    Cast { input: String },
    #[error("the values of input '{input}' cannot be read: {error}")]
    Values { input: String, error: WireError },
}

/// The request after the steps of the plan. Everything that no step changes keeps its original
/// bytes.
///
/// # Errors
/// If the plan was made for another request.
pub fn apply(message: &Rope, view: &PredictView, plan: &Plan) -> Result<Rope, ApplyError> {
    let mut edit = RequestEdit::default();
    let mut changed: Vec<usize> = Vec::new();
    for step in &plan.steps {
        match (&step.change, step.index) {
            (Change::SignatureName { new, .. }, _) => edit.signature_name = Some(new.clone()),
            (Change::Added { descriptor, values }, _) => {
                edit.added.push((descriptor.key.clone(), added(descriptor, values)?));
            }
            (Change::Dropped { .. }, Some(index)) => edit.entries.push((index, EntryEdit::Drop)),
            (Change::Key { .. } | Change::Tensor { .. }, Some(index)) if !changed.contains(&index) => {
                changed.push(index);
            }
            (
                Change::Key { .. } | Change::Tensor { .. } | Change::Dropped { .. } | Change::Rows { .. },
                _,
            ) => {}
        }
    }
    for index in changed {
        let input = view.inputs.get(index).ok_or(ApplyError::NoSuchInput { index })?;
        let steps = plan.steps.iter().filter(|step| step.index == Some(index));
        edit.entries.push((index, EntryEdit::Change(Box::new(tensor_edit(message, input, steps)?))));
    }
    Ok(emit::rewrite(message, view, &edit))
}

fn tensor_edit<'a>(
    message: &Rope,
    input: &InputView,
    steps: impl Iterator<Item = &'a Step>,
) -> Result<TensorEdit, ApplyError> {
    let mut edit = TensorEdit::default();
    let mut state: Option<(CastChain, bool)> = None;
    let mut last: Option<&Descriptor> = None;
    let mut padding = None;
    let mut moved = false;
    for step in steps {
        let (before, after, values) = match &step.change {
            Change::Key { new, .. } => {
                edit.key = Some(new.clone());
                continue;
            }
            Change::Tensor { before, after, values } => (before, after, values),
            Change::SignatureName { .. }
            | Change::Dropped { .. }
            | Change::Added { .. }
            | Change::Rows { .. } => {
                continue;
            }
        };
        let (chain, _) = state.get_or_insert_with(|| (CastChain::new(before), false));
        match values {
            Some(ValueChange::Cast(exactness)) => {
                let next = chain.then(before, after.dtype, *exactness);
                let next = next.ok_or_else(|| ApplyError::Cast { input: input.key.clone() })?;
                state = Some((next, true));
                moved = step.rule.stage == Stage::Encoding;
            }
            Some(ValueChange::Pad(element)) => padding = Some((before, after, element)),
            Some(ValueChange::ContentToString) => {
                let content = input.tensor.content.clone().unwrap_or_default();
                edit.values = Some(emit::list(ValueList::String, message.slice(content)));
            }
            None if step.rule.stage == Stage::Encoding => state = Some((CastChain::new(after), false)),
            None => {}
        }
        last = Some(after);
    }
    let Some(after) = last else { return Ok(edit) };
    edit.dtype = (after.dtype != input.tensor.dtype).then_some(after.dtype);
    edit.shape = (after.shape != input.tensor.shape).then(|| after.shape.clone());
    if let Some((before, after, element)) = padding {
        let (chain, _) = state.unwrap_or_else(|| (CastChain::new(before), false));
        let bytes = chain.convert(message, &input.tensor, before.values);
        let mut bytes = bytes.map_err(|error| ApplyError::Values { input: input.key.clone(), error })?;
        repeat_last(&mut bytes, element.len(), before.shape.elements().unwrap_or(0));
        edit.values = Some(emit::content(Rope::from(pad(&bytes, &before.shape, &after.shape, element))));
    } else if let Some((chain, true)) = state {
        let bytes = chain.convert(message, &input.tensor, after.values);
        let bytes = bytes.map_err(|error| ApplyError::Values { input: input.key.clone(), error })?;
        // Moved values belong in the dtype's own list, and only a list can have fewer values than
        // elements.
        let as_list = moved || after.shape.elements() != Ok(after.values);
        edit.values =
            Some(if as_list { typed_list(after.dtype, &bytes) } else { emit::content(Rope::from(bytes)) });
    }
    Ok(edit)
}

/// The values as a typed list, which unlike `tensor_content` may have fewer values than elements.
fn typed_list(dtype: DataType, bytes: &[u8]) -> Rope {
    let list = dtype.info().map_or(ValueList::Int, |info| info.list);
    if list == ValueList::String {
        return emit::list(list, Rope::from(bytes.to_vec()));
    }
    emit::packed(list, dtype, bytes)
}

/// Repeats the last value, as TensorFlow does for a list that is shorter than its shape.
fn repeat_last(bytes: &mut Vec<u8>, size: usize, elements: u64) {
    let whole = usize::try_from(elements).unwrap_or(0) * size;
    if bytes.len() >= size && bytes.len() < whole {
        let last = bytes[bytes.len() - size..].to_vec();
        bytes.extend(last.repeat((whole - bytes.len()) / size));
    }
}

fn added(descriptor: &Descriptor, values: &AddedValues) -> Result<bytes::Bytes, ApplyError> {
    let element = |literal: &Literal| {
        notation::element(descriptor.dtype, literal)
            .map_err(|_| ApplyError::Cast { input: descriptor.key.clone() })
    };
    let values = match values {
        AddedValues::Fill(_) if descriptor.values == 0 => Rope::new(),
        AddedValues::Fill(literal) => typed_list(descriptor.dtype, &element(literal)?),
        AddedValues::Mask { sent } => {
            let ones =
                element(&Literal::Int(1))?.repeat(usize::try_from(sent.elements().unwrap_or(0)).unwrap_or(0));
            emit::content(Rope::from(pad(&ones, sent, &descriptor.shape, &element(&Literal::Int(0))?)))
        }
    };
    Ok(emit::new_tensor(descriptor.dtype, &descriptor.shape, &values))
}
