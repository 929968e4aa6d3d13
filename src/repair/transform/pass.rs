//! The one pass over the values of an input: each block is cast, its numbers are changed, and its
//! elements go to their places.
use super::numbers::{Layout, Numbers};
use super::scatter::Scatter;
use crate::tensor::{Cast, CastFault, DataType, Exactness, FaultKind, Shape};

/// Values that are in work at a time.
const BLOCK: usize = 512;

/// What is done to the elements after they were cast. Elements come as float64 if numbers are
/// changed, otherwise in the dtype of the result.
#[derive(Debug, Clone)]
pub(in crate::repair) struct Pass {
    numbers: Vec<Numbers>,
    layout: Layout,
    /// From float64 to the dtype of the result.
    cast: Option<Cast>,
    scatter: Option<Scatter>,
    /// Size of an element of the result.
    width: usize,
    /// Elements that came.
    done: usize,
}

/// A number that the result cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::repair) struct Overflow {
    pub index: usize,
}

impl Pass {
    /// `shape` is that of the elements as they come, `to` their dtype at the end. `None` if there
    /// is no cast to it.
    pub(in crate::repair) fn new(
        numbers: Vec<Numbers>,
        axes: Option<&[usize]>,
        shape: &Shape,
        to: DataType,
    ) -> Option<Self> {
        let width = to.size()?;
        let last = axes.map_or(shape.rank().checked_sub(1), |axes| axes.last().copied());
        let size = |axis: usize| shape.get(axis).map_or(1, |size| usize::try_from(*size).unwrap_or(1));
        let layout = match last {
            Some(last) => {
                Layout { features: size(last), stride: (last + 1..shape.rank()).map(size).product() }
            }
            None => Layout { features: 1, stride: 1 },
        };
        let cast =
            if numbers.is_empty() { None } else { Some(Cast::new(DataType::DOUBLE, to, Exactness::Round)?) };
        let scatter = axes.map(|axes| Scatter::new(shape, axes, width));
        Some(Self { numbers, layout, cast, scatter, width, done: 0 })
    }

    /// Whether elements must come as float64.
    pub(in crate::repair) fn takes_doubles(&self) -> bool {
        self.cast.is_some()
    }

    /// Whether one value that stands for all elements still does after the pass.
    pub(in crate::repair) fn is_uniform(&self) -> bool {
        self.numbers.iter().all(|numbers| numbers.features().is_none())
    }

    /// Without moving elements, which makes no difference where all are equal.
    pub(in crate::repair) fn in_place(mut self) -> Self {
        self.scatter = None;
        self
    }

    /// Size of an element of the result.
    pub(in crate::repair) fn width(&self) -> usize {
        self.width
    }

    /// Room for the result of so many elements.
    pub(in crate::repair) fn room(&self, elements: u64) -> Vec<u8> {
        let bytes = usize::try_from(elements).unwrap_or(0).saturating_mul(self.width);
        if self.scatter.is_some() { vec![0; bytes] } else { Vec::with_capacity(bytes) }
    }

    /// Passes elements on to `out`, which is [`Self::room`] with what came before.
    pub(in crate::repair) fn feed(&mut self, elements: &[u8], out: &mut Vec<u8>) {
        let Some(cast) = self.cast else {
            self.done += elements.len() / self.width.max(1);
            self.put(elements, out);
            return;
        };
        let (mut doubles, mut bytes) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK * 8));
        let mut cast_bytes = Vec::with_capacity(BLOCK * self.width);
        for block in elements.chunks(BLOCK * size_of::<f64>()) {
            self.change(block, &mut doubles);
            bytes.clear();
            bytes.extend(doubles.iter().flat_map(|value| value.to_le_bytes()));
            cast_bytes.clear();
            cast.convert(&bytes, &mut cast_bytes);
            self.put(&cast_bytes, out);
        }
    }

    /// Checks that the result can hold each of the elements.
    ///
    /// # Errors
    /// The first finite number that becomes an infinity.
    pub(in crate::repair) fn check(&mut self, elements: &[u8]) -> Result<(), Overflow> {
        let Some(cast) = self.cast else { return Ok(()) };
        let (mut doubles, mut bytes) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK * 8));
        for block in elements.chunks(BLOCK * size_of::<f64>()) {
            let first = self.done;
            self.change(block, &mut doubles);
            let lost = doubles
                .iter()
                .zip(block.as_chunks().0)
                .position(|(value, before)| value.is_infinite() && f64::from_le_bytes(*before).is_finite());
            bytes.clear();
            bytes.extend(doubles.iter().flat_map(|value| value.to_le_bytes()));
            let fault = match lost {
                Some(index) => Err(index),
                None => cast.check(&bytes).map_err(|CastFault { index, kind, .. }| {
                    debug_assert_eq!(kind, FaultKind::OutOfRange, "rounding is allowed");
                    index
                }),
            };
            fault.map_err(|index| Overflow { index: first + index })?;
        }
        Ok(())
    }

    fn change(&mut self, block: &[u8], doubles: &mut Vec<f64>) {
        doubles.clear();
        doubles.extend(block.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        for numbers in &self.numbers {
            numbers.change(doubles, self.done, self.layout);
        }
        self.done += doubles.len();
    }

    fn put(&mut self, elements: &[u8], out: &mut Vec<u8>) {
        match &mut self.scatter {
            Some(scatter) => scatter.place(elements, out),
            None => out.extend_from_slice(elements),
        }
    }
}
