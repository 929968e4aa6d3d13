//! What to send instead of a value that a text has where another kind of value belongs.
use std::sync::Arc;

use super::hints::{self, did_you_mean};
use super::layout;
use super::problem::Problem;
use super::report::ascii;
use super::rules::{BOOL_NUMBERS, STRING_NUMBERS};
use crate::signature::{Signature, Signatures};
use crate::tensor::Class;

/// Signatures that are searched for one that takes tf.Examples.
const MAX_SEARCHED: usize = 1024;

/// A value of one kind where another belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    BoolForNumber,
    /// 0 or 1 for a bool.
    BitForBool,
    /// A number in quotes.
    QuotedNumber,
    StringForNumber,
    /// Bytes, as base64, for a number.
    BytesForNumber,
    NumberForString,
}

impl Problem {
    /// Adds what to do about a misfit, and the rule that reads it if the operator wants that.
    #[must_use]
    pub fn misfit(self, misfit: Misfit, signature: Option<&Signature>, signatures: &Signatures) -> Self {
        let info = signature.and_then(|signature| signature.input(&self.input));
        let is_image = info.is_some_and(layout::is_image);
        let hint = match misfit {
            Misfit::BoolForNumber => return self.hint("send 1 or 0").switch(Some(&BOOL_NUMBERS)),
            Misfit::BitForBool => return self.hint("send true or false").switch(Some(&BOOL_NUMBERS)),
            Misfit::QuotedNumber => return self.hint("send it without quotes").switch(Some(&STRING_NUMBERS)),
            Misfit::StringForNumber | Misfit::BytesForNumber if is_image => {
                "this input takes decoded pixels: decode the image first"
            }
            Misfit::BytesForNumber => {
                "this input takes numbers, not the bytes of a file: decode the image first, and send its pixels"
            }
            Misfit::StringForNumber => {
                let class = info.and_then(|info| info.dtype.info()).map(|dtype| dtype.class);
                if !matches!(class, Some(Class::Signed | Class::Unsigned)) {
                    return self;
                }
                "this input takes numbers, such as token ids: tokenize or parse the text first"
            }
            Misfit::NumberForString => {
                let hint = numbers_for_strings(signature, signatures);
                return self.hint(hint);
            }
        };
        self.hint(hint)
    }

    /// Adds the name that was meant, or the names that there are.
    #[must_use]
    pub fn no_signature(self, name: &str, signatures: &Signatures) -> Self {
        let known = signatures.servable().map(|signature| signature.name.as_str());
        let meant = did_you_mean(name, known);
        self.hint(meant.unwrap_or_else(|| format!("the model has {}", hints::list(signatures))))
    }
}

/// What a string input takes, as far as its signature tells.
fn numbers_for_strings(signature: Option<&Signature>, signatures: &Signatures) -> String {
    let bytes = r#"{"b64": "..."}"#;
    if let Some(own) = signature
        && let Some(verb) = verb(own)
    {
        return format!(
            "this signature takes serialized tf.Example protos: send the features as `examples` to :{verb}, or the protos as {bytes}"
        );
    }
    let takes = match signature.and_then(hints::examples) {
        Some(takes) => format!("{takes} ({bytes})"),
        None => format!(
            "this input takes strings: text in quotes, or the bytes of an encoded image or a serialized tf.Example as {bytes}"
        ),
    };
    let mut others = signatures.servable().take(MAX_SEARCHED);
    match others.find_map(|other| Some((verb(other)?, other))) {
        Some((verb, other)) => {
            format!("{takes}; or send features as `examples` to :{verb}{}", named(other))
        }
        None => takes,
    }
}

/// The method that takes features as `examples`, for a signature of one.
fn verb(signature: &Signature) -> Option<&'static str> {
    match signature.method_name.rsplit('/').next() {
        Some("classify") => Some("classify"),
        Some("regress") => Some("regress"),
        _ => None,
    }
}

/// How a signature is asked for, unless it is the default.
fn named(signature: &Arc<Signature>) -> String {
    if signature.name == crate::signature::DEFAULT_SIGNATURE {
        return String::new();
    }
    format!(" with signature_name '{}'", ascii(&signature.name))
}
