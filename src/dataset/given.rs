//! Statistics that a file already has, by column, and the inputs that the columns make up.
use std::collections::BTreeMap;

use super::Fault;
use super::collect::Collector;
use crate::profile::{
    By, FeatureProfile, MAX_FEATURES, MAX_TENSORS, MAX_TEXT_BYTES, TensorProfile, TextProfile,
};
use crate::tensor::DataType;

/// The statistics of a column.
#[derive(Debug, Clone)]
pub(super) enum Column {
    Numbers(DataType, FeatureProfile),
    Texts(TextProfile),
}

#[derive(Debug, Default)]
pub(super) struct Given {
    pub rows: u64,
    columns: BTreeMap<String, Column>,
}

impl Given {
    pub(super) fn add(&mut self, name: String, column: Column) -> Result<(), Fault> {
        if name.is_empty() || name.len() > MAX_TEXT_BYTES {
            return Err(Fault::new(format!("expected names of 1 to {MAX_TEXT_BYTES} bytes")));
        }
        if self.columns.len() == MAX_FEATURES + MAX_TENSORS {
            return Err(Fault::new("too many features"));
        }
        if self.columns.insert(name.clone(), column).is_some() {
            return Err(Fault::new(format!("`{}` has statistics twice", name.escape_debug())));
        }
        Ok(())
    }

    /// Adds the inputs: each column is one, unless the user has joined some.
    pub(super) fn finish(mut self, collector: &mut Collector) -> Result<(), Fault> {
        let joined = collector.options.columns.clone();
        if joined.is_empty() {
            for (name, column) in self.columns {
                let tensor = match column {
                    Column::Numbers(dtype, feature) => numbers(dtype, By::Whole, vec![feature], Vec::new()),
                    Column::Texts(text) => texts(text),
                };
                collector.add_given(&name, tensor, self.rows)?;
            }
            return Ok(());
        }
        for (input, names) in joined {
            let (mut features, mut first) = (Vec::new(), None);
            for name in &names {
                match (self.columns.remove(name), names.len()) {
                    (Some(Column::Numbers(dtype, feature)), _) => {
                        first.get_or_insert(dtype);
                        features.push(feature);
                    }
                    (Some(Column::Texts(text)), 1) => collector.add_given(&input, texts(text), self.rows)?,
                    (Some(Column::Texts(_)), _) => {
                        return Err(Fault::new(format!("column `{name}`: expected numbers, got strings")));
                    }
                    (None, _) => return Err(Fault::new(format!("there are no statistics of `{name}`"))),
                }
            }
            if let Some(dtype) = first {
                // Features of one tensor have one dtype; whole numbers among others are floats.
                let dtype = if names.len() > 1 { DataType::FLOAT } else { dtype };
                collector.add_given(&input, numbers(dtype, By::Feature, features, names), self.rows)?;
            }
        }
        Ok(())
    }
}

fn numbers(dtype: DataType, by: By, features: Vec<FeatureProfile>, names: Vec<String>) -> TensorProfile {
    TensorProfile { dtype, by, features, names, raw: None, scaler: None, text: None }
}

fn texts(text: TextProfile) -> TensorProfile {
    TensorProfile { text: Some(text), ..numbers(DataType::STRING, By::Whole, Vec::new(), Vec::new()) }
}
