//! Collects the values of a file into the statistics of inputs and outputs.
use std::collections::BTreeMap;

use super::Fault;
use crate::profile::describe::{Numbers, TensorStats};
use crate::profile::{By, MAX_TENSORS, MAX_TEXT_BYTES, Profile, Scaler, TensorProfile};
use crate::tensor::{Class, DataType};

/// What the user says about the data.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The columns that make up an input, in the order of its features. Without any, each column of
    /// a table is an input.
    pub columns: BTreeMap<String, Vec<String>>,
    /// The input of a file with a single array, or of rows without names.
    pub input: Option<String>,
    /// The dtypes that inputs have when they are sent, where the file has another.
    pub dtypes: BTreeMap<String, DataType>,
    pub by: BTreeMap<String, By>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

/// The statistics of all inputs and outputs so far.
#[derive(Debug, Default)]
pub struct Collector {
    pub options: Options,
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
    /// Inputs whose values are also passed through a scaler, and into what.
    scalers: BTreeMap<String, (Scaler, Direction)>,
    scaler_of_all: Option<(Scaler, Direction)>,
    /// Inputs whose statistics were in a file, and its rows.
    given: BTreeMap<String, TensorProfile>,
    given_rows: u64,
}

/// Whether the data is what a scaler takes or what it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The data is raw.
    Forward,
    /// The data is scaled.
    Back,
}

/// One input or output.
#[derive(Debug)]
pub struct Tensor {
    stats: TensorStats,
    /// The size of the last axis; 1 for a vector of rows.
    last_axis: u64,
    rows: u64,
    names: Vec<String>,
    scaled: Option<Scaled>,
}

#[derive(Debug)]
struct Scaled {
    maps: Vec<(f64, f64)>,
    direction: Direction,
    numbers: Vec<Numbers>,
    scaler: Scaler,
}

impl Collector {
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Also computes what the scaler makes of the values of an input, or what it made them from.
    /// Without a name, of each input of numbers.
    pub fn scale(&mut self, input: Option<&str>, scaler: Scaler, direction: Direction) {
        match input {
            Some(input) => drop(self.scalers.insert(input.to_owned(), (scaler, direction))),
            None => self.scaler_of_all = Some((scaler, direction)),
        }
    }

    /// The inputs that a scaler is used for.
    pub fn scaled(&self) -> Vec<String> {
        let scaled = self.inputs.iter().filter(|(_, tensor)| tensor.scaled.is_some());
        scaled.map(|(name, _)| name.clone()).collect()
    }

    /// The input or output of a name. Its dtype and shape, with dim 0, must go with those that it
    /// had before.
    ///
    /// # Errors
    /// If they do not, or if there are too many inputs.
    pub fn tensor(
        &mut self,
        side: Side,
        name: &str,
        dtype: DataType,
        shape: &[u64],
    ) -> Result<&mut Tensor, Fault> {
        let tensors = if side == Side::Input { &mut self.inputs } else { &mut self.outputs };
        // Not `entry`, which would take the name as a new string for each row.
        if !tensors.contains_key(name) {
            if tensors.len() == MAX_TENSORS {
                return Err(Fault::new(format!("too many inputs or columns (limit {MAX_TENSORS})")));
            }
            if name.is_empty() || name.len() > MAX_TEXT_BYTES {
                return Err(Fault::new(format!("expected names of 1 to {MAX_TEXT_BYTES} bytes")));
            }
            let of_all = self.scaler_of_all.as_ref().filter(|_| dtype != DataType::STRING);
            let scaler = self.scalers.get(name).or(of_all).filter(|_| side == Side::Input);
            tensors.insert(name.to_owned(), Tensor::new(name, dtype, shape, &self.options, scaler)?);
        }
        let tensor = tensors.get_mut(name).ok_or_else(|| Fault::new("no such input"))?;
        tensor.check(name, dtype, shape)?;
        Ok(tensor)
    }

