//! Rows of named columns, as in CSV files, and which inputs they make up.
use std::collections::HashMap;

use super::Fault;
use super::collect::{Collector, Side};
use crate::tensor::DataType;

/// Different spellings of a missing value that a column can begin with.
const MAX_PENDING: usize = 8;

/// What one column has in one row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    /// No value, with its spelling, such as `NA`.
    Missing(&'a [u8]),
    Numbers {
        dtype: DataType,
        /// The shape of the value: empty for a single number.
        shape: &'a [u64],
        values: &'a [f64],
    },
    /// Numbers in one axis.
    Vector {
        dtype: DataType,
        values: &'a [f64],
    },
    Texts {
        shape: &'a [u64],
        values: &'a [Vec<u8>],
    },
    /// A single string.
    Text(&'a [u8]),
}

/// The columns of a file.
pub(super) struct Table<'a> {
    collector: &'a mut Collector,
    by_name: HashMap<String, usize>,
    columns: Vec<Column>,
    /// Inputs that several columns make up.
    joined: Vec<Joined>,
}

#[derive(Debug)]
struct Column {
    slot: Slot,
    /// Missing values before the first other one, which tells numbers from strings.
    pending: Vec<(Vec<u8>, u64)>,
    is_text: Option<bool>,
    seen: bool,
}

#[derive(Debug, Clone)]
enum Slot {
    /// An input of its own.
    Input(String),
    /// A feature of one of `joined`.
    Feature(usize, usize),
    /// No input has it.
    Unused,
}

#[derive(Debug)]
struct Joined {
    input: String,
    columns: Vec<String>,
    row: Vec<f64>,
}

impl<'a> Table<'a> {
    pub(super) fn new(collector: &'a mut Collector) -> Self {
        let several = collector.options.columns.iter();
        let joined = several
            .map(|(input, columns)| Joined {
                input: input.clone(),
                columns: columns.clone(),
                row: vec![f64::NAN; columns.len()],
            })
            .collect();
        Self { collector, by_name: HashMap::new(), columns: Vec::new(), joined }
    }

    /// The columns that `--columns` names and the file does not have.
    pub(super) fn absent<'c>(&'c self, known: &'c [String]) -> Option<&'c str> {
        let all = self.joined.iter().flat_map(|joined| &joined.columns);
        all.into_iter().find(|column| !known.contains(column)).map(String::as_str)
    }

    /// The index of a column by its name.
    pub(super) fn column(&mut self, name: &str) -> Result<usize, Fault> {
        if let Some(known) = self.by_name.get(name) {
            return Ok(*known);
        }
        if self.columns.len() == crate::profile::MAX_FEATURES + crate::profile::MAX_TENSORS {
            return Err(Fault::new("too many columns"));
        }
        let slot = self.slot(name);
        let at = self.columns.len();
        self.columns.push(Column { slot, pending: Vec::new(), is_text: None, seen: false });
        self.by_name.insert(name.to_owned(), at);
        Ok(at)
    }

    fn slot(&self, name: &str) -> Slot {
        if self.joined.is_empty() {
            return Slot::Input(name.to_owned());
        }
        for (at, joined) in self.joined.iter().enumerate() {
            if let Some(feature) = joined.columns.iter().position(|column| column == name) {
                // A single column may have a vector in each row, or a string.
                return if joined.columns.len() == 1 {
                    Slot::Input(joined.input.clone())
                } else {
                    Slot::Feature(at, feature)
                };
            }
        }
        Slot::Unused
    }

    /// Whether the column has strings; `None` before its first value.
    pub(super) fn is_text(&self, column: usize) -> Option<bool> {
        self.columns.get(column).and_then(|column| column.is_text)
    }

    /// The dtype that the user has given for a column's input.
    pub(super) fn wants_text(&self, column: usize) -> bool {
        let input = self.columns.get(column).map(|column| &column.slot);
        matches!(input, Some(Slot::Input(input))
            if self.collector.options.dtypes.get(input) == Some(&DataType::STRING))
    }

