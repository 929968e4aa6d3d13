//! Objects whose members are inputs: an instance, `inputs`, or the body itself.
use std::ops::Range;

use super::cursor::{Cursor, Text, is_name};
use super::finding::{Finding, Kind, shown};
use super::number;
use super::slot::Slot;
use super::text;
use super::value::{Place, Reader, Stop};
use crate::signature::Signature;
use crate::tensor::DataType;

/// Names that are not declared and are read nevertheless.
const MAX_UNDECLARED: usize = 32;
/// Bytes of such a name.
const MAX_NAME: usize = 256;

/// The inputs: the declared ones in the order of the signature, then others.
#[derive(Debug)]
pub(super) struct Slots<'s> {
    signature: &'s Signature,
    pub(super) all: Vec<Slot>,
    /// How many inputs the first instance has.
    expected: u64,
    /// Where the next name is looked for first.
    next: usize,
}

/// Which object is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) place: Place,
    /// Number of the instance; 0 for other objects.
    pub(super) number: u64,
    pub(super) form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Instance,
    Inputs,
    /// The body itself.
    Top,
}

/// A member whose name is not declared.
#[derive(Debug)]
struct Undeclared {
    name: String,
    key_at: usize,
    value: Range<usize>,
}

// === impl Slots ===

impl<'s> Slots<'s> {
    pub(super) fn new(signature: &'s Signature) -> Self {
        Self { signature, all: signature.inputs.iter().map(Slot::declared).collect(), expected: 0, next: 0 }
    }

