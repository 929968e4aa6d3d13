//! Reads files with a JSON value on each line: an object whose keys are the columns, or the value
//! of the only input.
use std::io::BufRead;

use super::Fault;
use super::collect::Collector;
use super::fault::Place;
use super::table::{Cell, Table};
use crate::rest::json::{Event, Number, Walk, check};
use crate::tensor::DataType;

/// Bytes of a line.
const MAX_LINE: usize = 16 << 20;
/// Axes of a value: TensorFlow's limit on ranks.
const MAX_RANK: usize = 254;

pub(super) fn read(reader: &mut dyn BufRead, collector: &mut Collector) -> Result<(), Fault> {
    let input = collector.options.input.clone();
    let mut table = Table::new(collector);
    let (mut line, mut count, mut value) = (Vec::new(), 0, Value::default());
    while super::input::line(reader, MAX_LINE, &mut line).map_err(|fault| fault.at(Place::Line(count + 1)))? {
        count += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        row(&line, input.as_deref(), &mut table, &mut value).map_err(|fault| fault.at(Place::Line(count)))?;
    }
    table.finish()
}

fn row(line: &[u8], input: Option<&str>, table: &mut Table<'_>, value: &mut Value) -> Result<(), Fault> {
    let document = check(line)
        .map_err(|error| Fault::new(format!("invalid JSON at byte {}: {}", error.at, error.kind.text())))?;
    let mut walk = Walk::at(line, document.start);
    let mut inside = walk;
    if inside.step() != Event::StartObject {
        let input = input
            .ok_or_else(|| Fault::new("expected an object (name the input of other values with --input)"))?;
        let column = table.column(input)?;
        value.read(&mut walk)?;
        table.add(column, value.cell())?;
        return table.end_row();
    }
    while let Event::Key(key) = inside.step() {
        let key = String::from_utf8_lossy(&key.unescaped()).into_owned();
        let column = table.column(&key)?;
        if !table.is_used(column) {
            inside.skip();
            continue;
        }
        let add = value.read(&mut inside).and_then(|()| table.add(column, value.cell()));
        add.map_err(|fault| Fault::new(format!("`{}`: {fault}", key.escape_debug())))?;
    }
    table.end_row()
}

/// The value of a column, in buffers that are used again.
#[derive(Debug, Default)]
struct Value {
    numbers: Vec<f64>,
    texts: Vec<Vec<u8>>,
    shape: Vec<u64>,
    all_bool: bool,
    is_missing: bool,
}

impl Value {
    fn cell(&self) -> Cell<'_> {
        if self.is_missing {
            return Cell::Missing(b"");
        }
        if !self.texts.is_empty() {
            return Cell::Texts { shape: &self.shape, values: &self.texts };
        }
        let dtype = if self.all_bool { DataType::BOOL } else { DataType::FLOAT };
        Cell::Numbers { dtype, shape: &self.shape, values: &self.numbers }
    }

    /// Reads a number, string, boolean or null, or nested lists of them that have a shape.
    fn read(&mut self, walk: &mut Walk<'_>) -> Result<(), Fault> {
        self.numbers.clear();
        self.texts.clear();
        self.shape.clear();
        (self.all_bool, self.is_missing) = (true, false);
        // How many items each open list has so far.
        let mut open: Vec<u64> = Vec::new();
        let mut depth_of_values = None;
        let mut lists = false;
        loop {
            let start = *walk;
            match walk.step() {
                Event::StartArray => {
                    lists = true;
                    open.push(0);
                    if open.len() > MAX_RANK {
                        return Err(Fault::new(format!("lists nest too deeply (limit {MAX_RANK})")));
                    }
                    continue;
                }
                Event::EndArray => {
                    let Some(items) = open.pop() else { break };
                    self.ended(open.len(), items)?;
                }
                Event::StartObject => {
                    *walk = start;
                    let bytes = base64(walk)?;
                    self.texts.push(bytes);
                    Self::same_depth(&mut depth_of_values, open.len())?;
                }
                Event::Null => {
                    if open.is_empty() {
                        self.is_missing = true;
                        return Ok(());
                    }
                    self.all_bool = false;
                    self.numbers.push(f64::NAN);
                    Self::same_depth(&mut depth_of_values, open.len())?;
                }
                Event::Number(number) => {
                    self.all_bool = false;
                    self.numbers.push(match number {
                        Number::Unsigned(value) => value as f64,
                        Number::Negative(value) => value as f64,
                        Number::Double(value) => value,
                    });
                    Self::same_depth(&mut depth_of_values, open.len())?;
                }
                Event::Bool(value) => {
                    self.numbers.push(f64::from(u8::from(value)));
                    Self::same_depth(&mut depth_of_values, open.len())?;
                }
                Event::String(text) => {
                    self.texts.push(text.unescaped().into_owned());
                    Self::same_depth(&mut depth_of_values, open.len())?;
                }
                Event::Key(_) | Event::EndObject | Event::End => break,
            }
            match open.last_mut() {
                Some(items) => *items += 1,
                None => break,
            }
        }
        if !self.texts.is_empty() && !self.numbers.is_empty() {
            return Err(Fault::new("a list has strings and other values"));
        }
        self.is_missing = lists && self.numbers.is_empty() && self.texts.is_empty();
        Ok(())
    }

    fn same_depth(before: &mut Option<usize>, depth: usize) -> Result<(), Fault> {
        if *before.get_or_insert(depth) == depth { Ok(()) } else { Err(ragged()) }
    }

    /// A list at this depth has ended. All lists at one depth have as many items.
    fn ended(&mut self, depth: usize, items: u64) -> Result<(), Fault> {
        // Inner lists end before outer ones; until then their sizes are not known.
        const UNKNOWN: u64 = u64::MAX;
        if self.shape.len() <= depth {
            self.shape.resize(depth + 1, UNKNOWN);
        }
        match self.shape.get_mut(depth) {
            Some(size) if *size == UNKNOWN => *size = items,
            Some(size) if *size != items => return Err(ragged()),
            _ => {}
        }
        Ok(())
    }
}

fn ragged() -> Fault {
    Fault::new("the lists have no common shape (use one number for each feature)")
}

/// `{"b64": "..."}`: how TF Serving's REST API writes bytes (`json_tensor.cc`).
fn base64(walk: &mut Walk<'_>) -> Result<Vec<u8>, Fault> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let wrong = || Fault::new("expected an object with the single key `b64`");
    walk.step();
    let Event::Key(key) = walk.step() else { return Err(wrong()) };
    let Event::String(text) = walk.step() else { return Err(wrong()) };
    if !key.is(b"b64") || walk.step() != Event::EndObject {
        return Err(wrong());
    }
    STANDARD.decode(text.unescaped().as_ref()).map_err(|error| Fault::new(format!("invalid base64: {error}")))
}