    pub(super) fn is_used(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|column| !matches!(column.slot, Slot::Unused))
    }

    /// Adds the value of a column in this row.
    pub(super) fn add(&mut self, at: usize, cell: Cell<'_>) -> Result<(), Fault> {
        let length = if let Cell::Vector { values, .. } = cell { [values.len() as u64] } else { [1] };
        let cell = match cell {
            Cell::Vector { dtype, values } => Cell::Numbers { dtype, shape: &length, values },
            other => other,
        };
        let Some(column) = self.columns.get_mut(at) else { return Ok(()) };
        if std::mem::replace(&mut column.seen, true) {
            return Err(Fault::new("the row has it twice"));
        }
        let input = match &column.slot {
            Slot::Unused => return Ok(()),
            Slot::Feature(joined, feature) => {
                let (joined, feature) = (*joined, *feature);
                let value = match cell {
                    Cell::Missing(_) => f64::NAN,
                    Cell::Numbers { shape, values: [value], .. } if shape.is_empty() || shape == [1] => {
                        *value
                    }
                    Cell::Numbers { values, .. } | Cell::Vector { values, .. } => {
                        return Err(Fault::new(format!(
                            "expected 1 number, got {} (an input of several columns has one of each)",
                            values.len()
                        )));
                    }
                    Cell::Text(_) | Cell::Texts { .. } => {
                        return Err(Fault::new("expected a number, got a string"));
                    }
                };
                let row = self.joined.get_mut(joined).map(|joined| &mut joined.row);
                if let Some(place) = row.and_then(|row| row.get_mut(feature)) {
                    *place = value;
                }
                return Ok(());
            }
            Slot::Input(input) => input.clone(),
        };
        let dim = |shape: &[u64]| [&[0], shape].concat();
        let (dtype, shape) = match cell {
            Cell::Missing(word) => return self.missing(at, &input, word),
            Cell::Numbers { dtype, shape, .. } => (dtype, dim(shape)),
            Cell::Vector { dtype, .. } => (dtype, dim(&length)),
            Cell::Texts { shape, .. } => (DataType::STRING, dim(shape)),
            Cell::Text(_) => (DataType::STRING, vec![0]),
        };
        let tensor = self.collector.tensor(Side::Input, &input, dtype, &shape)?;
        let is_text = dtype == DataType::STRING;
        if column.is_text.is_none() {
            column.is_text = Some(is_text);
            for (word, times) in column.pending.drain(..) {
                for _ in 0..times {
                    tensor.add_rows(1);
                    if is_text { tensor.add_text(&word) } else { tensor.add_missing() }
                }
            }
            if self.joined.iter().any(|joined| joined.input == input) {
                tensor.name(
                    &self
                        .by_name
                        .iter()
                        .find(|(_, index)| **index == at)
                        .map(|(name, _)| name.clone())
                        .into_iter()
                        .collect::<Vec<_>>(),
                );
            }
        }
        tensor.add_rows(1);
        match cell {
            Cell::Numbers { values, .. } | Cell::Vector { values, .. } => tensor.add(0, values),
            Cell::Texts { values, .. } => values.iter().for_each(|text| tensor.add_text(text)),
            Cell::Text(text) => tensor.add_text(text),
            Cell::Missing(_) => {}
        }
        Ok(())
    }

    /// A missing value of an input of its own. In a column of strings, its spelling is a string.
    fn missing(&mut self, at: usize, input: &str, word: &[u8]) -> Result<(), Fault> {
        let Some(column) = self.columns.get_mut(at) else { return Ok(()) };
        let Some(is_text) = column.is_text else {
            let pending = &mut column.pending;
            match pending.iter().position(|(known, _)| known == word) {
                None if pending.len() < MAX_PENDING => pending.push((word.to_vec(), 1)),
                // One spelling more than anyone uses counts as the last one.
                at => {
                    if let Some((_, times)) = pending.get_mut(at.unwrap_or(MAX_PENDING - 1)) {
                        *times += 1;
                    }
                }
            }
            return Ok(());
        };
        // The shape is known from the rows before.
        if let Some(tensor) = self.collector.known(input) {
            tensor.add_rows(1);
            if is_text { tensor.add_text(word) } else { tensor.add_missing() }
        }
        Ok(())
    }

    /// Ends a row. A column that it did not have is missing.
    pub(super) fn end_row(&mut self) -> Result<(), Fault> {
        for at in 0..self.columns.len() {
            let seen = self.columns.get_mut(at).is_some_and(|column| std::mem::take(&mut column.seen));
            if !seen {
                self.add(at, Cell::Missing(b""))?;
                if let Some(column) = self.columns.get_mut(at) {
                    column.seen = false;
                }
            }
        }
        for joined in self.joined.iter_mut().filter(|joined| joined.columns.len() > 1) {
            let shape = [0, joined.columns.len() as u64];
            let tensor = self.collector.tensor(Side::Input, &joined.input, DataType::FLOAT, &shape)?;
            tensor.add_rows(1);
            tensor.add(0, &joined.row);
            tensor.name(&joined.columns);
            joined.row.fill(f64::NAN);
        }
        Ok(())
    }

    /// Ends the file: columns that never had a value are numbers that are always missing.
    pub(super) fn finish(mut self) -> Result<(), Fault> {
        for column in &mut self.columns {
            let Slot::Input(input) = &column.slot else { continue };
            for (_, times) in column.pending.drain(..) {
                let tensor = self.collector.tensor(Side::Input, input, DataType::FLOAT, &[0])?;
                tensor.add_rows(times);
                for _ in 0..times {
                    tensor.add_missing();
                }
            }
        }
        Ok(())
    }
}
