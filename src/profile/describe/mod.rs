//! Computes the statistics of a profile from values that pass by once, in constant memory.
mod numbers;
#[cfg(test)]
mod tests;
mod texts;

pub use numbers::Numbers;
pub use texts::Texts;

use super::{By, MAX_FEATURES, TensorProfile};
use crate::tensor::DataType;

/// Channels that an image can have. A last axis of another size is one of features.
const MAX_CHANNELS: u64 = 4;

/// The statistics of one input or output while its values are read.
#[derive(Debug)]
pub struct TensorStats {
    dtype: DataType,
    by: By,
    numbers: Vec<Numbers>,
    texts: Option<Texts>,
}

impl By {
    /// How values of a shape share their statistics, unless someone says otherwise: images
    /// `[N, H, W, C]` of at most 4 channels by channel, other tensors with at least two axes by the
    /// features of their last axis, and everything else as a whole.
    pub fn of_shape(shape: &[u64]) -> Self {
        match shape {
            [_, _, _, channels] if *channels <= MAX_CHANNELS => Self::Channel,
            [_, .., features] if (1..=MAX_FEATURES as u64).contains(features) => Self::Feature,
            _ => Self::Whole,
        }
    }

    /// How many features have statistics, for tensors whose last axis has this size.
    pub fn features(self, last_axis: u64) -> usize {
        match self {
            Self::Whole => 1,
            Self::Feature | Self::Channel => last_axis.clamp(1, MAX_FEATURES as u64) as usize,
        }
    }
}

impl TensorStats {
    /// Statistics of `features` features: 1 for [`By::Whole`], else the size of the last axis. At
    /// most [`MAX_FEATURES`] are kept. Strings have none.
    pub fn new(dtype: DataType, by: By, features: usize) -> Self {
        let is_text = dtype == DataType::STRING;
        let features = if is_text { 0 } else { features.clamp(1, MAX_FEATURES) };
        Self {
            dtype,
            by: if is_text { By::Whole } else { by },
            numbers: (0..features).map(|_| Numbers::default()).collect(),
            texts: is_text.then(Texts::default),
        }
    }

    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    pub fn by(&self) -> By {
        self.by
    }

    /// 0 for strings.
    pub fn features(&self) -> usize {
        self.numbers.len()
    }

    /// Adds numbers that lie in the order of their features. The first is of the feature `first`,
    /// counted on past the last one.
    pub fn add(&mut self, first: u64, values: &[f64]) {
        let Some(features) = Some(self.numbers.len()).filter(|features| *features > 0) else { return };
        if let [only] = self.numbers.as_mut_slice() {
            for value in values {
                only.add(*value);
            }
            return;
        }
        let mut at = (first % features as u64) as usize;
        for value in values {
            if let Some(numbers) = self.numbers.get_mut(at) {
                numbers.add(*value);
            }
            at = if at + 1 == features { 0 } else { at + 1 };
        }
    }

    /// Adds numbers that are all of one feature.
    pub fn add_to(&mut self, feature: usize, values: &[f64]) {
        if let Some(numbers) = self.numbers.get_mut(feature) {
            for value in values {
                numbers.add(*value);
            }
        }
    }

    /// Adds a string.
    pub fn add_text(&mut self, text: &[u8]) {
        if let Some(texts) = &mut self.texts {
            texts.add(text);
        }
    }

    /// Adds a string of so many bytes that is not kept.
    pub fn add_length(&mut self, bytes: usize) {
        if let Some(texts) = &mut self.texts {
            texts.add_length(bytes);
        }
    }

    /// Adds what others have seen of the same tensor. Nothing happens if the two differ in dtype or
    /// features.
    pub fn merge(&mut self, other: &mut Self) {
        if self.dtype != other.dtype || self.numbers.len() != other.numbers.len() {
            return;
        }
        for (own, of) in self.numbers.iter_mut().zip(&mut other.numbers) {
            own.merge(of);
        }
        if let (Some(own), Some(of)) = (&mut self.texts, &other.texts) {
            own.merge(of);
        }
    }

    /// The statistics so far. Names, raw features and a scaler are for the caller to add.
    pub fn profile(&mut self) -> TensorProfile {
        TensorProfile {
            dtype: self.dtype,
            by: self.by,
            features: self.numbers.iter_mut().map(Numbers::profile).collect(),
            names: Vec::new(),
            raw: None,
            scaler: None,
            text: self.texts.as_mut().map(Texts::profile),
        }
    }

    /// About how many bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        let numbers: usize = self.numbers.iter().map(Numbers::bytes).sum();
        size_of::<Self>() + numbers + self.texts.as_ref().map_or(0, Texts::bytes)
    }
}
