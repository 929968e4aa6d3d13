//! Reads CSV files with a header.
use std::cell::Cell as Shared;
use std::io::{BufRead, Read};

use ::csv::{ByteRecord, ReaderBuilder};

use super::Fault;
use super::collect::Collector;
use super::fault::Place;
use super::input::Bounded;
use super::table::{Cell, Table};
use crate::tensor::DataType;

/// Bytes of a row.
const MAX_ROW: usize = 16 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How people spell that a number is missing, in lower case; pandas reads most of them alike.
const MISSING: &[&str] = &["", "na", "n/a", "nan", "-nan", "null", "none"];

/// Reads a file with commas, or with tabs if the header has tabs and no commas.
pub(super) fn read(reader: &mut dyn BufRead, collector: &mut Collector) -> Result<(), Fault> {
    let start = reader.fill_buf()?;
    let mark = if start.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let header = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| header.split(|byte| *byte == wanted).count();
    let candidates = [b',', b'\t', b';'];
    let delimiter = candidates.into_iter().rev().max_by_key(|byte| count(*byte)).unwrap_or(b',');
    reader.consume(mark);
    let left = Shared::new(MAX_ROW);
    let mut rows =
        ReaderBuilder::new().delimiter(delimiter).from_reader(Bounded::new(reader as &mut dyn Read, &left));
    let names: Vec<String> = match rows.byte_headers() {
        Ok(header) => {
            header.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect()
        }
        Err(error) => return Err(fault(&error)),
    };
    let mut table = Table::new(collector);
    if let Some(absent) = table.absent(&names) {
        let near = crate::spelling::close(absent, names.iter().map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        let text = format!("there is no column `{absent}` in the header{near}");
        return Err(Fault::new(text).at(Place::Line(1)));
    }
    if names.iter().any(String::is_empty) {
        return Err(Fault::new("a column has no name in the header").at(Place::Line(1)));
    }
    let columns: Vec<usize> = names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
    let distinct: std::collections::BTreeSet<&usize> = columns.iter().collect();
    if distinct.len() < columns.len() {
        return Err(Fault::new("two columns have the same name").at(Place::Line(1)));
    }
    let mut row = ByteRecord::new();
    while rows.read_byte_record(&mut row).map_err(|error| fault(&error))? {
        left.set(MAX_ROW);
        let at = Place::Line(row.position().map_or(0, ::csv::Position::line));
        for ((text, column), name) in row.iter().zip(&columns).zip(&names) {
            cell(&mut table, *column, text)
                .map_err(|fault| Fault::new(format!("column `{name}`: {fault}")).at(at))?;
        }
        table.end_row().map_err(|fault| fault.at(at))?;
    }
    table.finish()
}

fn cell(table: &mut Table<'_>, column: usize, text: &[u8]) -> Result<(), Fault> {
    if !table.is_used(column) {
        return Ok(());
    }
    if table.is_text(column) == Some(true) || table.wants_text(column) {
        return table.add(column, Cell::Text(text));
    }
    let word = text.trim_ascii();
    let number = std::str::from_utf8(word).ok().and_then(number);
    match number {
        _ if MISSING.iter().any(|missing| word.eq_ignore_ascii_case(missing.as_bytes())) => {
            table.add(column, Cell::Missing(text))
        }
        Some((dtype, value)) => table.add(column, Cell::Numbers { dtype, shape: &[], values: &[value] }),
        None if table.is_text(column) == Some(false) => {
            let text = String::from_utf8_lossy(word);
            let text: String = text.chars().take(40).flat_map(char::escape_debug).collect();
            Err(Fault::new(format!(
                "expected a number as in the rows before, got `{text}` (if the column has texts, say --dtype INPUT=string)"
            )))
        }
        None => table.add(column, Cell::Text(text)),
    }
}

fn number(word: &str) -> Option<(DataType, f64)> {
    if word.eq_ignore_ascii_case("true") {
        return Some((DataType::BOOL, 1.0));
    }
    if word.eq_ignore_ascii_case("false") {
        return Some((DataType::BOOL, 0.0));
    }
    word.parse().ok().map(|value| (DataType::FLOAT, value))
}

fn fault(error: &::csv::Error) -> Fault {
    let line = |position: Option<&::csv::Position>| position.map_or(Place::File, |at| Place::Line(at.line()));
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            Fault::new(format!("expected {expected_len} columns as in the header, got {len}"))
                .at(line(pos.as_ref()))
        }
        ::csv::ErrorKind::Io(error) => Fault::new(error.to_string()),
        _ => Fault::new(error.to_string()).at(line(error.position())),
    }
}
