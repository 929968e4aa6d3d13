//! Hints: what the client can do about its problems. They are added once all problems of the
//! request are known. A hint is only text and triggers no repair, so it may say what is merely
//! likely.
use std::sync::Arc;

use super::judge::Request;
use super::problem::{Problem, Weight};
use super::reason::Reason;
use super::report::ascii;
use super::{Change, Encoding, Step, layout, payload};
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::spelling::close;
use crate::tensor::{Class, DataType, PartialShape, Relation, Shape, relation};
use crate::wire::{InputView, PredictView, Rope, TensorView};

/// Maximum number of problems that get a hint; a hostile request could have thousands.
const MAX_HINTS: usize = 16;
/// Maximum number of inputs that are searched for two that were swapped.
const MAX_PAIRED: usize = 32;
/// Maximum number of signatures that are searched for a name. Real models have a handful.
const MAX_SEARCHED: usize = 1024;
/// A list of signatures stops after this many bytes.
const MAX_LIST_LENGTH: usize = 400;

const EXAMPLES: &str = "this signature takes serialized tf.Example protos";
const MAYBE_EXAMPLES: &str = "this signature takes strings, usually serialized tf.Example protos";

/// Adds hints to the problems of a Predict request. `bound` lists which sent input was checked
/// against which declared one.
pub(super) fn add(
    problems: &mut [Problem],
    signature: &Signature,
    request: &Request<'_>,
    bound: &[(usize, &TensorInfo)],
) {
    if problems.is_empty() {
        return;
    }
    let view = request.view;
    let swapped = swapped(view, bound);
    let missing = missing(signature, view, bound);
    let mut said_examples = false;
    for problem in problems.iter_mut().take(MAX_HINTS).filter(|problem| problem.weight == Weight::Plain) {
        let tensor = bound
            .iter()
            .find(|(_, info)| info.alias == problem.input)
            .map(|(index, info)| (&view.inputs[*index], *info));
        let hint = match problem.reason {
            Reason::NameUnknown | Reason::InputExtra => {
                let elsewhere = |other: &Signature| other.input(&problem.input).is_some();
                let hint = taken_by(request.signatures, signature, elsewhere, &problem.input);
                hint.or_else(|| {
                    if !problem.hint.is_empty() {
                        return None;
                    }
                    did_you_mean(&problem.input, missing.iter().copied()).or_else(|| {
                        let hint = examples(signature).filter(|_| !said_examples);
                        said_examples |= hint.is_some();
                        hint.map(str::to_owned)
                    })
                })
            }
            Reason::OutputUnknown | Reason::SignatureUnknown => None,
            Reason::DtypeMismatch
            | Reason::RankTooLow
            | Reason::RankTooHigh
            | Reason::DimMismatch
            | Reason::ShapeMismatch => tensor.and_then(|(sent, info)| {
                let file = || file(request.message, &sent.tensor, info);
                swap(swapped, info).or_else(file).or_else(|| match problem.reason {
                    Reason::DtypeMismatch => dtype(signature, info, sent.tensor.dtype),
                    _ if !problem.hint.is_empty() => None,
                    // Bytes were sent for numbers or the reverse: the shape says nothing.
                    _ if (sent.tensor.dtype == DataType::STRING) != (info.dtype == DataType::STRING) => None,
                    _ => shape(info, &sent.tensor.shape),
                })
            }),
            _ => None,
        };
        if let Some(hint) = hint {
            problem.hint = hint;
        }
    }
}

/// `signature 'predict' takes 'examples'`: the other signatures that have what this one lacks.
fn taken_by(
    signatures: &Signatures,
    own: &Signature,
    has: impl Fn(&Signature) -> bool,
    what: &str,
) -> Option<String> {
    let others = signatures.servable().take(MAX_SEARCHED);
    let names = quoted(others.filter(|other| other.name != own.name && has(other)));
    let what = ascii(what);
    match names.as_slice() {
        [] => None,
        [only] => Some(format!("signature {only} has '{what}': send it as signature_name")),
        names => {
            Some(format!("signatures {} have '{what}': send one of them as signature_name", names.join(", ")))
        }
    }
}

/// The first few names, in quotes.
fn quoted<'a>(signatures: impl Iterator<Item = &'a Arc<Signature>>) -> Vec<String> {
    const SHOWN: usize = 3;
    signatures.take(SHOWN).map(|signature| format!("'{}'", ascii(&signature.name))).collect()
}

