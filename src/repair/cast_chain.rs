//! The casts that a tensor's values go through: checked while planning, converted while applying.
use smallvec::SmallVec;

use super::descriptor::{Descriptor, Encoding};
use crate::tensor::{Cast, CastFault, DataType, Exactness, ValueList};
use crate::wire::rope::Rope;
use crate::wire::values::{self, Carrier, Stop};
use crate::wire::{TensorView, WireError};

/// Elements that are converted at a time for [`CastChain::stream`].
const STREAMED: usize = 512;

/// Where the values are read from, and the casts that they go through, in order.
#[derive(Debug, Clone)]
pub(super) struct CastChain {
    carrier: Option<Carrier>,
    casts: SmallVec<[Link; 2]>,
    /// The dtype of the elements after the casts.
    dtype: DataType,
}

/// A cast and the dtype of its result.
#[derive(Debug, Clone, Copy)]
struct Link {
    cast: Cast,
    to: DataType,
}

/// A value that a cast would change, and the dtype that cannot hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) fault: CastFault,
    pub(super) to: DataType,
}

impl CastChain {
    /// The values as they were sent, without casts.
    pub(super) fn new(sent: &Descriptor) -> Self {
        let (carrier, dtype) = match sent.encoding {
            Encoding::Nothing => (None, sent.dtype),
            Encoding::Content => {
                (Some(Carrier::Content { size: sent.dtype.size().unwrap_or(1) }), sent.dtype)
            }
            Encoding::List(list) => (Some(Carrier::List(list)), element_dtype(list, sent.dtype)),
        };
        Self { carrier, casts: SmallVec::new(), dtype }
    }

    /// The chain with one more cast. `before` is the descriptor of the tensor so far. `None` if
    /// there is no such cast.
    pub(super) fn then(&self, before: &Descriptor, to: DataType, exactness: Exactness) -> Option<Self> {
        let mut next = self.clone();
        let own = matches!(before.encoding, Encoding::List(list) if before.dtype.info().is_some_and(|info| info.list == list));
        if self.casts.is_empty() && own && self.dtype != before.dtype {
            // `int_val` holds small integers as int32. 300 in a uint8 tensor is out of range,
            // although TensorFlow would read it as 44.
            next.casts.push(Link {
                cast: Cast::new(self.dtype, before.dtype, Exactness::Exact)?,
                to: before.dtype,
            });
            next.dtype = before.dtype;
        }
        next.casts.push(Link { cast: Cast::new(next.dtype, to, exactness)?, to });
        next.dtype = to;
        Some(next)
    }

    /// The chain with the bytes of the values read as another dtype of the same width. `None` if
    /// the values cannot be read as `before` says.
    pub(super) fn relabelled(&self, before: &Descriptor, to: DataType) -> Option<Self> {
        let mut next = match before.encoding {
            Encoding::List(_) => self.then(before, before.dtype, Exactness::Exact)?,
            Encoding::Content | Encoding::Nothing => self.clone(),
        };
        next.dtype = to;
        Some(next)
    }

    /// Passes all values to `sink` after the casts, in blocks of whole elements.
    ///
    /// # Errors
    /// An error of the sink, or values that cannot be read.
    pub(super) fn stream<E>(
        &self,
        message: &Rope,
        tensor: &TensorView,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let Some((first, rest)) = self.casts.split_first() else {
            return self.read(message, tensor, sink);
        };
        let mut scratch = Scratch::default();
        self.read(message, tensor, &mut |block| {
            // A chunk may be the whole message: converted at once, it would be another one.
            for block in block.chunks(STREAMED * first.cast.from_size()) {
                scratch.fill(&first.cast, block);
                for link in rest {
                    scratch.step(&link.cast);
                }
                sink(&scratch.now)?;
            }
            Ok(())
        })
    }

    /// Fails on the first value that one of the casts would change.
    pub(super) fn check(&self, message: &Rope, tensor: &TensorView) -> Result<(), Stop<Loss>> {
        let Some((first, rest)) = self.casts.split_first() else { return Ok(()) };
        let mut scratch = Scratch::default();
        let mut done = 0;
        self.read(message, tensor, &mut |block| {
            let locate = |link: &Link| {
                let to = link.to;
                move |fault: CastFault| Loss { fault: CastFault { index: fault.index + done, ..fault }, to }
            };
            first.cast.check(block).map_err(locate(first))?;
            // Intermediate values are needed only for two or more casts, which is rare.
            if !rest.is_empty() {
                scratch.fill(&first.cast, block);
                for (at, link) in rest.iter().enumerate() {
                    link.cast.check(&scratch.now).map_err(locate(link))?;
                    if at + 1 < rest.len() {
                        scratch.step(&link.cast);
                    }
                }
            }
            done += block.len() / first.cast.from_size();
            Ok(())
        })
    }

    /// Size of an element after the casts.
    pub(super) fn width(&self) -> usize {
        self.casts.last().map_or_else(|| self.dtype.size().unwrap_or(1), |link| link.cast.to_size())
    }

    /// All values after the casts, little-endian. `values` is how many to make room for.
    pub(super) fn convert(
        &self,
        message: &Rope,
        tensor: &TensorView,
        values: u64,
    ) -> Result<Vec<u8>, WireError> {
        let width = self.width();
        // Planning counted the values, so this is bounded by the size of the message times the
        // ratio of the two dtypes' sizes.
        let mut out = Vec::with_capacity(usize::try_from(values).unwrap_or(0).saturating_mul(width));
        let mut scratch = Scratch::default();
        let read = self.read(message, tensor, &mut |block| {
            match self.casts.as_slice() {
                [] => out.extend_from_slice(block),
                [only] => only.cast.convert(block, &mut out),
                [first, between @ .., last] => {
                    scratch.fill(&first.cast, block);
                    for link in between {
                        scratch.step(&link.cast);
                    }
                    last.cast.convert(&scratch.now, &mut out);
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
        match read {
            Ok(()) => Ok(out),
            Err(Stop::Wire(error)) => Err(error),
            Err(Stop::Sink(never)) => match never {},
        }
    }

    fn read<E>(
        &self,
        message: &Rope,
        tensor: &TensorView,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.carrier.map_or(Ok(()), |carrier| values::read(message, tensor, carrier, sink))
    }
}

/// The dtype of a list's elements as they are read: the list's own, or the tensor's if the list
/// holds bit patterns.
fn element_dtype(list: ValueList, tensor: DataType) -> DataType {
    list.native().unwrap_or(tensor)
}

#[derive(Default)]
struct Scratch {
    now: Vec<u8>,
    next: Vec<u8>,
}

impl Scratch {
    fn fill(&mut self, cast: &Cast, block: &[u8]) {
        self.now.clear();
        cast.convert(block, &mut self.now);
    }

    fn step(&mut self, cast: &Cast) {
        self.next.clear();
        cast.convert(&self.now, &mut self.next);
        std::mem::swap(&mut self.now, &mut self.next);
    }
}
