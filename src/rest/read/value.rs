//! Values of one input: nested lists of numbers, bools or strings, straight into its buffer.
use std::ops::Range;

use smallvec::SmallVec;

use super::Options;
use super::codec::Codec;
use super::cursor::{Cursor, Syntax, Text};
use super::finding::{Finding, Findings, Kind, shown, step};
use super::number::{self, Number};
use super::slot::Slot;
use super::text;
use crate::wire::emit::{put_varint, varint_size};
use crate::wire::tensor::MAX_RANK;

/// The tag of `string_val`.
const STRING_VAL: u8 = 8 << 3 | 2;

/// Why reading ends before the end.
#[derive(Debug)]
pub(super) enum Stop {
    Syntax(Syntax),
    /// The findings say why.
    Reported,
}

impl From<Syntax> for Stop {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

/// What values belong to, for pointers to them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// `/instances`, `/inputs`, or nothing for inputs in the body itself.
    pub(super) root: &'static str,
    pub(super) instance: Option<u64>,
    /// Whether the values have the name of the input.
    pub(super) named: bool,
    /// Dimensions that are not lists of the values: the number of instances.
    pub(super) outer: usize,
}

/// The elements of an open list that are complete, and where the list begins.
#[derive(Debug, Clone, Copy)]
struct Level {
    count: u64,
    start: usize,
}

type Levels = SmallVec<[Level; 8]>;

#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) options: &'a Options,
    pub(super) findings: Findings,
    /// Bytes of all tensors.
    pub(super) bytes: u64,
}

/// Where and how an element is read.
struct Context<'c> {
    slot: &'c mut Slot,
    place: &'c Place,
    levels: &'c [Level],
}

// === impl Place ===

