//! The members of a body's top level, and the checks of them in TF Serving's order.
use std::borrow::Cow;

use super::echo::echo;
use super::instances::{self, Inputs};
use super::refusal::Refusal;
use crate::rest::json::{self, Event, Kind, Walk};
use crate::signature::{DEFAULT_SIGNATURE, Signatures};

/// A body that is a JSON object, with a `signature_name` that is a string, if it has one.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    body: &'a [u8],
    /// The offset of the top level's `{`.
    start: usize,
    signature_name: Cow<'a, [u8]>,
    members: Members,
}

/// The offsets of the values of the members that the API knows. Of a doubled name the first counts
/// (`FindMember` in RapidJSON's `document.h`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Members {
    signature_name: Option<usize>,
    pub(super) instances: Option<usize>,
    pub(super) inputs: Option<usize>,
    pub(super) context: Option<usize>,
    pub(super) examples: Option<usize>,
}

impl Members {
    fn read(mut walk: Walk<'_>) -> Self {
        let mut members = Self::default();
        walk.step();
        while let Event::Key(name) = walk.step() {
            let at = walk.offset();
            for (known, slot) in [
                ("signature_name", &mut members.signature_name),
                ("instances", &mut members.instances),
                ("inputs", &mut members.inputs),
                ("context", &mut members.context),
                ("examples", &mut members.examples),
            ] {
                if slot.is_none() && name.is(known.as_bytes()) {
                    *slot = Some(at);
                }
            }
            walk.skip();
        }
        members
    }
}

impl<'a> Document<'a> {
    /// Reads the top level of a body. TF Serving does this first, before it looks up the model.
    ///
    /// # Errors
    /// TF Serving's refusal of a body that is no JSON object, or whose `signature_name` is no
    /// string.
    pub fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Err(Refusal::invalid("JSON Parse error: The document is empty"));
        }
        let span =
            json::check(body).map_err(|error| Refusal::invalid(format!("JSON Parse error: {error}")))?;
        let mut walk = Walk::at(body, span.start);
        let mut document =
            Self { body, start: span.start, signature_name: Cow::default(), members: Members::default() };
        if walk.peek() != Kind::Object {
            return Err(document.malformed(" Is not object"));
        }
        document.members = Members::read(walk);
        if let Some(at) = document.members.signature_name {
            let Event::String(name) = Walk::at(body, at).step() else {
                return Err(document
                    .malformed(" not formatted correctly. 'signature_name' key must be a string value."));
            };
            document.signature_name = name.unescaped();
        }
        Ok(document)
    }

    /// The member `signature_name`; empty if there is none. It need not be UTF-8.
    pub fn signature_name(&self) -> &[u8] {
        &self.signature_name
    }

    /// The refusal of a Predict request after TF Serving has found the model.
    pub fn predict_refusal(&self, signatures: &Signatures) -> Option<Refusal> {
        self.predict(signatures).err()
    }

    fn predict(&self, signatures: &Signatures) -> Result<(), Refusal> {
        let default = self.signature_name.is_empty();
        let name = if default { DEFAULT_SIGNATURE.as_bytes() } else { &self.signature_name };
        let signature = std::str::from_utf8(name).ok().and_then(|name| signatures.get(name));
        let Some(signature) = signature else {
            return Err(Refusal::joined([
                b"Serving signature name: \"",
                name,
                b"\" not found in signature def",
            ]));
        };
        if signature.inputs.is_empty() {
            let name = if default { b"DEFAULT" } else { name };
            return Err(Refusal::joined([b"Failed to get input map for signature: ", name]));
        }
        let inputs = Inputs::new(&signature.inputs);
        match (self.members.instances, self.members.inputs) {
            (Some(_), Some(_)) => Err(self.malformed(
                " Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
            )),
            (Some(at), None) => {
                let mut walk = Walk::at(self.body, at);
                if walk.peek() != Kind::Array {
                    return Err(self.malformed(" Expecting 'instances' to be an list/array"));
                }
                walk.step();
                if walk.peek() == Kind::End {
                    return Err(self.malformed(" No values in 'instances' array"));
                }
                instances::rows(self.body, walk, inputs)
            }
            (None, Some(at)) => instances::columns(self.body, Walk::at(self.body, at), inputs),
            (None, None) => Err(Refusal::invalid("Missing 'inputs' or 'instances' key")),
        }
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn members(&self) -> Members {
        self.members
    }

    /// A refusal that quotes the whole document.
    pub(super) fn malformed(&self, problem: &str) -> Refusal {
        Refusal::joined([b"JSON Value: ", &echo(self.body, self.start), problem.as_bytes()])
    }
}
