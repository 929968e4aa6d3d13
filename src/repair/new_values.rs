//! The new values of one input, from the steps of its plan.
use super::apply::{Cost, OwnStep};
use super::cast_chain::CastChain;
use super::descriptor::{Descriptor, Encoding};
use super::pad::pad;
use super::transform::made::{Strings, Tail};
use super::transform::{Image, Phase, Transform};
use super::{Change, Stage, ValueChange};
use crate::tensor::{DataType, Exactness, ValueList};
use crate::wire::{Rope, TensorView, WireError, emit};

/// The values that the steps of one input make.
pub(super) struct NewValues<'a> {
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
    /// Each string is transformed.
    Strings(Strings<'a>),
    /// The elements of `chain` are moved, or their numbers changed.
    Changed { chain: CastChain, tail: Tail<'a> },
    /// Files become pixels.
    Images { files: Strings<'a>, options: Image, scratch: u64, after: &'a Descriptor },
    /// The elements are moved or changed after they were padded or decoded.
    MadeAndChanged { made: Box<Source<'a>>, tail: Tail<'a> },
}

impl<'a> NewValues<'a> {
    /// `None` if the values stay, or if the casts do not fit, which `apply` reports.
    pub(super) fn of(steps: &[OwnStep<'a>]) -> Option<Self> {
        Self::plan(steps).ok().flatten()
    }

    /// # Errors
    /// The casts do not fit.
    pub(super) fn plan(steps: &[OwnStep<'a>]) -> Result<Option<Self>, NoSuchCast> {
        let mut state: Option<(CastChain, bool)> = None;
        let mut last: Option<&Descriptor> = None;
        let mut padding = None;
        let (mut moved, mut string) = (false, false);
        let mut strings: Option<Strings<'a>> = None;
        let mut images = None;
        let mut tail: Option<Tail<'a>> = None;
        let is_transform = |(_, step): &OwnStep<'a>| {
            matches!(&step.change, Change::Tensor { values: Some(ValueChange::Transform(_)), .. })
        };
        let transforms = steps.len() > 1 && steps.iter().any(is_transform);
        // Numbers that are changed are cast once, from what was sent to what the model takes.
        let mut uncast: Option<(CastChain, &Descriptor)> = None;
        for (_, step) in steps {
            let Change::Tensor { before, after, values } = &step.change else { continue };
            let (chain, _) = state.get_or_insert_with(|| (CastChain::new(before), false));
            match values {
                Some(ValueChange::Cast(exactness)) => {
                    let next = chain.then(before, after.dtype, *exactness).ok_or(NoSuchCast)?;
                    if step.rule.stage == Stage::Dtype && transforms {
                        uncast = Some((chain.clone(), before));
                    }
                    state = Some((next, true));
                    moved = step.rule.stage == Stage::Encoding;
                }
                Some(ValueChange::Pad(element)) => padding = Some((before, after, element.as_slice())),
                Some(ValueChange::ContentToString) => string = true,
                Some(ValueChange::Transform(made)) => match &made.transform {
                    Transform::RelabelDtype { to, .. } => {
                        let next = chain.relabelled(before, *to).ok_or(NoSuchCast)?;
                        let is_list = matches!(before.encoding, Encoding::List(_));
                        state = Some((next, is_list));
                    }
                    Transform::DecodeImage(options) => images = Some((before, *options, made.scratch, after)),
                    transform if transform.phase() == Phase::Decode => {
                        strings.get_or_insert_with(|| Strings::new(before, string)).push(transform);
                    }
                    _ => tail.get_or_insert_with(|| Tail::new(before)).push(made),
                },
                None if step.rule.stage == Stage::Encoding => state = Some((CastChain::new(after), false)),
                None => {}
            }
            last = Some(after);
        }
        let Some(after) = last else { return Ok(None) };
        let from = if let Some((before, padded, element)) = padding {
            let chain = state.map_or_else(|| CastChain::new(before), |(chain, _)| chain);
            changed(Source::Pad { chain, before, padded, element }, tail)
        } else if let Some((before, options, scratch, after)) = images {
            let files = strings.unwrap_or_else(|| Strings::new(before, string));
            changed(Source::Images { files, options, scratch, after }, tail)
        } else if let Some(tail) = tail {
            let (chain, _) = state.ok_or(NoSuchCast)?;
            let chain = if tail.changes_numbers() {
                let (chain, before) = uncast.unwrap_or((chain, tail.before()));
                chain.then(before, DataType::DOUBLE, Exactness::Round).ok_or(NoSuchCast)?
            } else {
                chain
            };
            Source::Changed { chain, tail }
        } else if let Some(strings) = strings {
            Source::Strings(strings)
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

    pub(super) fn cost(&self, sent: Option<&TensorView>) -> Cost {
        self.cost_of(&self.from, sent)
    }

    fn cost_of(&self, from: &Source<'_>, sent: Option<&TensorView>) -> Cost {
        match from {
            Source::Content => {
                let length =
                    sent.and_then(|tensor| tensor.content.as_ref()).map_or(0, ExactSizeIterator::len);
                Cost { memory: 0, values: length as u64 }
            }
            Source::Cast { chain, as_list: false } => {
                let bytes = self.after.values.saturating_mul(chain.width() as u64);
                Cost { memory: bytes, values: bytes }
            }
            Source::Cast { chain, as_list: true } => self.cost_of_list(chain.width()),
            Source::Strings(strings) => {
                Cost { memory: sent.map_or(0, |tensor| strings.memory(tensor)), values: 0 }
            }
            Source::Changed { .. } => {
                let width = self.after.dtype.size().unwrap_or(1);
                if self.after.shape.elements() != Ok(self.after.values) {
                    return self.cost_of_list(width);
                }
                let bytes = self.after.values.saturating_mul(width as u64);
                Cost { memory: bytes, values: bytes }
            }
            Source::Images { files, scratch, after, .. } => {
                let width = after.dtype.size().unwrap_or(1) as u64;
                let values = after.values.saturating_mul(width);
                let files = sent.map_or(0, |tensor| files.memory(tensor));
                Cost { memory: values.saturating_add(*scratch).saturating_add(files), values }
            }
            Source::MadeAndChanged { made, .. } => {
                let mut cost = self.cost_of(made, sent);
                cost.memory = cost.memory.saturating_add(cost.values);
                cost
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

    fn cost_of_list(&self, width: usize) -> Cost {
        let sizes = emit::packed_sizes(list_of(self.after.dtype), self.after.dtype);
        let bytes = |size: usize| self.after.values.saturating_mul(size as u64);
        Cost { memory: bytes(width).saturating_add(bytes(*sizes.end())), values: bytes(*sizes.start()) }
    }

    /// Encoded fields of `TensorProto`.
    ///
    /// # Errors
    /// The values cannot be read.
    pub(super) fn encode(self, message: &Rope, tensor: &TensorView) -> Result<Rope, WireError> {
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
                emit::content(Rope::from(padded_bytes(&chain, before, padded, element, message, tensor)?))
            }
            Source::Strings(strings) => strings.encode(message, tensor)?,
            Source::Changed { chain, tail } => {
                let Some(pass) = tail.pass() else { return Ok(Rope::new()) };
                let bytes = tail.of_chain(pass, &chain, message, tensor, after.values)?;
                let is_whole = after.shape.elements() == Ok(after.values);
                if is_whole { emit::content(Rope::from(bytes)) } else { typed_list(after.dtype, &bytes) }
            }
            Source::Images { files, options, after, .. } => {
                emit::content(Rope::from(files.pixels(message, tensor, options, after)))
            }
            Source::MadeAndChanged { made, tail } => {
                let bytes = match *made {
                    Source::Pad { chain, before, padded, element } => {
                        padded_bytes(&chain, before, padded, element, message, tensor)?
                    }
                    Source::Images { files, options, after, .. } => {
                        files.pixels(message, tensor, options, after)
                    }
                    _ => Vec::new(),
                };
                let Some(pass) = tail.pass() else { return Ok(Rope::new()) };
                emit::content(Rope::from(tail.of_bytes(pass, &bytes)))
            }
        })
    }
}

fn changed<'a>(made: Source<'a>, tail: Option<Tail<'a>>) -> Source<'a> {
    match tail {
        Some(tail) => Source::MadeAndChanged { made: Box::new(made), tail },
        None => made,
    }
}

fn padded_bytes(
    chain: &CastChain,
    before: &Descriptor,
    padded: &Descriptor,
    element: &[u8],
    message: &Rope,
    tensor: &TensorView,
) -> Result<Vec<u8>, WireError> {
    let elements = before.shape.elements().unwrap_or(0);
    let mut bytes = chain.convert(message, tensor, elements)?;
    repeat_last(&mut bytes, element.len(), elements);
    Ok(pad(&bytes, &before.shape, &padded.shape, element))
}

/// The casts of a plan do not fit its dtypes.
pub(super) struct NoSuchCast;

/// The values as a typed list, which unlike `tensor_content` may have fewer values than elements.
pub(super) fn typed_list(dtype: DataType, bytes: &[u8]) -> Rope {
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
