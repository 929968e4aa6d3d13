//! The values of `instances` and `inputs`: TF Serving's refusal of what are no tensors.
use super::base64;
use super::echo::echo;
use super::refusal::Refusal;
use super::tensor::{Filled, fill};
use crate::rest::json::{Event, Kind, Walk};
use crate::signature::TensorInfo;

/// The inputs of a signature, at least one, sorted by alias.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a>(&'a [TensorInfo]);

impl<'a> Inputs<'a> {
    pub(super) fn new(inputs: &'a [TensorInfo]) -> Self {
        Self(inputs)
    }

    fn index(self, name: &[u8]) -> Option<usize> {
        self.0.binary_search_by(|info| info.alias.as_bytes().cmp(name)).ok()
    }
}

/// Checks `instances`, from its first element on (`FillTensorMapFromInstancesList`).
pub(super) fn rows(document: &[u8], mut walk: Walk<'_>, inputs: Inputs<'_>) -> Result<(), Refusal> {
    if walk.peek() != Kind::Object && inputs.0.len() > 1 {
        return Err(Refusal::invalid(
            "instances is a plain list, but expecting list of objects as multiple \
             input tensors required as per tensorinfo_map",
        ));
    }
    // The first element decides for all.
    let objects = is_object(walk);
    let mut rows =
        Rows { document, inputs, first: vec![None; inputs.0.len()], seen: vec![0; inputs.0.len()] };
    let mut row = 0_u64;
    while walk.peek() != Kind::End {
        match (objects, is_object(walk)) {
            (true, true) => rows.object(&mut walk, row)?,
            (true, false) => {
                let text = format!("Expecting object but got list at item {row} of input list");
                return Err(Refusal::invalid(text));
            }
            (false, true) => {
                let text = format!("Expecting value/list but got object at item {row} of input list");
                return Err(Refusal::invalid(text));
            }
            (false, false) => rows.add(&mut walk, 0).map_err(|refusal| within(row, None, &refusal))?,
        }
        row += 1;
    }
    Ok(())
}

/// Whether an object comes next that is not `{"b64": "…"}`.
fn is_object(mut walk: Walk<'_>) -> bool {
    walk.peek() == Kind::Object && base64::object(walk).is_none()
}

/// The refusal of a value in a row.
fn within(row: u64, key: Option<&[u8]>, inner: &Refusal) -> Refusal {
    let row = format!("Failed to process element: {row} ");
    let (word, key, space) = key.map_or((&b""[..], &b""[..], &b""[..]), |key| (b"key: ", key, b" "));
    Refusal::joined([
        row.as_bytes(),
        word,
        key,
        space,
        b"of 'instances' list. Error: ",
        inner.code.name().as_bytes(),
        b": ",
        &inner.text,
    ])
}

#[derive(Debug)]
struct Rows<'a> {
    document: &'a [u8],
    inputs: Inputs<'a>,
    /// What each input got from the first row that has it.
    first: Vec<Option<Filled>>,
    /// The last row that had each input, counted from 1.
    seen: Vec<u64>,
}

impl Rows<'_> {
    /// Checks a row that is an object.
    fn object(&mut self, walk: &mut Walk<'_>, row: u64) -> Result<(), Refusal> {
        let at = walk.offset();
        walk.step();
        let mut found = 0;
        while let Event::Key(name) = walk.step() {
            let name = name.c_string();
            let Some(index) = self.inputs.index(&name) else {
                let inner = Refusal::joined([b"JSON object: does not have named input: ", &name]);
                return Err(within(row, Some(&name), &inner));
            };
            self.add(walk, index).map_err(|refusal| within(row, Some(&name), &refusal))?;
            if let Some(seen) = self.seen.get_mut(index) {
                found += usize::from(*seen != row + 1);
                *seen = row + 1;
            }
        }
        if found == self.inputs.0.len() {
            return Ok(());
        }
        let row = format!("Failed to process element: {row} of 'instances' list. JSON object: ");
        let names: Vec<&str> = self.inputs.0.iter().map(|info| info.alias.as_str()).collect();
        Err(Refusal::joined([
            row.as_bytes(),
            &echo(self.document, at),
            b" keys must be equal to: ",
            names.join(",").as_bytes(),
        ]))
    }

    /// Checks the next value as an element of an input (`AddInstanceItem`).
    fn add(&mut self, walk: &mut Walk<'_>, index: usize) -> Result<(), Refusal> {
        let (Some(info), Some(first)) = (self.inputs.0.get(index), self.first.get_mut(index)) else {
            return Ok(());
        };
        let filled = fill(self.document, walk, info.dtype)?;
        let Some(first) = first else {
            *first = Some(filled);
            return Ok(());
        };
        if first.size != filled.size {
            let text = format!("Expecting tensor size: {} but got: {}", first.size, filled.size);
            return Err(Refusal::invalid(text));
        }
        if first.shape != filled.shape {
            let (expected, got) = (shape(&first.shape), shape(&filled.shape));
            return Err(Refusal::invalid(format!("Expecting shape {expected} but got: {got}")));
        }
        Ok(())
    }
}

fn shape(dims: &[u64]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// Checks `inputs` (`FillTensorMapFromInputsMap`).
pub(super) fn columns(document: &[u8], mut walk: Walk<'_>, inputs: Inputs<'_>) -> Result<(), Refusal> {
    if !is_object(walk) {
        return match inputs.0 {
            [only] => fill(document, &mut walk, only.dtype).map(drop),
            _ => Err(Refusal::invalid(
                "inputs is a plain value/list, but expecting an object as multiple \
                 input tensors required as per tensorinfo_map",
            )),
        };
    }
    let mut values: Vec<Option<Walk<'_>>> = vec![None; inputs.0.len()];
    walk.step();
    while let Event::Key(name) = walk.step() {
        let slot = inputs.index(&name.unescaped()).and_then(|index| values.get_mut(index));
        // Of a doubled name the first counts.
        if let Some(slot @ None) = slot {
            *slot = Some(walk);
        }
        walk.skip();
    }
    for (info, value) in inputs.0.iter().zip(values) {
        let Some(mut value) = value else {
            let text = format!("Missing named input: {} in 'inputs' object.", info.alias);
            return Err(Refusal::invalid(text));
        };
        fill(document, &mut value, info.dtype)?;
    }
    Ok(())
}
