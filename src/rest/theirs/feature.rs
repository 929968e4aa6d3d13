//! One feature of a tf.Example: a list of strings, of floats or of integers.
use super::base64;
use super::refusal::Refusal;
use crate::rest::json::{Event, Kind, Number, Walk};
use crate::wire::emit;

/// The kind of a feature: its first element decides (`AddValueToFeature` in `json_tensor.cc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Bytes,
    Float,
    Int64,
}

impl List {
    /// The field in `Feature`.
    const fn field(self) -> u32 {
        match self {
            Self::Bytes => 1,
            Self::Float => 2,
            Self::Int64 => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Float => "float",
            Self::Int64 => "int64",
        }
    }
}

/// The last feature that was read.
#[derive(Debug, Default)]
pub(super) struct Feature {
    list: Option<List>,
    /// The payload of the list: fields with strings, or packed numbers.
    values: Vec<u8>,
    overflow: Option<usize>,
}

impl Feature {
    /// The offset of the first finite number that became an infinity.
    pub(super) fn overflow(&self) -> Option<usize> {
        self.overflow
    }

    /// Reads a value, or an array of values.
    pub(super) fn read(&mut self, walk: &mut Walk<'_>, name: &[u8]) -> Result<(), Refusal> {
        self.list = None;
        self.values.clear();
        self.overflow = None;
        if walk.peek() != Kind::Array {
            return self.add(walk, name);
        }
        walk.step();
        while walk.peek() != Kind::End {
            self.add(walk, name)?;
        }
        walk.step();
        Ok(())
    }

    fn add(&mut self, walk: &mut Walk<'_>, name: &[u8]) -> Result<(), Refusal> {
        let kind = walk.peek();
        if kind == Kind::Object
            && let Some(text) = base64::object(*walk)
        {
            self.kind(List::Bytes, name)?;
            walk.skip();
            put_bytes(&mut self.values, &base64::decoded(text)?);
            return Ok(());
        }
        let at = walk.offset();
        match walk.step() {
            Event::String(text) => {
                self.kind(List::Bytes, name)?;
                put_bytes(&mut self.values, &text.unescaped());
            }
            Event::Bool(value) => {
                self.kind(List::Int64, name)?;
                self.values.push(u8::from(value));
            }
            Event::Number(number @ Number::Double(double)) => {
                self.kind(List::Float, name)?;
                let float = nearest_float(number, walk.since(at));
                if float.is_infinite() && double.is_finite() {
                    self.overflow.get_or_insert(at);
                }
                self.values.extend_from_slice(&float.to_le_bytes());
            }
            Event::Number(number) => {
                self.kind(List::Int64, name)?;
                let Some(value) = number.to_i64() else {
                    let problem = b" has uint64_t element. Only int64_t is supported.";
                    return Err(Refusal::joined([b"Feature: ", name, problem]));
                };
                emit::put_varint(&mut self.values, value as u64);
            }
            _ => {
                let problem = b" has element with unexpected JSON type: ";
                return Err(Refusal::joined([b"Feature: ", name, problem, kind.name().as_bytes()]));
            }
        }
        Ok(())
    }

    /// Checks that an element of this kind can follow those before it.
    fn kind(&mut self, list: List, name: &[u8]) -> Result<(), Refusal> {
        let first = *self.list.get_or_insert(list);
        if first == list {
            return Ok(());
        }
        let kind = first.name().as_bytes();
        Err(Refusal::joined([b"Unexpected element type in feature: ", name, b" expecting type: ", kind]))
    }

    /// Appends an entry of a map from a name to the feature.
    pub(super) fn put_entry(&self, out: &mut Vec<u8>, map: u32, name: &[u8]) {
        // The values are packed in field 1 of their list; strings are fields already.
        let packed = matches!(self.list, Some(List::Float | List::Int64));
        let list = if packed { sized(self.values.len()) } else { self.values.len() };
        let feature = self.list.map_or(0, |_| sized(list));
        let entry = sized(name.len()) + sized(feature);
        put_head(out, map, entry);
        put_head(out, 1, name.len());
        out.extend_from_slice(name);
        put_head(out, 2, feature);
        if let Some(kind) = self.list {
            put_head(out, kind.field(), list);
        }
        if packed {
            put_head(out, 1, self.values.len());
        }
        out.extend_from_slice(&self.values);
    }
}

/// The float nearest to a number with this text, rounded once.
fn nearest_float(number: Number, text: &[u8]) -> f32 {
    let double = if let Number::Double(double) = number { double } else { 0.0 };
    if !double.is_finite() {
        return double as f32;
    }
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.unwrap_or(double as f32)
}

fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_head(out, 1, value.len());
    out.extend_from_slice(value);
}

/// The tag and length of a field with bytes.
fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    emit::put_varint(out, u64::from(number << 3 | 2));
    emit::put_varint(out, length as u64);
}

/// Bytes of a field with this many bytes, whose number is below 16.
fn sized(length: usize) -> usize {
    1 + emit::varint_size(length as u64) + length
}