/// The hint for an output that the signature does not have.
pub(super) fn output(name: &str, signature: &Signature, signatures: &Signatures) -> Option<String> {
    taken_by(signatures, signature, |other| other.output(name).is_some(), name)
        .or_else(|| did_you_mean(name, signature.outputs.iter().map(|info| info.alias.as_str())))
}

/// The hint for an unknown signature, from the names of the inputs that were sent.
pub(super) fn signature(view: &PredictView, signatures: &Signatures) -> Option<String> {
    let takes_all = |signature: &&Arc<Signature>| {
        !view.inputs.is_empty()
            && view.inputs.len() <= signature.inputs.len()
            && view.inputs.iter().all(|input| signature.input(&input.key).is_some())
    };
    match quoted(signatures.servable().take(MAX_SEARCHED).filter(takes_all)).as_slice() {
        [only] => Some(format!("signature {only} takes these inputs: send it as signature_name")),
        _ => None,
    }
}

/// A file that was sent as an array of bytes.
fn file(message: &Rope, sent: &TensorView, info: &TensorInfo) -> Option<String> {
    let (content, lists) = (sent.content.is_some(), sent.lists());
    let encoding = match lists.first() {
        _ if sent.dtype.size() != Some(1) => return None,
        _ if content => Encoding::Content,
        Some((list, _)) => Encoding::List(*list),
        None => return None,
    };
    let (name, advice) = payload::file(message, sent, encoding)?;
    Some(match info.dtype {
        DataType::STRING => format!("these bytes are {name}: send them as one string"),
        _ => format!("these bytes are {name}: {advice}"),
    })
}

/// The problem that a step fixes, with a hint what to send so that the step is not needed. Mode
/// `strict` reports it.
pub(super) fn of_step(step: &Step) -> Problem {
    let problem = step.fixes.clone();
    let hint = match &step.change {
        Change::Tensor { before, after, .. } if before.dtype != after.dtype => {
            format!("send {}", after.dtype)
        }
        Change::Tensor { before, after, .. } if before.shape != after.shape => {
            format!("send shape {}", after.shape)
        }
        Change::Key { new, .. } => format!("send it as '{new}'"),
        Change::ModelName { new, .. } => format!("send it to model '{new}'"),
        Change::SignatureName { new, .. } => format!("send signature_name '{new}'"),
        Change::Dropped { .. } => "leave it out".to_owned(),
        Change::Tensor { .. } | Change::Rows { .. } | Change::Added { .. } | Change::Text { .. } => {
            return problem;
        }
    };
    problem.hint(hint)
}

/// `did you mean 'x'?` for a misspelt name.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    close(name, known).map(|known| format!("did you mean '{}'?", ascii(known)))
}

/// The signatures of a model with their inputs, on one line of limited length.
pub(super) fn list(signatures: &Signatures) -> String {
    const INPUTS: usize = 8;
    let mut text = String::new();
    let mut left = signatures.servable().count();
    for signature in signatures.servable() {
        if !text.is_empty() {
            text += ", ";
        }
        if text.len() > MAX_LIST_LENGTH {
            return format!("{text}and {left} more");
        }
        left -= 1;
        let inputs = signature.inputs.iter().take(INPUTS);
        let mut inputs: Vec<String> =
            inputs.map(|info| format!("{}: {} {}", ascii(&info.alias), info.dtype, info.shape)).collect();
        if signature.inputs.len() > INPUTS {
            inputs.push("...".to_owned());
        }
        text.extend(["'", &ascii(&signature.name), "' (", &inputs.join(", "), ")"]);
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Inputs that were not sent under their own names: what an unknown name may have been meant to be.
fn missing<'a>(signature: &'a Signature, view: &PredictView, bound: &[(usize, &TensorInfo)]) -> Vec<&'a str> {
    let mut sent = vec![false; signature.inputs.len()];
    for (index, _) in bound {
        if let Some(at) = signature.input_index(&view.inputs[*index].key) {
            sent[at] = true;
        }
    }
    signature.inputs.iter().zip(sent).filter(|(_, sent)| !sent).map(|(info, _)| info.alias.as_str()).collect()
}