    /// An input that has been seen.
    pub(super) fn known(&mut self, input: &str) -> Option<&mut Tensor> {
        self.inputs.get_mut(input)
    }

    /// The names of the inputs so far.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().chain(self.given.keys()).map(String::as_str)
    }

    /// Adds an input whose statistics were in a file. They cannot be added to others, or scaled.
    pub(super) fn add_given(
        &mut self,
        name: &str,
        mut tensor: TensorProfile,
        rows: u64,
    ) -> Result<(), Fault> {
        if self.inputs.contains_key(name) || self.given.contains_key(name) {
            return Err(Fault::new(format!(
                "`{name}` has statistics already, which cannot be added to others"
            )));
        }
        if self.inputs.len() + self.given.len() >= MAX_TENSORS {
            return Err(Fault::new(format!("too many inputs (limit {MAX_TENSORS})")));
        }
        if self.scalers.contains_key(name) || self.scaler_of_all.is_some() && tensor.text.is_none() {
            return Err(Fault::new("statistics cannot be scaled (make them of the scaled data too)"));
        }
        if let Some(dtype) = self.options.dtypes.get(name).filter(|dtype| has_numbers(**dtype)) {
            tensor.dtype = *dtype;
        }
        self.given_rows = self.given_rows.max(rows);
        self.given.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// The profile of all values. The number of rows is that of the input with the most.
    pub fn finish(self) -> Profile {
        let rows = self.inputs.values().map(|tensor| tensor.rows).max().unwrap_or_default();
        let rows = rows.max(self.given_rows);
        let profiles = |tensors: BTreeMap<String, Tensor>| {
            tensors.into_iter().map(|(name, tensor)| (name, tensor.profile()))
        };
        let inputs = profiles(self.inputs).chain(self.given).collect();
        Profile { rows, inputs, outputs: profiles(self.outputs).collect(), ..Profile::default() }
    }
}

impl Tensor {
    fn new(
        name: &str,
        dtype: DataType,
        shape: &[u64],
        options: &Options,
        scaler: Option<&(Scaler, Direction)>,
    ) -> Result<Self, Fault> {
        let sent = options.dtypes.get(name).copied().unwrap_or(dtype);
        let is_text = |dtype| dtype == DataType::STRING;
        if !is_text(sent) && !has_numbers(dtype) || is_text(sent) != is_text(dtype) {
            return Err(Fault::new(format!("`{name}` has values of dtype {dtype}, not of {sent}")));
        }
        let last_axis = if shape.len() < 2 { 1 } else { shape.last().copied().unwrap_or(1) };
        let by = options.by.get(name).copied().unwrap_or_else(|| By::of_shape(shape));
        let features = by.features(last_axis);
        if by != By::Whole && features as u64 != last_axis {
            return Err(Fault::new(format!(
                "`{name}` has {last_axis} features (limit {}; use --by {name}=whole)",
                crate::profile::MAX_FEATURES
            )));
        }
        let scaled = match scaler {
            None => None,
            Some(_) if is_text(sent) => {
                return Err(Fault::new(format!("`{name}` has strings, which no scaler changes")));
            }
            Some((scaler, direction)) => Some(Scaled::new(name, scaler, *direction, features)?),
        };
        let stats = TensorStats::new(sent, by, features);
        Ok(Self { stats, last_axis, rows: 0, names: Vec::new(), scaled })
    }

    fn check(&self, name: &str, dtype: DataType, shape: &[u64]) -> Result<(), Fault> {
        let is_text = self.stats.dtype() == DataType::STRING;
        if is_text != (dtype == DataType::STRING) {
            let (now, before) = if is_text { ("numbers", "strings") } else { ("strings", "numbers") };
            return Err(Fault::new(format!("`{name}` has {now} here and {before} before")));
        }
        let last_axis = if shape.len() < 2 { 1 } else { shape.last().copied().unwrap_or(1) };
        if self.stats.by() != By::Whole && last_axis != self.last_axis {
            return Err(Fault::new(format!(
                "`{name}` has {last_axis} features here and {} before (use --by {name}=whole if that is right)",
                self.last_axis
            )));
        }
        Ok(())
    }

