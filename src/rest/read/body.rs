//! The body of a Predict request: which signature, `instances` or `inputs`, and what is in them.
use std::sync::Arc;

use super::cursor::{Syntax, Text, is_name};
use super::finding::{Finding, Kind, shown};
use super::object::{Form, Scope, Slots};
use super::text;
use super::value::{Place, Reader, Stop};
use super::{Format, Read};
use crate::signature::Signature;
use crate::spelling;

/// Keys that are not TF Serving's, kept for a warning.
const MAX_OTHERS: usize = 16;

/// What the keys of the body said.
#[derive(Debug, Default)]
struct Keys {
    signature_name: Option<String>,
    /// Where its value is.
    signature_at: Option<usize>,
    /// Format and position of the value of the first `instances` or `inputs`.
    values: Option<(bool, usize)>,
    others: Vec<(String, usize)>,
    has_others: bool,
}

/// The inputs of a body, before they are finished.
struct Inputs {
    slots: Vec<super::slot::Slot>,
    format: Format,
}

/// A signature name that came after the values.
struct Again(String);

impl Reader<'_> {
    /// Reads the whole body. A `signature_name` behind the values makes it read them again.
    pub(super) fn body(
        &mut self,
        choose: &dyn Fn(&str) -> Option<Arc<Signature>>,
    ) -> Result<Option<Read>, Stop> {
        let start = self.cursor.clone();
        match self.attempt(choose, None)? {
            Ok(read) => Ok(read),
            Err(Again(name)) => {
                self.cursor = start;
                self.findings = super::Findings::default();
                self.bytes = 0;
                Ok(self.attempt(choose, Some(name))?.unwrap_or_default())
            }
        }
    }

    fn attempt(
        &mut self,
        choose: &dyn Fn(&str) -> Option<Arc<Signature>>,
        known: Option<String>,
    ) -> Result<Result<Option<Read>, Again>, Stop> {
        self.cursor.space();
        let start = self.cursor.at;
        if self.cursor.peek() != b'{' {
            if self.cursor.at >= self.cursor.body.len() {
                return Err(self.cursor.fault("the body is empty").into());
            }
            self.cursor.skip()?;
            let value = start..self.cursor.at;
            self.note(Kind::NotAnObject, "", start, "expected an object".to_owned(), Some(value));
            return Ok(Ok(None));
        }
        let mut keys = Keys::default();
        let mut inputs = None;
        let is_known = known.is_some();
        let mut name = known.unwrap_or_default();
        self.cursor.at += 1;
        self.cursor.space();
        let mut more = !self.cursor.take(b'}');
        while more {
            self.cursor.space();
            let key_at = self.cursor.at;
            let key = self.cursor.key()?;
            self.cursor.space();
            let body = self.cursor.body;
            if is_name(body, &key, b"signature_name") {
                if let Some(given) = self.signature_name(&mut keys, key_at)? {
                    if !is_known && keys.values.is_some() && given != name {
                        return Ok(Err(Again(given)));
                    }
                    name = given;
                }
            } else if is_name(body, &key, b"instances") {
                self.values(choose, &name, &mut keys, &mut inputs, true, key_at)?;
            } else if is_name(body, &key, b"inputs") {
                self.values(choose, &name, &mut keys, &mut inputs, false, key_at)?;
            } else {
                self.other(&mut keys, key_at, &key)?;
            }
            more = self.cursor.more(b'}')?;
        }
        // The default signature has no place in the body.
        let (pointer, offset) = keys.signature_at.map_or(("", start), |at| ("/signature_name", at));
        let Some(signature) = choose(&name) else {
            let what = "the model has no such signature".to_owned();
            self.findings.add(Kind::UnknownSignature, || Finding {
                kind: Kind::UnknownSignature,
                input: String::new(),
                pointer: pointer.to_owned(),
                offset,
                what,
                value: Some(shown(name.as_bytes())),
            });
            return Ok(Ok(None));
        };
        if signature.inputs.is_empty() {
            let what = "the signature has no inputs".to_owned();
            self.note(Kind::NoInputs, pointer, offset, what, None);
            return Ok(Ok(None));
        }
        if keys.values.is_none() {
            inputs = self.at_top(&signature, &keys, start)?;
        }
        self.warn(&keys);
        let Some(Inputs { slots, format }) = inputs else { return Ok(Ok(None)) };
        let mut finished = Vec::with_capacity(slots.len());
        for mut slot in slots.into_iter().filter(|slot| slot.last.is_some()) {
            self.charge(&mut slot, 0)?;
            finished.push(slot.finish(format, self.options.as_served));
        }
        let findings = std::mem::take(&mut self.findings);
        Ok(Ok(Some(Read { signature_name: name, signature, format, inputs: finished, findings })))
    }

    /// Takes the value of `signature_name`, if it is the first one.
    fn signature_name(&mut self, keys: &mut Keys, key_at: usize) -> Result<Option<String>, Stop> {
        let start = self.cursor.at;
        keys.signature_at.get_or_insert(start);
        if keys.signature_name.is_some() {
            self.cursor.skip()?;
            self.repeated("/signature_name", key_at);
            return Ok(None);
        }
        if self.cursor.peek() != b'"' {
            self.cursor.skip()?;
            let value = start..self.cursor.at;
            let what = "expected the name of a signature".to_owned();
            self.note(Kind::SignatureName, "/signature_name", start, what, Some(value));
            keys.signature_name = Some(String::new());
            return Ok(None);
        }
        let given = self.cursor.string()?;
        let mut name = Vec::new();
        text::append(&self.cursor.body[given.range], given.escaped, &mut name);
        let name = String::from_utf8_lossy(&name).into_owned();
        keys.signature_name = Some(name.clone());
        Ok(Some(name))
    }

    /// Takes the value of `instances` or `inputs`.
    fn values(
        &mut self,
        choose: &dyn Fn(&str) -> Option<Arc<Signature>>,
        name: &str,
        keys: &mut Keys,
        inputs: &mut Option<Inputs>,
        row: bool,
        key_at: usize,
    ) -> Result<(), Stop> {
        let pointer = if row { "/instances" } else { "/inputs" };
        if let Some((first, _)) = keys.values {
            self.cursor.skip()?;
            if first == row {
                self.repeated(pointer, key_at);
            } else {
                let what = "expected one of `instances` and `inputs`, got both".to_owned();
                self.note(Kind::BothKeys, pointer, key_at, what, None);
            }
            return Ok(());
        }
        keys.values = Some((row, self.cursor.at));
        let Some(signature) = choose(name).filter(|signature| !signature.inputs.is_empty()) else {
            self.cursor.skip()?;
            return Ok(());
        };
        let mut slots = Slots::new(&signature);
        let format = if row {
            self.instances(&mut slots)?
        } else {
            self.inputs(&mut slots)?;
            Format::Column
        };
        *inputs = Some(Inputs { slots: slots.all, format });
        Ok(())
    }

    /// Reads the list at the cursor.
    fn instances(&mut self, slots: &mut Slots<'_>) -> Result<Format, Stop> {
        let row = |instances, plain| Ok(Format::Row { instances, plain });
        let start = self.cursor.at;
        let mut place = Place { root: "/instances", instance: None, named: true, outer: 1 };
        if self.is_object() {
            self.note(
                Kind::BareObject,
                "/instances",
                start,
                "read as a list of one instance".to_owned(),
                None,
            );
            self.members(slots, &Scope { place, number: 0, form: Form::Instance })?;
            return row(1, false);
        }
        if !self.cursor.take(b'[') {
            self.cursor.skip()?;
            let value = start..self.cursor.at;
            let what = "expected a list of instances".to_owned();
            self.note(Kind::NotAList, "/instances", start, what, Some(value));
            return row(0, false);
        }
        self.cursor.space();
        if self.cursor.take(b']') {
            self.note(Kind::NoInstances, "/instances", start, "the list is empty".to_owned(), None);
            return row(0, false);
        }
        // The first element alone decides (`FillTensorMapFromInstancesList`, json_tensor.cc).
        let objects = self.is_object();
        if !objects && slots.all.len() > 1 {
            self.cursor.at = start;
            self.names_needed(slots, "/instances")?;
            return row(0, false);
        }
        let mut number = 0;
        if !objects {
            slots.all[0].at = Some(start);
        }
        loop {
            self.cursor.space();
            place.instance = Some(number);
            place.named = objects;
            let at = self.cursor.at;
            if self.is_object() != objects {
                self.cursor.skip()?;
                let what = if objects {
                    "expected an object like the first instance, got a value"
                } else {
                    "expected a value like the first instance, got an object"
                };
                let pointer = place.pointer(None);
                self.note(Kind::MixedKinds, &pointer, at, what.to_owned(), Some(at..self.cursor.at));
            } else if objects {
                self.members(slots, &Scope { place, number, form: Form::Instance })?;
            } else {
                slots.all[0].last = Some(number);
                self.value(&mut slots.all[0], &place)?;
            }
            number += 1;
            if !self.cursor.more(b']')? {
                return row(number, !objects);
            }
        }
    }

    /// Reads the value of `inputs`.
    fn inputs(&mut self, slots: &mut Slots<'_>) -> Result<(), Stop> {
        let single = slots.all.len() == 1;
        let named = if single { self.is_object() } else { self.cursor.peek() == b'{' };
        let place = Place { root: "/inputs", instance: None, named, outer: 0 };
        if named {
            return self.members(slots, &Scope { place, number: 0, form: Form::Inputs });
        }
        if !single {
            return self.names_needed(slots, "/inputs");
        }
        slots.all[0].last = Some(0);
        slots.all[0].at = Some(self.cursor.at);
        self.value(&mut slots.all[0], &place)
    }

    fn names_needed(&mut self, slots: &Slots<'_>, pointer: &str) -> Result<(), Stop> {
        let start = self.cursor.at;
        self.cursor.skip()?;
        let what = format!("expected an object, because the signature has {} inputs", slots.all.len());
        self.note(Kind::NamesNeeded, pointer, start, what, None);
        Ok(())
    }

    /// Whether the next value is an object that is not base64 data.
    fn is_object(&self) -> bool {
        self.cursor.peek() == b'{' && !self.cursor.is_base64_object()
    }

    /// The inputs in the body itself, if it has nothing else.
    fn at_top(&mut self, signature: &Signature, keys: &Keys, start: usize) -> Result<Option<Inputs>, Stop> {
        let names = keys.others.iter().all(|(name, _)| signature.input(name).is_some());
        let few = keys.others.len() < MAX_OTHERS || signature.inputs.len() >= MAX_OTHERS;
        if !keys.has_others || !names || !few {
            self.note(Kind::NoValues, "", start, no_values(keys), None);
            return Ok(None);
        }
        self.note(Kind::NamesAtTop, "", start, "read as the members of `inputs`".to_owned(), None);
        let mut slots = Slots::new(signature);
        let place = Place { root: "", instance: None, named: true, outer: 0 };
        let end = std::mem::replace(&mut self.cursor.at, start);
        self.members(&mut slots, &Scope { place, number: 0, form: Form::Top })?;
        self.cursor.at = end;
        Ok(Some(Inputs { slots: slots.all, format: Format::Column }))
    }

    /// Takes a key that TF Serving ignores.
    fn other(&mut self, keys: &mut Keys, key_at: usize, key: &Text) -> Result<(), Stop> {
        let raw = &self.cursor.body[key.range.clone()];
        keys.has_others = true;
        if keys.others.len() < MAX_OTHERS {
            let mut name = Vec::new();
            text::append(&raw[..raw.len().min(1024)], key.escaped, &mut name);
            keys.others.push((String::from_utf8_lossy(&name).into_owned(), key_at));
        }
        Ok(self.cursor.skip()?)
    }

    /// Warns of keys beside the values, which TF Serving ignores.
    fn warn(&mut self, keys: &Keys) {
        if keys.values.is_none() {
            return;
        }
        for (name, at) in &keys.others {
            let known = ["instances", "inputs", "signature_name"];
            let meant = spelling::close(name, known).map(|known| format!(": did you mean `{known}`?"));
            let what = format!("TF Serving ignores this key{}", meant.unwrap_or_default());
            let mut pointer = String::new();
            super::finding::step(&mut pointer, name);
            self.note(Kind::IgnoredKey, &pointer, *at, what, None);
        }
    }

    fn repeated(&mut self, pointer: &str, at: usize) {
        self.note(
            Kind::RepeatedKey,
            pointer,
            at,
            "the key was there before: the first counts".to_owned(),
            None,
        );
    }

    fn note(
        &mut self,
        kind: Kind,
        pointer: &str,
        offset: usize,
        what: String,
        value: Option<std::ops::Range<usize>>,
    ) {
        let body = self.cursor.body;
        self.findings.add(kind, || {
            let value = value.map(|range| shown(&body[range]));
            Finding { kind, input: String::new(), pointer: pointer.to_owned(), offset, what, value }
        });
    }

    /// Reports where the body stops being JSON.
    pub(super) fn syntax(&mut self, Syntax { at, what }: Syntax) {
        let pointer = super::place::around(self.cursor.body, at);
        self.note(Kind::Syntax, &pointer, at, what.to_owned(), None);
    }
}

/// The text for a body with neither `instances` nor `inputs`, from the keys that it has.
fn no_values(keys: &Keys) -> String {
    let names = || keys.others.iter().map(|(name, _)| name.as_str());
    let meant = names().find_map(|name| spelling::close(name, ["instances", "inputs"]));
    match meant {
        Some(known) => format!("expected `instances` or `inputs`: did you mean `{known}`?"),
        None if names().any(|name| name == "examples") => {
            "expected `instances` or `inputs`; `examples` are for :classify and :regress".to_owned()
        }
        None => "expected `instances` or `inputs`".to_owned(),
    }
}
