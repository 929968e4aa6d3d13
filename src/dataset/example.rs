//! Reads `tf.Example` messages (`example.proto`, `feature.proto`): the features are the columns.
use std::collections::BTreeMap;

use super::Fault;
use super::table::{Cell, Table};
use crate::tensor::DataType;
use crate::wire::Rope;
use crate::wire::scan::{Field, Reader, Wire, WireError};

/// `Example.features`, `Features.feature`, and the key and value of an entry of the latter.
const FEATURES: u32 = 1;
const FEATURE: u32 = 1;
const KEY: u32 = 1;
const VALUE: u32 = 2;
/// The lists of `Feature`, and `value` in each.
const BYTES_LIST: u32 = 1;
const FLOAT_LIST: u32 = 2;
const INT64_LIST: u32 = 3;
const LIST_VALUE: u32 = 1;

/// One feature of an example, in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    numbers: Vec<f64>,
    texts: Vec<Vec<u8>>,
}

/// Adds an example as a row.
pub(super) fn row(message: &Rope, table: &mut Table<'_>, buffers: &mut Buffers) -> Result<(), Fault> {
    let mut reader = Reader::new(message);
    let mut last: BTreeMap<Vec<u8>, Field> = BTreeMap::new();
    while let Some(field) = reader.next_field().map_err(wire)? {
        if field.number != FEATURES || field.wire != Wire::Bytes {
            continue;
        }
        let mut features = reader.inner(&field);
        while let Some(field) = features.next_field().map_err(wire)? {
            if field.number != FEATURE || field.wire != Wire::Bytes {
                continue;
            }
            let (mut entry, mut key, mut value) = (features.inner(&field), Vec::new(), None);
            while let Some(field) = entry.next_field().map_err(wire)? {
                match (field.number, field.wire) {
                    (KEY, Wire::Bytes) => key = message.slice(field.payload).to_bytes().to_vec(),
                    (VALUE, Wire::Bytes) => value = Some(field),
                    _ => {}
                }
            }
            // Of several entries with one key the last counts.
            if let Some(value) = value {
                last.insert(key, value);
            }
        }
    }
    for (key, value) in last {
        let name = String::from_utf8_lossy(&key).into_owned();
        let column = table.column(&name)?;
        if table.is_used(column) {
            let cell = feature(message, &value, buffers).map_err(wire)?;
            table
                .add(column, cell)
                .map_err(|fault| Fault::new(format!("`{}`: {fault}", name.escape_debug())))?;
        }
    }
    table.end_row()
}

fn feature<'b>(message: &Rope, value: &Field, buffers: &'b mut Buffers) -> Result<Cell<'b>, WireError> {
    buffers.numbers.clear();
    buffers.texts.clear();
    let mut kind = 0;
    let mut reader = Reader::of_range(message, &value.payload);
    while let Some(list) = reader.next_field()? {
        if list.wire != Wire::Bytes || !(BYTES_LIST..=INT64_LIST).contains(&list.number) {
            continue;
        }
        if std::mem::replace(&mut kind, list.number) != list.number {
            // A oneof: the last member counts.
            buffers.numbers.clear();
            buffers.texts.clear();
        }
        let mut values = reader.inner(&list);
        while let Some(field) = values.next_field()? {
            if field.number != LIST_VALUE {
                continue;
            }
            let of = message.slice(field.payload.clone());
            let floats = |bytes: &[u8], to: &mut Vec<f64>| {
                to.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))));
            };
            match (kind, field.wire) {
                (BYTES_LIST, Wire::Bytes) => buffers.texts.push(of.to_bytes().to_vec()),
                (FLOAT_LIST, Wire::Bytes | Wire::Fixed32) => floats(&of.to_bytes(), &mut buffers.numbers),
                (INT64_LIST, Wire::Varint) => buffers.numbers.push(field.varint as i64 as f64),
                (INT64_LIST, Wire::Bytes) => {
                    let mut packed = values.inner(&field);
                    while !packed.is_at_end() {
                        buffers.numbers.push(packed.varint()? as i64 as f64);
                    }
                }
                _ => {}
            }
        }
    }
    let (numbers, texts) = (&buffers.numbers, &buffers.texts);
    let dtype = if kind == INT64_LIST { DataType::INT64 } else { DataType::FLOAT };
    Ok(match (numbers.as_slice(), texts.as_slice()) {
        ([], []) => Cell::Missing(b""),
        ([], [text]) => Cell::Text(text),
        ([], texts) => Cell::Texts { shape: &[], values: texts },
        ([number], _) => Cell::Numbers { dtype, shape: &[], values: std::slice::from_ref(number) },
        (numbers, _) => Cell::Vector { dtype, values: numbers },
    })
}

pub(super) fn wire(error: WireError) -> Fault {
    Fault::new(error.to_string())
}