    /// Counts rows, which are the size of dim 0.
    pub fn add_rows(&mut self, rows: u64) {
        self.rows = self.rows.saturating_add(rows);
    }

    /// Names the features, if it has that many.
    pub fn name(&mut self, names: &[String]) {
        if names.len() == self.stats.features() {
            self.names = names.to_vec();
        }
    }

    /// Adds numbers in the order of the tensor; `first` is the index of the first in its row or in
    /// the tensor.
    pub fn add(&mut self, first: u64, values: &[f64]) {
        self.stats.add(first, values);
        if let Some(scaled) = &mut self.scaled {
            let features = scaled.numbers.len().max(1) as u64;
            for (value, at) in values.iter().zip(first..) {
                scaled.add((at % features) as usize, *value);
            }
        }
    }

    /// Adds numbers that are all of one position in the last axis.
    pub fn add_to(&mut self, feature: usize, values: &[f64]) {
        let feature = if self.stats.features() == 1 { 0 } else { feature };
        self.stats.add_to(feature, values);
        if let Some(scaled) = &mut self.scaled {
            for value in values {
                scaled.add(feature, *value);
            }
        }
    }

    pub fn add_text(&mut self, text: &[u8]) {
        self.stats.add_text(text);
    }

    /// Adds a row without any value.
    pub fn add_missing(&mut self) {
        if self.stats.dtype() == DataType::STRING {
            self.stats.add_text(b"");
        }
        for feature in 0..self.stats.features() {
            self.add_to(feature, &[f64::NAN]);
        }
    }

    fn profile(mut self) -> TensorProfile {
        let mut profile = TensorProfile { names: self.names, ..self.stats.profile() };
        if let Some(mut scaled) = self.scaled {
            let other = scaled.numbers.iter_mut().map(Numbers::profile).collect();
            profile.scaler = Some(scaled.scaler);
            profile.raw = Some(match scaled.direction {
                Direction::Back => other,
                Direction::Forward => std::mem::replace(&mut profile.features, other),
            });
        }
        profile
    }
}

/// Whether a dtype's values are real numbers.
pub(super) fn has_numbers(dtype: DataType) -> bool {
    let class = dtype.info().map(|info| info.class);
    matches!(class, Some(Class::Float | Class::Signed | Class::Unsigned | Class::Bool))
}

impl Scaled {
    fn new(name: &str, scaler: &Scaler, direction: Direction, features: usize) -> Result<Self, Fault> {
        scaler.check().map_err(|text| Fault::new(format!("`{name}`: {text}")))?;
        if scaler.width() != 1 && scaler.width() != features {
            return Err(Fault::new(format!(
                "the scaler has numbers for {} features, `{name}` has {features} (the input must have the scaler's columns in its order; for another input: --scaler INPUT=FILE)",
                scaler.width()
            )));
        }
        Ok(Self {
            maps: (0..features).filter_map(|feature| scaler.affine(feature)).collect(),
            direction,
            numbers: vec![Numbers::default(); features],
            scaler: scaler.clone(),
        })
    }

    fn add(&mut self, feature: usize, value: f64) {
        let Some(((factor, offset), numbers)) = self.maps.get(feature).zip(self.numbers.get_mut(feature))
        else {
            return;
        };
        numbers.add(match self.direction {
            Direction::Forward => value * factor + offset,
            Direction::Back => {
                let raw = (value - offset) / factor;
                // A whole number comes back with the rounding of a float32.
                let rounding = (value.abs() + offset.abs()) / factor.abs() * f64::from(f32::EPSILON);
                if (raw - raw.round()).abs() <= rounding.min(0.01) { raw.round() } else { raw }
            }
        });
    }
}
