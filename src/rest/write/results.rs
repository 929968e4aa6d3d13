//! The answers to `:classify` and `:regress` (`json_tensor.cc`).
use super::digits::ROOM;
use super::out::Out;
use super::{Answer, Refusal, float, strings};
use crate::wire::scan::{Field, Reader, Wire, WireError};
use crate::wire::{Rope, reply};

/// Writes a `ClassificationResponse`: for each example a list of `[label, score]`.
///
/// # Errors
/// As TF Serving, if there is no result. Also if the message is not valid, or the text would be
/// longer than `max_bytes`.
pub fn classify(message: &Rope, max_bytes: usize) -> Result<Answer, Refusal> {
    let mut list = List::new(message, max_bytes)?;
    let mut replaced = false;
    each(message, |example| {
        list.next()?;
        list.out.put(b"[")?;
        let mut first = true;
        each_in(example.clone(), |class| {
            list.out.put(if first { b"[" } else { b", [" })?;
            first = false;
            let class = Class::read(message, class)?;
            replaced |= !strings::bytes(&mut list.out, &class.label)?;
            list.out.put(b", ")?;
            list.score(class.score)?;
            list.out.put(b"]")
        })?;
        list.out.put(b"]")
    })?;
    if !list.empty {
        list.out.line(1)?;
    }
    list.finish(message, "ClassificationResults", replaced.then(|| "classes".to_owned()))
}

/// Writes a `RegressionResponse`: one number for each example.
///
/// # Errors
/// As [`classify`].
pub fn regress(message: &Rope, max_bytes: usize) -> Result<Answer, Refusal> {
    let mut list = List::new(message, max_bytes)?;
    each(message, |regression| {
        list.next()?;
        let mut value = 0.0;
        let mut fields = regression.clone();
        while let Some(field) = fields.next_field().map_err(unreadable)? {
            if field.number == 1 {
                value = float(message, &field)?;
            }
        }
        list.score(value)
    })?;
    list.finish(message, "RegressionResults", None)
}

/// The text of a list of results.
struct List {
    out: Out,
    empty: bool,
}

impl List {
    fn new(message: &Rope, max_bytes: usize) -> Result<Self, Refusal> {
        let mut out = Out::new(message.len().saturating_mul(3), max_bytes);
        out.put(b"{\n    \"results\": [")?;
        Ok(Self { out, empty: true })
    }

    fn next(&mut self) -> Result<(), Refusal> {
        if self.empty {
            self.empty = false;
            return Ok(());
        }
        self.out.put(b", ")
    }

    fn score(&mut self, score: f32) -> Result<(), Refusal> {
        let mut digits = [0; ROOM];
        let length = float::write(score, &mut digits);
        self.out.put(&digits[..length])
    }

    fn finish(mut self, message: &Rope, what: &str, replaced: Option<String>) -> Result<Answer, Refusal> {
        if self.empty {
            return Err(Refusal::invalid(&format!("Cannot convert empty {what} to JSON")));
        }
        self.out.put(b"]\n}")?;
        // The model spec has the same number in all responses.
        let version = reply::version(message).map_err(unreadable)?;
        Ok(Answer { json: self.out.finish()?, version, replaced })
    }
}

/// A `Class`.
struct Class {
    label: Vec<u8>,
    score: f32,
}

impl Class {
    fn read(message: &Rope, mut fields: Reader<'_>) -> Result<Self, Refusal> {
        let mut class = Self { label: Vec::new(), score: 0.0 };
        while let Some(field) = fields.next_field().map_err(unreadable)? {
            match field.number {
                1 => {
                    field.expect(Wire::Bytes).map_err(unreadable)?;
                    class.label = message.chunks(field.payload).flatten().copied().collect();
                }
                2 => class.score = float(message, &field)?,
                _ => {}
            }
        }
        Ok(class)
    }
}

/// Passes each entry of the result to `sink`. Later results are merged into the first, as in
/// protobuf.
fn each<'a>(
    message: &'a Rope,
    mut sink: impl FnMut(&Reader<'a>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    each_in(Reader::new(message), |result| each_in(result, |entry| sink(&entry)))
}

/// Passes the payload of each field 1 to `sink`.
fn each_in<'a>(
    mut fields: Reader<'a>,
    mut sink: impl FnMut(Reader<'a>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    while let Some(field) = fields.next_field().map_err(unreadable)? {
        if field.number == 1 {
            field.expect(Wire::Bytes).map_err(unreadable)?;
            sink(fields.inner(&field))?;
        }
    }
    Ok(())
}

fn float(message: &Rope, field: &Field) -> Result<f32, Refusal> {
    field.expect(Wire::Fixed32).map_err(unreadable)?;
    let mut bytes = [0; 4];
    let payload = message.chunks(field.payload.clone()).flatten();
    bytes.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
    Ok(f32::from_le_bytes(bytes))
}

fn unreadable(error: WireError) -> Refusal {
    Refusal::unreadable(&error.to_string())
}
