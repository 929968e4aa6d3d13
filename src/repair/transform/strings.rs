//! Transforms of strings: base64 to bytes, text to lower case.
use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;

use super::Transform;
use crate::tensor::ValueList;
use crate::wire::scan::Reader;
use crate::wire::values::{self, Stop};
use crate::wire::{Rope, TensorView, WireError, emit};

/// Where the strings of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::repair) enum Source {
    /// In `string_val`.
    List,
    /// In `tensor_content`, in TensorFlow's encoding: all lengths, then all bytes.
    Content { count: u64 },
    /// The bytes of `tensor_content` are the one string.
    Whole,
}

/// A string that a transform is not for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::repair) struct Unfit {
    pub index: u64,
    pub why: &'static str,
}

/// Passes the strings on, in order.
///
/// # Errors
/// An error of the sink, or strings that cannot be read.
pub(in crate::repair) fn each<E>(
    message: &Rope,
    tensor: &TensorView,
    source: Source,
    sink: &mut dyn FnMut(Bytes) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let content = || tensor.content.clone().unwrap_or_default();
    match source {
        Source::List => values::each_string(message, tensor, sink),
        Source::Whole => sink(message.slice(content()).to_bytes()).map_err(Stop::Sink),
        Source::Content { count } => {
            let content = content();
            let mut lengths = Reader::of_range(message, &content);
            let mut after = Reader::of_range(message, &content);
            for _ in 0..count {
                after.varint()?;
            }
            let mut at = after.position();
            for _ in 0..count {
                let length = usize::try_from(lengths.varint()?).unwrap_or(usize::MAX);
                let end = at.saturating_add(length).min(content.end);
                sink(message.slice(at..end).to_bytes()).map_err(Stop::Sink)?;
                at = end;
            }
            Ok(())
        }
    }
}

/// One string after the transforms, in order. Those that are not about strings do nothing.
///
/// # Errors
/// Why one of them is not for this string.
pub(in crate::repair) fn change<'a>(
    transforms: &[&Transform],
    string: &'a [u8],
) -> Result<Cow<'a, [u8]>, &'static str> {
    let mut now = Cow::Borrowed(string);
    for transform in transforms {
        match transform {
            Transform::DecodeBase64 => now = Cow::Owned(decode(&now)?),
            Transform::Lowercase => {
                let text = std::str::from_utf8(&now).map_err(|_| "no UTF-8 text")?;
                now = Cow::Owned(text.to_lowercase().into_bytes());
            }
            _ => {}
        }
    }
    Ok(now)
}

/// Strict: one of the two alphabets of RFC 4648, padded, and no other byte.
fn decode(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    const WHY: &str = "no base64";
    let other = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if other { URL_SAFE } else { STANDARD };
    engine.decode(text).map_err(|_| WHY)
}

/// Checks that the transforms are for every string.
///
/// # Errors
/// The first string that they are not for, or strings that cannot be read.
pub(in crate::repair) fn check(
    message: &Rope,
    tensor: &TensorView,
    source: Source,
    transforms: &[&Transform],
) -> Result<(), Stop<Unfit>> {
    let mut index = 0;
    each(message, tensor, source, &mut |string| {
        change(transforms, &string).map_err(|why| Unfit { index, why })?;
        index += 1;
        Ok(())
    })
}

/// The strings after the transforms, as fields of `string_val`.
///
/// # Errors
/// Strings that cannot be read. One that a transform is not for, which the check rules out, stays.
pub(in crate::repair) fn make(
    message: &Rope,
    tensor: &TensorView,
    source: Source,
    transforms: &[&Transform],
) -> Result<Rope, WireError> {
    let mut out = Vec::with_capacity(size(tensor, source));
    let read = each(message, tensor, source, &mut |string| {
        let changed = change(transforms, &string).unwrap_or(Cow::Borrowed(&string));
        emit::put_varint(&mut out, u64::from(ValueList::String.field()) << 3 | 2);
        emit::put_varint(&mut out, changed.len() as u64);
        out.extend_from_slice(&changed);
        Ok::<(), std::convert::Infallible>(())
    });
    match read {
        Ok(()) => Ok(Rope::from(out)),
        Err(Stop::Wire(error)) => Err(error),
        Err(Stop::Sink(never)) => match never {},
    }
}

/// Bytes that hold the strings in the message.
pub(in crate::repair) fn size(tensor: &TensorView, source: Source) -> usize {
    match source {
        Source::List => {
            let own = tensor.runs.iter().filter(|run| run.field == ValueList::String.field());
            own.map(|run| run.span.len()).sum()
        }
        Source::Content { .. } | Source::Whole => tensor.content.as_ref().map_or(0, ExactSizeIterator::len),
    }
}

/// At most so many bytes are allocated for a byte of the message. A string of no bytes takes one
/// in `tensor_content` and two in `string_val`, and lower case takes up to one and a half times the
/// bytes; the vector doubles, and one string is held beside it.
pub(in crate::repair) const GROWTH: u64 = 6;