impl Place {
    pub(super) fn pointer(&self, name: Option<&str>) -> String {
        let mut pointer = self.root.to_owned();
        if let Some(instance) = self.instance {
            step(&mut pointer, itoa::Buffer::new().format(instance));
        }
        if let Some(name) = name {
            step(&mut pointer, name);
        }
        pointer
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// Reads the next value, whatever it is, into an input.
    pub(super) fn value(&mut self, slot: &mut Slot, place: &Place) -> Result<(), Stop> {
        let mut levels = Levels::new();
        loop {
            self.cursor.space();
            let mut complete = false;
            // A list of values goes in one run, and so do those beside it in the same list.
            if slot.rank == Some(levels.len())
                && let Some((level, outer)) = levels.split_last_mut()
            {
                let run = slot.run(&mut self.cursor, level.count, level.start, !outer.is_empty());
                *level = Level { count: run.count, start: run.start };
                if let Some(outer) = outer.last_mut() {
                    outer.count += run.lists;
                }
                complete = run.complete;
            }
            if !complete {
                if self.begin(slot, place, &mut levels)? {
                    continue;
                }
                match levels.last_mut() {
                    Some(level) => level.count += 1,
                    None => return Ok(()),
                }
            }
            while !self.cursor.more(b']')? {
                self.close(slot, place, &mut levels);
                match levels.last_mut() {
                    Some(level) => level.count += 1,
                    None => return Ok(()),
                }
            }
        }
    }

    /// Begins a list, or takes a whole value: whether the list has elements to read.
    fn begin(&mut self, slot: &mut Slot, place: &Place, levels: &mut Levels) -> Result<bool, Stop> {
        let level = levels.len();
        let start = self.cursor.at;
        if self.cursor.peek() == b'[' {
            let too_deep = level + place.outer >= MAX_RANK;
            if too_deep || slot.rank.is_some_and(|rank| level >= rank) {
                self.cursor.skip()?;
                let mut at = Context { slot, place, levels };
                if too_deep {
                    let what = || format!("nested deeper than {MAX_RANK} dimensions");
                    self.fault(&mut at, Kind::TooDeep, start..start, what);
                } else {
                    self.fault(&mut at, Kind::WrongLevel, start..self.cursor.at, || {
                        "expected a value as before, got a list".to_owned()
                    });
                }
                return Ok(false);
            }
            self.cursor.at += 1;
            self.cursor.space();
            slot.open(level);
            levels.push(Level { count: 0, start });
            if !self.cursor.take(b']') {
                return Ok(true);
            }
            self.close(slot, place, levels);
            return Ok(false);
        }
        let rank = *slot.rank.get_or_insert(level);
        let mut at = Context { slot, place, levels };
        if rank != level {
            self.cursor.skip()?;
            self.fault(&mut at, Kind::WrongLevel, start..self.cursor.at, || {
                "expected a list as before, got a value".to_owned()
            });
            return Ok(false);
        }
        self.element(&mut at)?;
        Ok(false)
    }

    /// Ends the innermost list, behind its bracket.
    fn close(&mut self, slot: &mut Slot, place: &Place, levels: &mut Levels) {
        let Some(Level { count, start }) = levels.pop() else { return };
        if let Err(first) = slot.close(levels.len(), count) {
            let mut at = Context { slot, place, levels };
            self.fault(&mut at, Kind::Ragged, start..start, || {
                format!("expected {first} elements as in the first list of this level, got {count}")
            });
        }
    }

    fn element(&mut self, at: &mut Context<'_>) -> Result<(), Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            b'"' => {
                let text = self.cursor.string()?;
                self.string(at, start, &text)?;
            }
            b'{' => self.object(at)?,
            b't' => {
                self.cursor.word("true")?;
                self.bool(at, start, true)?;
            }
            b'f' => {
                self.cursor.word("false")?;
                self.bool(at, start, false)?;
            }
            b'n' => {
                self.cursor.word("null")?;
                self.fault(at, Kind::Null, start..self.cursor.at, || "expected a value, got null".to_owned());
                self.push(at, 0)?;
            }
            _ => {
                let number = match number::plain(self.cursor.body, start) {
                    Some(plain) => {
                        self.cursor.at = plain.end;
                        if let Some(bits) = at.slot.codec.quick(&plain) {
                            return self.push(at, bits);
                        }
                        Number::from_plain(&plain, start)
                    }
                    None => number::token(&mut self.cursor)?,
                };
                self.number(at, &number, start..number.end, None)?;
            }
        }
        Ok(())
    }

    /// Writes a number. `quoted` says that it was in a string.
    fn number(
        &mut self,
        at: &mut Context<'_>,
        number: &Number,
        shown: Range<usize>,
        quoted: Option<Kind>,
    ) -> Result<(), Stop> {
        let dtype = at.slot.dtype;
        match at.slot.codec.element(self.cursor.body, number, self.options) {
            Ok(element) => {
                if let Some(kind) = quoted.or(element.repaired) {
                    self.fault(at, kind, shown, || format!("read as {dtype}"));
                }
                self.push(at, element.bits)
            }
            Err(kind) => {
                self.fault(at, kind, shown, || match kind {
                    Kind::TooBig => number::TOO_BIG.to_owned(),
                    Kind::Inexact => format!("expected an integer for {dtype}, got a fraction"),
                    Kind::NumberForBool | Kind::BitForBool => {
                        "expected true or false, got a number".to_owned()
                    }
                    Kind::NumberForString => "expected a string, got a number".to_owned(),
                    Kind::UnsupportedDtype => format!("{dtype} has no values in JSON"),
                    _ => format!("out of range of {dtype}"),
                });
                self.push(at, 0)
            }
        }
    }

    fn bool(&mut self, at: &mut Context<'_>, start: usize, value: bool) -> Result<(), Stop> {
        let codec = at.slot.codec;
        let shown = start..self.cursor.at;
        if matches!(codec, Codec::Bool) {
            return self.push(at, u64::from(value));
        }
        if codec.is_numeric() && self.options.bool_numbers {
            self.fault(at, Kind::BoolAsNumber, shown, || "read as 0 or 1".to_owned());
            let one = Number { start: 0, end: 1, integer: true, special: None, too_big: false };
            let digit: &[u8] = if value { b"1" } else { b"0" };
            let bits = codec.element(digit, &one, self.options).map_or(0, |element| element.bits);
            return self.push(at, bits);
        }
        let kind = match codec {
            Codec::Text => Kind::NumberForString,
            Codec::None => Kind::UnsupportedDtype,
            _ => Kind::BoolForNumber,
        };
        self.fault(at, kind, shown, || match kind {
            Kind::NumberForString => "expected a string, got a bool".to_owned(),
            _ => "expected a number, got a bool".to_owned(),
        });
        self.push(at, 0)
    }

    fn string(&mut self, at: &mut Context<'_>, start: usize, text: &Text) -> Result<(), Stop> {
        let body = self.cursor.body;
        let shown = start..self.cursor.at;
        if matches!(at.slot.codec, Codec::Text) {
            let raw = &body[text.range.clone()];
            let length = text::length(raw, text.escaped);
            let out = self.string_field(at, length, length)?;
            text::append(raw, text.escaped, out);
            return Ok(());
        }
        let mut kind =
            if matches!(at.slot.codec, Codec::None) { Kind::UnsupportedDtype } else { Kind::StringForNumber };
        if at.slot.codec.is_numeric() && !text.escaped {
            let mut inside = Cursor { body: &body[..text.range.end], at: text.range.start };
            if let Ok(number) = number::token(&mut inside)
                && number.end == text.range.end
            {
                if self.options.string_numbers {
                    return self.number(at, &number, shown, Some(Kind::NumberInString));
                }
                if at.slot.codec.element(body, &number, self.options).is_ok() {
                    kind = Kind::QuotedNumber;
                }
            }
        }
        let expected = if matches!(at.slot.codec, Codec::Bool) { "true or false" } else { "a number" };
        self.fault(at, kind, shown, || format!("expected {expected}, got a string"));
        self.push(at, 0)
    }

    /// Takes an object where a value belongs.
    fn object(&mut self, at: &mut Context<'_>) -> Result<(), Stop> {
        let start = self.cursor.at;
        let mut ahead = self.cursor.clone();
        let Some(text) = ahead.base64_object() else {
            self.cursor.skip()?;
            let shown = start..self.cursor.at;
            self.fault(at, Kind::ObjectForValue, shown, || "expected a value, got an object".to_owned());
            return self.push(at, 0);
        };
        self.cursor = ahead;
        let shown = start..self.cursor.at;
        if !matches!(at.slot.codec, Codec::Text) {
            let dtype = at.slot.dtype;
            self.fault(at, Kind::Base64ForNumber, shown, || format!("expected {dtype}, got base64 data"));
            return self.push(at, 0);
        }
        let raw = &self.cursor.body[text.range];
        let Some(length) = text::base64_length(raw, text.escaped) else {
            self.fault(at, Kind::BadBase64, shown, || "not base64 in the standard alphabet".to_owned());
            return self.push(at, 0);
        };
        // The decoder reserves whole groups.
        let out = self.string_field(at, length, length + 8)?;
        text::append_base64(raw, text.escaped, out);
        Ok(())
    }

    /// Begins a string of a tensor: the bytes follow, `room` of them at most.
    fn string_field<'v>(
        &mut self,
        at: &'v mut Context<'_>,
        length: usize,
        room: usize,
    ) -> Result<&'v mut Vec<u8>, Stop> {
        at.slot.elements += 1;
        let needed = 1 + varint_size(length as u64) + room;
        if at.slot.values.room(needed).is_none() {
            self.charge(at.slot, needed as u64)?;
            at.slot.values.grow(needed);
        }
        let Some(out) = at.slot.values.room(needed) else { return Err(Stop::Reported) };
        out.push(STRING_VAL);
        put_varint(out, length as u64);
        Ok(out)
    }

    fn push(&mut self, at: &mut Context<'_>, bits: u64) -> Result<(), Stop> {
        let size = at.slot.codec.size();
        at.slot.elements += 1;
        let bytes = bits.to_le_bytes();
        if let Some(chunk) = at.slot.values.room(size) {
            chunk.extend_from_slice(&bytes[..size]);
            return Ok(());
        }
        self.charge(at.slot, size as u64)?;
        at.slot.values.grow(size).extend_from_slice(&bytes[..size]);
        Ok(())
    }

    /// Charges what an input has taken since the last time.
    pub(super) fn charge(&mut self, slot: &mut Slot, more: u64) -> Result<(), Stop> {
        let length = slot.values.len();
        self.bytes += (length - slot.charged) as u64;
        slot.charged = length;
        let Options { max_bytes, max_elements, .. } = *self.options;
        let what = if self.bytes + more > max_bytes {
            format!("the tensors have too many bytes (limit {max_bytes})")
        } else if slot.elements > max_elements {
            format!("the input has too many elements (limit {max_elements})")
        } else {
            return Ok(());
        };
        let offset = self.cursor.at;
        self.findings.add(Kind::TooLarge, || Finding {
            kind: Kind::TooLarge,
            input: slot.name.clone(),
            pointer: String::new(),
            offset,
            what,
            value: None,
        });
        Err(Stop::Reported)
    }

    fn fault(
        &mut self,
        at: &mut Context<'_>,
        kind: Kind,
        bytes: Range<usize>,
        what: impl FnOnce() -> String,
    ) {
        let body = self.cursor.body;
        let Context { slot, place, levels } = at;
        self.findings.add(kind, || {
            let mut pointer = place.pointer(place.named.then_some(slot.name.as_str()));
            for level in *levels {
                step(&mut pointer, itoa::Buffer::new().format(level.count));
            }
            let value = (!bytes.is_empty()).then(|| shown(&body[bytes.clone()]));
            Finding { kind, input: slot.name.clone(), pointer, offset: bytes.start, what: what(), value }
        });
    }
}
