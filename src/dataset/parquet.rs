//! Reads Parquet files, with the feature `parquet`: the columns are those of a table.
use std::fs::File;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::Field;

use super::Fault;
use super::collect::Collector;
use super::fault::Place;
use super::table::{Cell, Table};
use crate::tensor::DataType;

/// Values of one row of a column.
const MAX_VALUES: usize = 1 << 24;

pub(super) fn read(
    file: File,
    collector: &mut Collector,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Fault> {
    let bytes = file.metadata()?.len();
    let reader = SerializedFileReader::new(file).map_err(fault)?;
    let rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
    let names: Vec<String> = reader
        .metadata()
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|of| of.name().to_owned())
        .collect();
    let mut table = Table::new(collector);
    if let Some(absent) = table.absent(&names) {
        return Err(Fault::new(format!("there is no column `{absent}`")));
    }
    let columns: Vec<usize> = names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
    let mut values = Values::default();
    for (row, at) in reader.get_row_iter(None).map_err(fault)?.zip(1..) {
        let row = row.map_err(|error| fault(error).at(Place::Row(at)))?;
        for ((name, field), column) in row.get_column_iter().zip(&columns) {
            if table.is_used(*column) {
                values.read(field).and_then(|()| table.add(*column, values.cell())).map_err(|fault| {
                    Fault::new(format!("column `{}`: {fault}", name.escape_debug())).at(Place::Row(at))
                })?;
            }
        }
        table.end_row().map_err(|fault| fault.at(Place::Row(at)))?;
        if at % 1024 == 0 {
            progress((at as f64 / rows as f64 * bytes as f64) as u64);
        }
    }
    progress(bytes);
    table.finish()
}

fn fault(error: ParquetError) -> Fault {
    Fault::new(format!("the file cannot be read: {error}"))
}

#[derive(Debug, Default)]
struct Values {
    dtype: DataType,
    is_list: bool,
    length: u64,
    numbers: Vec<f64>,
    texts: Vec<Vec<u8>>,
}

impl Values {
    fn read(&mut self, field: &Field) -> Result<(), Fault> {
        self.numbers.clear();
        self.texts.clear();
        self.dtype = DataType::FLOAT;
        let items = match field {
            Field::ListInternal(list) => Some(list.elements()),
            _ => None,
        };
        self.is_list = items.is_some();
        match items {
            Some(items) if items.len() > MAX_VALUES => {
                return Err(Fault::new(format!("{} values in a row (limit {MAX_VALUES})", items.len())));
            }
            Some(items) => items.iter().try_for_each(|item| self.push(item))?,
            None if matches!(field, Field::Null) => {}
            None => self.push(field)?,
        }
        self.length = (self.numbers.len() + self.texts.len()) as u64;
        if !self.numbers.is_empty() && !self.texts.is_empty() {
            return Err(Fault::new("a list has strings and other values"));
        }
        Ok(())
    }

    fn cell(&self) -> Cell<'_> {
        let whole = std::slice::from_ref(&self.length);
        let shape = if self.is_list { whole } else { &[] };
        match (self.numbers.as_slice(), self.texts.as_slice()) {
            ([], []) => Cell::Missing(b""),
            ([], texts) => Cell::Texts { shape, values: texts },
            (values, _) => Cell::Numbers { dtype: self.dtype, shape, values },
        }
    }

    fn push(&mut self, field: &Field) -> Result<(), Fault> {
        let (dtype, number) = match field {
            Field::Null => (self.dtype, f64::NAN),
            Field::Bool(value) => (DataType::BOOL, f64::from(u8::from(*value))),
            Field::Byte(value) => (DataType::INT8, f64::from(*value)),
            Field::Short(value) => (DataType::INT16, f64::from(*value)),
            Field::Int(value) => (DataType::INT32, f64::from(*value)),
            Field::Long(value) => (DataType::INT64, *value as f64),
            Field::UByte(value) => (DataType::UINT8, f64::from(*value)),
            Field::UShort(value) => (DataType::UINT16, f64::from(*value)),
            Field::UInt(value) => (DataType::UINT32, f64::from(*value)),
            Field::ULong(value) => (DataType::UINT64, *value as f64),
            Field::Float16(value) => (DataType::HALF, f64::from(*value)),
            Field::Float(value) => (DataType::FLOAT, f64::from(*value)),
            Field::Double(value) => (DataType::DOUBLE, *value),
            Field::Str(text) => {
                self.texts.push(text.as_bytes().to_vec());
                return Ok(());
            }
            Field::Bytes(bytes) => {
                self.texts.push(bytes.data().to_vec());
                return Ok(());
            }
            _ => {
                return Err(Fault::new(
                    "values other than numbers, booleans, strings and lists of them are not read",
                ));
            }
        };
        self.dtype = dtype;
        self.numbers.push(number);
        Ok(())
    }
}
