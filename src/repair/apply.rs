//! Applies a plan to the bytes of a request. Values are rewritten only by steps that change them.
use smallvec::SmallVec;

use super::descriptor::Descriptor;
use super::new_values::{NewValues, NoSuchCast, typed_list};
use super::pad::pad;
use super::policy::Literal;
use super::{AddedValues, Change, Plan, Step, notation};
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

/// The memory and the message that applying a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes allocated for new values, those of intermediate results included. Descriptors are not
    /// counted.
    pub memory: u64,
    /// At least so many bytes of new values are in the message.
    pub values: u64,
}

/// What [`apply`] will take, known before anything is allocated. How long varints become is not
/// known: `memory` counts the longest, `values` the shortest.
pub fn cost(view: &PredictView, plan: &Plan) -> Cost {
    let mut cost = Cost::default();
    // Most plans change shapes and names only.
    if !plan.steps.iter().any(makes_values) {
        return cost;
    }
    for (index, steps) in by_input(plan).chunk_by(|left, right| left.0 == right.0).filter_map(first) {
        let sent = view.inputs.get(index).map(|input| &input.tensor);
        if let Some(values) = NewValues::of(steps) {
            cost.add(values.cost(sent));
        }
    }
    for step in &plan.steps {
        if let Change::Added { descriptor, values: AddedValues::Mask { sent } } = &step.change {
            let size = descriptor.dtype.size().unwrap_or(1) as u64;
            let padded = descriptor.values.saturating_mul(size);
            let ones = sent.elements().unwrap_or(u64::MAX).saturating_mul(size);
            // The encoded tensor is a copy.
            cost.add(Cost { memory: padded.saturating_mul(2).saturating_add(ones), values: padded });
        }
    }
    cost
}

fn makes_values(step: &Step) -> bool {
    match &step.change {
        Change::Tensor { before, after, values } => {
            values.is_some() || before.encoding != after.encoding || before.dtype != after.dtype
        }
        Change::Added { .. } => true,
        _ => false,
    }
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.memory = self.memory.saturating_add(other.memory);
        self.values = self.values.saturating_add(other.values);
    }
}

/// The request after the steps of the plan. Everything that no step changes keeps its original
/// bytes.
///
/// # Errors
/// If the plan was made for another request.
pub fn apply(message: &Rope, view: &PredictView, plan: &Plan) -> Result<Rope, ApplyError> {
    let mut edit = RequestEdit::default();
    for step in &plan.steps {
        match (&step.change, step.index) {
            (Change::ModelName { new, .. }, _) => edit.model_name = Some(new.clone()),
            (Change::SignatureName { new, .. }, _) => edit.signature_name = Some(new.clone()),
            (Change::Added { descriptor, values }, _) => {
                edit.added.push((descriptor.key.clone(), added(descriptor, values)?));
            }
            (Change::Dropped { .. }, Some(index)) => edit.entries.push((index, EntryEdit::Drop)),
            (
                Change::Key { .. }
                | Change::Tensor { .. }
                | Change::Dropped { .. }
                | Change::Rows { .. }
                | Change::Text { .. },
                _,
            ) => {}
        }
    }
    for (index, steps) in by_input(plan).chunk_by(|left, right| left.0 == right.0).filter_map(first) {
        let input = view.inputs.get(index).ok_or(ApplyError::NoSuchInput { index })?;
        edit.entries.push((index, EntryEdit::Change(Box::new(tensor_edit(message, input, steps)?))));
    }
    Ok(emit::rewrite(message, view, &edit))
}

pub(super) type OwnStep<'a> = (usize, &'a Step);

/// The steps that change sent inputs, those of each input together and in order.
fn by_input(plan: &Plan) -> SmallVec<[OwnStep<'_>; 4]> {
    let changes = |step: &&Step| matches!(step.change, Change::Key { .. } | Change::Tensor { .. });
    let own = plan.steps.iter().filter(changes).filter_map(|step| Some((step.index?, step)));
    let mut own: SmallVec<[OwnStep<'_>; 4]> = own.collect();
    own.sort_by_key(|(index, _)| *index);
    own
}

fn first<'s, 'a>(steps: &'s [OwnStep<'a>]) -> Option<(usize, &'s [OwnStep<'a>])> {
    steps.first().map(|(index, _)| (*index, steps))
}

fn tensor_edit(message: &Rope, input: &InputView, steps: &[OwnStep<'_>]) -> Result<TensorEdit, ApplyError> {
    let mut edit = TensorEdit::default();
    for (_, step) in steps {
        match &step.change {
            Change::Key { new, .. } => edit.key = Some(new.clone()),
            Change::Tensor { after, .. } => {
                edit.dtype = (after.dtype != input.tensor.dtype).then_some(after.dtype);
                edit.shape = (after.shape != input.tensor.shape).then(|| after.shape.clone());
            }
            _ => {}
        }
    }
    let values =
        NewValues::plan(steps).map_err(|NoSuchCast| ApplyError::Cast { input: input.key.clone() })?;
    let values = values.map(|values| values.encode(message, &input.tensor)).transpose();
    edit.values = values.map_err(|error| ApplyError::Values { input: input.key.clone(), error })?;
    Ok(edit)
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
