//! Makes the values of an input that transforms change, as the plan says.
use super::pass::Pass;
use super::{Image, Numbers, Transform, images, strings};
use crate::repair::cast_chain::CastChain;
use crate::repair::descriptor::{Descriptor, Encoding};
use crate::tensor::{Cast, DataType, Exactness};
use crate::wire::values::Stop;
use crate::wire::{Rope, TensorView, WireError};

/// A transform as a step makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub transform: Transform,
    /// What is done to the numbers, if it changes numbers.
    pub numbers: Option<Numbers>,
    /// Bytes that are allocated beside the result.
    pub scratch: u64,
}

/// The transforms of strings.
#[derive(Debug)]
pub(in crate::repair) struct Strings<'a> {
    source: strings::Source,
    list: Vec<&'a Transform>,
}

impl<'a> Strings<'a> {
    /// `whole`: the bytes of `tensor_content` are the one string.
    pub(in crate::repair) fn new(before: &Descriptor, whole: bool) -> Self {
        Self { source: source(before, whole), list: Vec::new() }
    }

    pub(in crate::repair) fn push(&mut self, transform: &'a Transform) {
        self.list.push(transform);
    }

    /// Bytes that are allocated at most.
    pub(in crate::repair) fn memory(&self, tensor: &TensorView) -> u64 {
        (strings::size(tensor, self.source) as u64).saturating_mul(strings::GROWTH)
    }

    pub(in crate::repair) fn encode(&self, message: &Rope, tensor: &TensorView) -> Result<Rope, WireError> {
        strings::make(message, tensor, self.source, &self.list)
    }

    /// The pixels of the files that the strings are, in this shape and dtype.
    pub(in crate::repair) fn pixels(
        &self,
        message: &Rope,
        tensor: &TensorView,
        options: Image,
        after: &Descriptor,
    ) -> Vec<u8> {
        images::make(message, tensor, self.source, &self.list, options, (&after.shape, after.dtype))
    }
}

/// Where the strings of a tensor are.
pub(in crate::repair) fn source(before: &Descriptor, whole: bool) -> strings::Source {
    match before.encoding {
        _ if whole => strings::Source::Whole,
        Encoding::Content => strings::Source::Content { count: before.values },
        Encoding::List(_) | Encoding::Nothing => strings::Source::List,
    }
}

/// What is done to the elements after dtype and shape are those of the signature.
#[derive(Debug)]
pub(in crate::repair) struct Tail<'a> {
    numbers: Vec<Numbers>,
    axes: Option<&'a [usize]>,
    before: &'a Descriptor,
}

impl<'a> Tail<'a> {
    /// `before` is the tensor before the first of the changes.
    pub(in crate::repair) fn new(before: &'a Descriptor) -> Self {
        Self { numbers: Vec::new(), axes: None, before }
    }

    pub(in crate::repair) fn push(&mut self, made: &'a Made) {
        if let Transform::Transpose(axes) = &made.transform {
            self.axes = Some(axes);
        }
        self.numbers.extend(made.numbers.clone());
    }

    pub(in crate::repair) fn before(&self) -> &'a Descriptor {
        self.before
    }

    pub(in crate::repair) fn changes_numbers(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// The pass that makes it all; `None` if the dtype has no numbers.
    pub(in crate::repair) fn pass(&self) -> Option<Pass> {
        Pass::new(self.numbers.clone(), self.axes, &self.before.shape, self.before.dtype)
    }

    /// The elements of `chain`, of which the result has `values`.
    pub(in crate::repair) fn of_chain(
        &self,
        pass: Pass,
        chain: &CastChain,
        message: &Rope,
        tensor: &TensorView,
        values: u64,
    ) -> Result<Vec<u8>, WireError> {
        let elements = self.before.shape.elements().unwrap_or(0);
        let mut pass = if values < elements { pass.in_place() } else { pass };
        let size = if pass.takes_doubles() { size_of::<f64>() } else { pass.width() };
        let mut out = pass.room(values);
        let (mut last, mut come) = (Vec::new(), 0);
        let read = chain.stream(message, tensor, &mut |block: &[u8]| {
            pass.feed(block, &mut out);
            come += (block.len() / size) as u64;
            if let Some(start) = block.len().checked_sub(size) {
                last.clear();
                last.extend_from_slice(&block[start..]);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        match read {
            Ok(()) => {}
            Err(Stop::Wire(error)) => return Err(error),
            Err(Stop::Sink(never)) => match never {},
        }
        // TensorFlow repeats the last value of a list that is shorter than its shape.
        if !last.is_empty() {
            for _ in come..values {
                pass.feed(&last, &mut out);
            }
        }
        Ok(out)
    }

    /// Elements that are there already, in the dtype of the result.
    pub(in crate::repair) fn of_bytes(&self, mut pass: Pass, elements: &[u8]) -> Vec<u8> {
        let width = pass.width().max(1);
        let mut out = pass.room((elements.len() / width) as u64);
        if !pass.takes_doubles() {
            pass.feed(elements, &mut out);
            return out;
        }
        let Some(cast) = Cast::new(self.before.dtype, DataType::DOUBLE, Exactness::Exact) else { return out };
        let mut doubles = Vec::new();
        for block in elements.chunks(BLOCK * width) {
            doubles.clear();
            cast.convert(block, &mut doubles);
            pass.feed(&doubles, &mut out);
        }
        out
    }
}

/// Elements that are cast at a time.
const BLOCK: usize = 512;
