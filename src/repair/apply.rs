//! Applies a plan to the bytes of a request. Values are rewritten only by steps that change them.
use smallvec::SmallVec;

use super::cast_chain::CastChain;
use super::descriptor::Descriptor;
use super::pad::pad;
use super::policy::Literal;
use super::{AddedValues, Change, Plan, Stage, Step, ValueChange, notation};
use crate::tensor::{DataType, ValueList};
use crate::wire::emit::{self, EntryEdit, RequestEdit, TensorEdit};
use crate::wire::{InputView, PredictView, Rope, TensorView, WireError};

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

type OwnStep<'a> = (usize, &'a Step);

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

/// The values that the steps of one input make.
struct NewValues<'a> {
    from: Source<'a>,
    /// The descriptor after all steps.
    after: &'a Descriptor,
}

enum Source<'a> {
    /// The bytes of `tensor_content` become the one string.
    Content,
    /// A cast, or values moved to where they belong, as a typed list or as `tensor_content`.
    Cast { chain: CastChain, as_list: bool },
    /// `chain` reads the values of `before`, and casts them if earlier steps did.
    Pad { chain: CastChain, before: &'a Descriptor, padded: &'a Descriptor, element: &'a [u8] },
}

impl<'a> NewValues<'a> {
    /// `None` if the values stay, or if the casts do not fit, which [`apply`] reports.
    fn of(steps: &[OwnStep<'a>]) -> Option<Self> {
        Self::plan(steps).ok().flatten()
    }

    fn plan(steps: &[OwnStep<'a>]) -> Result<Option<Self>, NoSuchCast> {
        let mut state: Option<(CastChain, bool)> = None;
        let mut last: Option<&Descriptor> = None;
        let mut padding = None;
        let (mut moved, mut string) = (false, false);
        for (_, step) in steps {
            let Change::Tensor { before, after, values } = &step.change else { continue };
            let (chain, _) = state.get_or_insert_with(|| (CastChain::new(before), false));
            match values {
                Some(ValueChange::Cast(exactness)) => {
                    let next = chain.then(before, after.dtype, *exactness).ok_or(NoSuchCast)?;
                    state = Some((next, true));
                    moved = step.rule.stage == Stage::Encoding;
                }
                Some(ValueChange::Pad(element)) => padding = Some((before, after, element.as_slice())),
                Some(ValueChange::ContentToString) => string = true,
                None if step.rule.stage == Stage::Encoding => state = Some((CastChain::new(after), false)),
                None => {}
            }
            last = Some(after);
        }
        let Some(after) = last else { return Ok(None) };
        let from = if let Some((before, padded, element)) = padding {
            let chain = state.map_or_else(|| CastChain::new(before), |(chain, _)| chain);
            Source::Pad { chain, before, padded, element }
        } else if let Some((chain, true)) = state {
            // Moved values belong in the dtype's own list, and only a list can have fewer values
            // than elements.
            Source::Cast { chain, as_list: moved || after.shape.elements() != Ok(after.values) }
        } else if string {
            Source::Content
        } else {
            return Ok(None);
        };
        Ok(Some(Self { from, after }))
    }

    fn cost(&self, sent: Option<&TensorView>) -> Cost {
        match &self.from {
            Source::Content => {
                let length =
                    sent.and_then(|tensor| tensor.content.as_ref()).map_or(0, ExactSizeIterator::len);
                Cost { memory: 0, values: length as u64 }
            }
            Source::Cast { chain, as_list: false } => {
                let bytes = self.after.values.saturating_mul(chain.width() as u64);
                Cost { memory: bytes, values: bytes }
            }
            Source::Cast { chain, as_list: true } => {
                let sizes = emit::packed_sizes(list_of(self.after.dtype), self.after.dtype);
                let bytes = |size: usize| self.after.values.saturating_mul(size as u64);
                let memory = bytes(chain.width()).saturating_add(bytes(*sizes.end()));
                Cost { memory, values: bytes(*sizes.start()) }
            }
            Source::Pad { before, padded, element, .. } => {
                let bytes = |descriptor: &Descriptor| {
                    let elements = descriptor.shape.elements().unwrap_or(u64::MAX);
                    elements.saturating_mul(element.len() as u64)
                };
                Cost { memory: bytes(before).saturating_add(bytes(padded)), values: bytes(padded) }
            }
        }
    }

    /// Encoded fields of `TensorProto`.
    fn encode(self, message: &Rope, tensor: &TensorView) -> Result<Rope, WireError> {
        let Self { from, after } = self;
        Ok(match from {
            Source::Content => {
                let content = tensor.content.clone().unwrap_or_default();
                emit::list(ValueList::String, message.slice(content))
            }
            Source::Cast { chain, as_list } => {
                let bytes = chain.convert(message, tensor, after.values)?;
                if as_list { typed_list(after.dtype, &bytes) } else { emit::content(Rope::from(bytes)) }
            }
            Source::Pad { chain, before, padded, element } => {
                let elements = before.shape.elements().unwrap_or(0);
                let mut bytes = chain.convert(message, tensor, elements)?;
                repeat_last(&mut bytes, element.len(), elements);
                emit::content(Rope::from(pad(&bytes, &before.shape, &padded.shape, element)))
            }
        })
    }
}

/// The casts of a plan do not fit its dtypes.
struct NoSuchCast;

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

/// The values as a typed list, which unlike `tensor_content` may have fewer values than elements.
fn typed_list(dtype: DataType, bytes: &[u8]) -> Rope {
    let list = list_of(dtype);
    if list == ValueList::String {
        return emit::list(list, Rope::from(bytes.to_vec()));
    }
    emit::packed(list, dtype, bytes)
}

fn list_of(dtype: DataType) -> ValueList {
    dtype.info().map_or(ValueList::Int, |info| info.list)
}

/// Repeats the last value, as TensorFlow does for a list that is shorter than its shape.
fn repeat_last(bytes: &mut Vec<u8>, size: usize, elements: u64) {
    let whole = usize::try_from(elements).unwrap_or(0) * size;
    if bytes.len() < size {
        return;
    }
    let last = bytes[bytes.len() - size..].to_vec();
    while bytes.len() < whole {
        bytes.extend_from_slice(&last);
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
