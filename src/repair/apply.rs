//! Carrying out a plan: the request's bytes with the steps' changes in them, values touched only by steps that cast.
use super::chain::Chain;
use super::head::Head;
use super::{Change, Plan, Stage, Step, ValueChange};
use crate::tensor::{DataType, ValueList};
use crate::wire::emit::{self, EntryEdit, RequestEdit, TensorEdit};
use crate::wire::{InputView, PredictView, Rope, WireError};

/// Why a plan could not be carried out. Planning has seen every value that a step casts, so none of these is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("the plan names input {index}, which the request does not have")]
    NoSuchInput { index: usize },
    #[error("the plan's casts do not fit the dtypes of input '{input}'")]
    Cast { input: String },
    #[error("the values of input '{input}' cannot be read: {error}")]
    Values { input: String, error: WireError },
}

/// The request that the plan makes of a scanned one. What no step names stays the very bytes that came.
pub fn apply(message: &Rope, view: &PredictView, plan: &Plan) -> Result<Rope, ApplyError> {
    let mut edit = RequestEdit::default();
    let mut changed: Vec<usize> = Vec::new();
    for step in &plan.steps {
        match (&step.change, step.index) {
            (Change::SignatureName { new, .. }, _) => edit.signature_name = Some(new.clone()),
            (Change::Dropped { .. }, Some(index)) => edit.entries.push((index, EntryEdit::Drop)),
            (Change::Key { .. } | Change::Tensor { .. }, Some(index)) if !changed.contains(&index) => {
                changed.push(index);
            }
            (Change::Key { .. } | Change::Tensor { .. } | Change::Dropped { .. }, _) => {}
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
    let mut state: Option<(Chain, bool)> = None;
    let mut last: Option<&Head> = None;
    for step in steps {
        let (before, after, values) = match &step.change {
            Change::Key { new, .. } => {
                edit.key = Some(new.clone());
                continue;
            }
            Change::Tensor { before, after, values } => (before, after, *values),
            Change::SignatureName { .. } | Change::Dropped { .. } => continue,
        };
        let (chain, _) = state.get_or_insert_with(|| (Chain::new(before), false));
        match values {
            Some(ValueChange::Cast(exactness)) => {
                let next = chain.then(before, after.dtype, exactness);
                let next = next.ok_or_else(|| ApplyError::Cast { input: input.key.clone() })?;
                state = Some((next, true));
            }
            Some(ValueChange::ContentToString) => {
                let content = input.tensor.content.clone().unwrap_or_default();
                edit.values = Some(emit::list(ValueList::String, message.slice(content)));
            }
            None if step.rule.stage == Stage::Encoding => state = Some((Chain::new(after), false)),
            None => {}
        }
        last = Some(after);
    }
    let Some(after) = last else { return Ok(edit) };
    edit.dtype = (after.dtype != input.tensor.dtype).then_some(after.dtype);
    edit.shape = (after.shape != input.tensor.shape).then(|| after.shape.clone());
    if let Some((chain, true)) = state {
        let bytes = chain.convert(message, &input.tensor, after.values);
        let bytes = bytes.map_err(|error| ApplyError::Values { input: input.key.clone(), error })?;
        let fills = after.shape.elements() != Ok(after.values);
        edit.values =
            Some(if fills { typed_list(after.dtype, &bytes) } else { emit::content(Rope::from(bytes)) });
    }
    Ok(edit)
}

/// Fewer values than elements can only be said with a typed list: `tensor_content` has no fill.
fn typed_list(dtype: DataType, bytes: &[u8]) -> Rope {
    let list = dtype.info().map_or(ValueList::Int, |info| info.list);
    emit::packed(list, dtype, bytes)
}