    /// The input that a key names.
    fn find(&mut self, name: &[u8]) -> Option<usize> {
        let is = |slot: &Slot| slot.name.as_bytes() == name;
        let mut found = Some(self.next).filter(|next| self.all.get(*next).is_some_and(is));
        if found.is_none() {
            found = std::str::from_utf8(name).ok().and_then(|name| self.signature.input_index(name));
        }
        if found.is_none() {
            let declared = self.signature.inputs.len();
            found = self.all[declared..].iter().position(is).map(|at| declared + at);
        }
        self.next = found.map_or(0, |found| found + 1);
        found
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// Reads the object at the cursor.
    pub(super) fn members(&mut self, slots: &mut Slots<'_>, scope: &Scope) -> Result<(), Stop> {
        let start = self.cursor.at;
        let mut seen = 0;
        let mut undeclared = Vec::new();
        self.cursor.at += 1;
        self.cursor.space();
        if !self.cursor.take(b'}') {
            loop {
                self.cursor.space();
                let key_at = self.cursor.at;
                let key = self.cursor.key()?;
                self.cursor.space();
                seen += u64::from(self.member(slots, scope, &mut undeclared, key_at, &key)?);
                if !self.cursor.more(b'}')? {
                    break;
                }
            }
        }
        if scope.number == 0 {
            self.settle(slots, scope, undeclared)?;
        } else if seen < slots.expected {
            self.missing(slots, scope, start, slots.expected - seen);
        }
        Ok(())
    }

    /// Reports the inputs that an instance lacks. Once no more findings are kept they are only
    /// counted, because an instance of few bytes can lack many.
    fn missing(&mut self, slots: &Slots<'_>, scope: &Scope, start: usize, count: u64) {
        if self.findings.is_full(Kind::MissingKey) {
            self.findings.add_unkept(Kind::MissingKey, count);
            return;
        }
        let missing = slots.all.iter().filter(|slot| !slot.absent && slot.last != Some(scope.number));
        for slot in missing {
            self.findings.add(Kind::MissingKey, || Finding {
                kind: Kind::MissingKey,
                input: slot.name.clone(),
                pointer: scope.place.pointer(None),
                offset: start,
                what: "the first instance has this input, this one does not".to_owned(),
                value: None,
            });
        }
    }

    /// Reads a member: whether it is an input that was not there before.
    fn member(
        &mut self,
        slots: &mut Slots<'_>,
        scope: &Scope,
        undeclared: &mut Vec<Undeclared>,
        key_at: usize,
        key: &Text,
    ) -> Result<bool, Stop> {
        let body = self.cursor.body;
        let mut raw = &body[key.range.clone()];
        if scope.form == Form::Top && is_name(body, key, b"signature_name") {
            self.cursor.skip()?;
            return Ok(false);
        }
        let mut resolved = Vec::new();
        if key.escaped && raw.len() <= 6 * MAX_NAME {
            text::append(raw, true, &mut resolved);
            raw = &resolved;
        }
        if self.options.as_served && scope.form == Form::Instance {
            // TF Serving takes the name as a C string (`GetString`, json_tensor.cc).
            raw = raw.split(|byte| *byte == 0).next().unwrap_or(raw);
        }
        let Some(index) = slots.find(raw) else {
            let value_at = self.cursor.at;
            self.cursor.skip()?;
            let name = std::str::from_utf8(raw).ok().filter(|name| name.len() <= MAX_NAME);
            match name {
                Some(name) if scope.number == 0 && undeclared.len() < MAX_UNDECLARED => {
                    let value = value_at..self.cursor.at;
                    undeclared.push(Undeclared { name: name.to_owned(), key_at, value });
                }
                _ => self.name(Kind::UnknownKey, scope, raw, key_at, "the signature has no such input"),
            }
            return Ok(false);
        };
        let slot = &mut slots.all[index];
        if slot.absent {
            self.cursor.skip()?;
            self.name(Kind::UnknownKey, scope, raw, key_at, "the first instance does not have this input");
            return Ok(false);
        }
        let repeated = slot.last == Some(scope.number);
        if repeated && !(self.options.as_served && scope.form == Form::Instance) {
            self.cursor.skip()?;
            if !self.options.as_served {
                self.name(Kind::DuplicateKey, scope, raw, key_at, "the object has this key twice");
            }
            return Ok(false);
        }
        slot.last = Some(scope.number);
        slot.at.get_or_insert(self.cursor.at);
        self.value(slot, &scope.place)?;
        Ok(!repeated)
    }

    /// After the first object: what is missing, and what becomes of names that are not declared.
    fn settle(
        &mut self,
        slots: &mut Slots<'_>,
        scope: &Scope,
        undeclared: Vec<Undeclared>,
    ) -> Result<(), Stop> {
        let mut missing = None;
        let mut count = 0;
        for slot in slots.all.iter_mut().filter(|slot| slot.last.is_none()) {
            slot.absent = true;
            count += 1;
            missing = Some(slot.dtype);
            let offset = self.cursor.at;
            self.findings.add(Kind::MissingInput, || Finding {
                kind: Kind::MissingInput,
                input: slot.name.clone(),
                pointer: scope.place.pointer(None),
                offset,
                what: "no values for this input".to_owned(),
                value: None,
            });
        }
        // The one that is missing may go by a wrong name; of several, none is known to be it.
        let renamed = missing.filter(|_| count == 1 && undeclared.len() == 1);
        for Undeclared { name, key_at, value } in undeclared {
            if count == 0 && scope.form != Form::Instance {
                // As in TF Serving, which looks up the declared names (json_tensor.cc).
                self.name(
                    Kind::IgnoredKey,
                    scope,
                    name.as_bytes(),
                    key_at,
                    "the signature has no such input",
                );
                continue;
            }
            if slots.all.iter().any(|slot| slot.name == name) {
                self.name(
                    Kind::DuplicateKey,
                    scope,
                    name.as_bytes(),
                    key_at,
                    "the object has this key twice",
                );
                continue;
            }
            self.name(
                Kind::UndeclaredInput,
                scope,
                name.as_bytes(),
                key_at,
                "the signature has no such input",
            );
            let dtype = renamed.unwrap_or_else(|| guess(self.cursor.body, value.clone()));
            let mut slot = Slot::new(name, dtype, None);
            slot.last = Some(0);
            slot.at = Some(value.start);
            let end = std::mem::replace(&mut self.cursor.at, value.start);
            self.value(&mut slot, &scope.place)?;
            self.cursor.at = end;
            slots.all.push(slot);
        }
        slots.expected = slots.all.iter().filter(|slot| !slot.absent).count() as u64;
        Ok(())
    }

    fn name(&mut self, kind: Kind, scope: &Scope, name: &[u8], offset: usize, what: &str) {
        self.findings.add(kind, || {
            let input = shown(name);
            let pointer = scope.place.pointer(Some(&input));
            Finding { kind, input, pointer, offset, what: what.to_owned(), value: None }
        });
    }
}

/// The dtype that fits values without a declaration: strings, integers, bools, or else floats.
fn guess(body: &[u8], value: Range<usize>) -> DataType {
    let mut cursor = Cursor { body: &body[..value.end], at: value.start };
    let (mut integers, mut bools) = (false, false);
    while cursor.at < value.end {
        match cursor.peek() {
            b'"' => return DataType::STRING,
            b't' | b'f' => {
                bools = true;
                cursor.at += 4;
            }
            b'-' | b'0'..=b'9' | b'N' | b'I' => match number::token(&mut cursor) {
                Ok(number) if number.integer => integers = true,
                _ => return DataType::FLOAT,
            },
            _ => cursor.at += 1,
        }
    }
    match (integers, bools) {
        (true, false) => DataType::INT64,
        (false, true) => DataType::BOOL,
        _ => DataType::FLOAT,
    }
}