/// The hint for a signature that apparently parses `tf.Example`s.
pub(super) fn examples(signature: &Signature) -> Option<&'static str> {
    let [info] = signature.inputs.as_slice() else { return None };
    let one_a_row = info.shape.dims().is_none_or(|dims| dims == [-1]);
    if info.dtype != DataType::STRING || !one_a_row {
        return None;
    }
    // The placeholder names of `tf.estimator` and TFX.
    let placeholder = ["input_example_tensor", "tf_example"];
    let method = signature.method_name.rsplit('/').next().unwrap_or_default();
    if ["examples", "input_example_tensor"].contains(&info.alias.as_str())
        || placeholder.iter().any(|name| info.tensor_name.starts_with(name))
        || ["classify", "regress"].contains(&method)
    {
        return Some(EXAMPLES);
    }
    (info.alias == "inputs").then_some(MAYBE_EXAMPLES)
}

/// Aliases of two inputs whose tensors do not fit where they are, but would fit if they were
/// swapped.
fn swapped<'a>(view: &PredictView, bound: &[(usize, &'a TensorInfo)]) -> Option<(&'a str, &'a str)> {
    let misfits: Vec<(&InputView, &TensorInfo)> = bound
        .iter()
        .map(|(index, info)| (&view.inputs[*index], *info))
        .filter(|(sent, info)| !fits(sent, info))
        .take(MAX_PAIRED)
        .collect();
    let mut pairs = misfits.iter().enumerate().flat_map(|(at, (left, left_info))| {
        misfits[at + 1..]
            .iter()
            .filter(|(right, right_info)| fits(left, right_info) && fits(right, left_info))
            .map(|(_, right_info)| (left_info.alias.as_str(), right_info.alias.as_str()))
    });
    // If more than one pair is possible, nothing tells which one was swapped.
    match (pairs.next(), pairs.next()) {
        (Some(pair), None) => Some(pair),
        _ => None,
    }
}

fn swap(swapped: Option<(&str, &str)>, info: &TensorInfo) -> Option<String> {
    let (left, right) = swapped?;
    let other = match info.alias.as_str() {
        alias if alias == left => right,
        alias if alias == right => left,
        _ => return None,
    };
    let (own, other) = (ascii(&info.alias), ascii(other));
    Some(format!("{own}'s tensor would fit input {other}, and {other}'s would fit {own}"))
}

/// Whether the tensor fits, possibly after a cast of tier 1.
fn fits(sent: &InputView, info: &TensorInfo) -> bool {
    let castable = matches!(
        relation(sent.tensor.dtype, info.dtype),
        Some(Relation::Same | Relation::Widens | Relation::Narrows)
    );
    info.shape != PartialShape::UnknownRank
        && (sent.tensor.dtype == info.dtype || castable)
        && info.shape.accepts(&sent.tensor.shape)
}

fn dtype(signature: &Signature, info: &TensorInfo, sent: DataType) -> Option<String> {
    let declared = info.dtype.info()?;
    match (sent, declared.class) {
        (DataType::STRING, Class::String) | (_, Class::Handle) => None,
        (DataType::STRING, _) if layout::is_image(info) => {
            Some("this input takes decoded pixels: decode the image first".to_owned())
        }
        (DataType::STRING, Class::Signed | Class::Unsigned) => {
            Some("this input takes numbers, such as token ids: tokenize or parse the text first".to_owned())
        }
        // The problem text itself says what to do with bytes.
        (DataType::STRING, _) => None,
        (_, Class::String) => examples(signature).map(str::to_owned),
        _ => Some(format!("send {}", info.dtype)),
    }
}

fn shape(info: &TensorInfo, sent: &Shape) -> Option<String> {
    let declared = info.shape.dims()?;
    let elements = sent.elements().ok()?;
    layout::order(declared, sent)
        .or_else(|| layout::image(declared, sent))
        .or_else(|| rows(declared, sent, elements))
}

/// Whether the values form whole rows. Only if the ranks differ: otherwise the sizes are wrong, not
/// their positions.
fn rows(declared: &[i64], sent: &[i64], elements: u64) -> Option<String> {
    let (first, inner) = declared.split_first()?;
    if declared.len() == sent.len() || elements == 0 {
        return None;
    }
    let inner = Shape::from(inner);
    let row = inner.elements().ok().filter(|row| *row > 0)?;
    if !elements.is_multiple_of(row) {
        let (values, are) = if elements == 1 { ("value", "is") } else { ("values", "are") };
        return Some(format!("{elements} {values} {are} not a whole number of rows of {row}"));
    }
    let count = i64::try_from(elements / row).ok()?;
    let is_plain = count == 1 || sent.len() == 1 || sent.first() == Some(&count);
    let fixed = *first >= 0 && *first != count;
    (is_plain && !fixed).then(|| {
        let whole: Shape = std::iter::once(count).chain(inner.iter().copied()).collect();
        format!("send shape {whole}")
    })
}
