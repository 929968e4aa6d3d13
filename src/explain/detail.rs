//! What the request itself adds to the meaning of an error: the inputs as they were sent, the names
//! that are missing.
use std::collections::{BTreeMap, HashMap};

use super::context::{Context, Input, Sent};
use super::example;
use crate::signature::{Signature, TensorInfo};
use crate::sorting;
use crate::tensor::Shape;

/// What a row asks the request for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    None,
    /// The inputs with their dtypes and shapes.
    Shapes,
    /// The inputs by their number of rows.
    Rows,
    /// A bad value, which in a batch may be another request's.
    Values,
    /// The inputs that are missing, and those that the signature does not have.
    Names,
    /// The input that a position in the text stands for.
    Position,
    /// The outputs of the signature that are its inputs, and those that are not.
    FedOutputs,
    /// The `tf.Example` that was sent, or what was sent in its place.
    Example,
}

/// Bytes of a detail after which nothing is begun anew: a header holds it and the original text.
const MAX_DETAIL: usize = 400;
/// Characters of a name.
const MAX_NAME: usize = 128;
/// Names that are listed of many.
pub(super) const MAX_NAMES: usize = 5;
/// Names that are listed of a group of inputs that are alike.
const MAX_ALIKE: usize = 2;

impl Detail {
    /// The text; empty where the request has nothing to add.
    pub(super) fn text(self, message: &str, context: &Context<'_>) -> String {
        let text = match (self, context.sent) {
            (Self::Values, _) if context.batching => {
                Some("requests are batched, so the value may be another request's".to_owned())
            }
            (Self::None | Self::Values, _) | (_, None) => None,
            (Self::Shapes, Some(sent)) => shapes(message, sent),
            (Self::Rows, Some(sent)) => rows(sent.inputs().iter()),
            (Self::Names, Some(sent)) => names(sent),
            (Self::Position, Some(sent)) => position(message, sent),
            (Self::Example, Some(sent)) => example::describe(&sent.strings()),
            (Self::FedOutputs, Some(sent)) => {
                sent.signature().and_then(|signature| fed_outputs(signature, sent.output_filter()))
            }
        };
        text.map_or_else(String::new, |text| format!("; {text}"))
    }
}

/// The inputs of which the same is said.
struct Group<'a> {
    shape: &'a Shape,
    conforms: bool,
    aliases: Vec<&'a str>,
}

/// `sent: b float [1]; a, c and 7 more float [2,3]`. First the inputs whose shape the error names,
/// then those that do not conform to the signature; among equals the rarest number of rows, which
/// is the odd one out.
fn shapes(message: &str, sent: &dyn Sent) -> Option<String> {
    let inputs = sent.inputs();
    let mut groups: BTreeMap<String, Group<'_>> = BTreeMap::new();
    let mut rows_of: HashMap<Option<i64>, usize> = HashMap::new();
    for input in &inputs {
        let declared = input.violates(sent.signature());
        let new = || Group { shape: input.shape, conforms: declared.is_none(), aliases: Vec::new() };
        groups.entry(describe(input, declared)).or_insert_with(new).aliases.push(input.alias);
        *rows_of.entry(input.shape.first().copied()).or_default() += 1;
    }
    let mut groups: Vec<(String, Group<'_>)> = groups.into_iter().collect();
    sorting::by_key(&mut groups, |(_, group)| {
        let alike = rows_of.get(&group.shape.first().copied()).copied();
        (!occurs(group.shape, message), group.conforms, alike, group.aliases.len())
    });
    let mut parts = Vec::new();
    let (mut size, mut left) = (0, inputs.len());
    for (what, group) in &groups {
        if size > MAX_DETAIL {
            parts.push(format!("{left} more inputs"));
            break;
        }
        let part = format!("{} {what}", list(group.aliases.iter().copied(), MAX_ALIKE));
        size += part.len();
        left -= group.aliases.len();
        parts.push(part);
    }
    (!parts.is_empty()).then(|| format!("sent: {}", parts.join("; ")))
}

/// `float [1,128] (repaired from double [128])`, and what was declared instead.
fn describe(input: &Input<'_>, declared: Option<&TensorInfo>) -> String {
    let repaired = input.repaired_from.map(|(dtype, shape)| format!(" (repaired from {dtype} {shape})"));
    let declared = declared.map(|info| format!(" (signature: {} {})", info.dtype, info.shape));
    let (repaired, declared) = (repaired.unwrap_or_default(), declared.unwrap_or_default());
    format!("{} {}{repaired}{declared}", input.dtype, input.shape)
}

/// `rows: b 2; a, c and 7 more 1`: the rarest number first, which is the odd one out.
fn rows<'a>(inputs: impl Iterator<Item = &'a Input<'a>>) -> Option<String> {
    let mut groups: BTreeMap<Option<i64>, Vec<&str>> = BTreeMap::new();
    for input in inputs {
        groups.entry(input.shape.first().copied()).or_default().push(input.alias);
    }
    let mut groups: Vec<(Option<i64>, Vec<&str>)> = groups.into_iter().collect();
    sorting::by_key(&mut groups, |(_, aliases)| aliases.len());
    let left = groups.len().saturating_sub(MAX_NAMES);
    let text = |(rows, aliases): &(Option<i64>, Vec<&str>)| {
        let rows = rows.map_or_else(|| "scalar".to_owned(), |rows| rows.to_string());
        format!("{} {rows}", list(aliases.iter().copied(), MAX_ALIKE))
    };
    let mut parts: Vec<String> = groups.iter().take(MAX_NAMES).map(text).collect();
    if left > 0 {
        parts.push(format!("{left} more sizes"));
    }
    (!parts.is_empty()).then(|| format!("rows: {}", parts.join("; ")))
}

/// The same of the inputs whose number of rows the signature leaves open, which alone are compared.
pub(super) fn differing_rows(sent: &dyn Sent) -> Option<String> {
    let signature = sent.signature()?;
    let has_rows = |input: &&Input<'_>| signature.input(input.alias).is_some_and(TensorInfo::has_rows);
    rows(sent.inputs().iter().filter(has_rows))
}

/// Whether an error names a shape. `[1]` in `In[1]` is a position, not a shape.
fn occurs(shape: &Shape, message: &str) -> bool {
    let shape = shape.to_string();
    let is_index = shape.bytes().all(|byte| byte != b',');
    let named = |at: usize| !message[..at].ends_with(|char: char| char.is_ascii_alphanumeric());
    message.match_indices(&shape).any(|(at, _)| !is_index || named(at))
}

/// `missing: a, b and 3 more; not in the signature: x`. TensorFlow's own list may have been cut.
fn names(sent: &dyn Sent) -> Option<String> {
    let signature = sent.signature()?;
    let mut aliases: Vec<&str> = sent.inputs().iter().map(|input| input.alias).collect();
    aliases.sort_unstable();
    let is_missing =
        |info: &&TensorInfo| !info.has_default && aliases.binary_search(&info.alias.as_str()).is_err();
    let missing = signature.inputs.iter().filter(is_missing).map(|info| info.alias.as_str());
    let unknown = aliases.iter().copied().filter(|alias| signature.input(alias).is_none());
    let parts: Vec<String> =
        [("missing", list(missing, MAX_NAMES)), ("not in the signature", list(unknown, MAX_NAMES))]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(title, names)| format!("{title}: {names}"))
            .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `arg[1] is ids, sent as int32 [3]`. TensorFlow numbers the graph's fed tensors, sorted by name.
fn position(message: &str, sent: &dyn Sent) -> Option<String> {
    let (_, rest) = message.split_once("arg[")?;
    let position: usize = rest.split_once(']')?.0.parse().ok()?;
    let mut fed: Vec<&TensorInfo> = sent.signature()?.inputs.iter().collect();
    sorting::by(&mut fed, |a, b| a.tensor_name.cmp(&b.tensor_name));
    let alias = fed.get(position)?.alias.as_str();
    let inputs = sent.inputs();
    let input = inputs.iter().find(|input| input.alias == alias)?;
    Some(format!("arg[{position}] is {}, sent as {} {}", ascii(alias), input.dtype, input.shape))
}

/// `outputs that are inputs: unique_ids; output_filter: logits`, if a call with this filter asks
/// for an output that is an input of the same signature, which TensorFlow refuses to return. An
/// empty filter asks for all outputs.
pub fn fed_outputs(signature: &Signature, output_filter: &[String]) -> Option<String> {
    let is_asked = |info: &&TensorInfo| output_filter.is_empty() || output_filter.contains(&info.alias);
    let (fed, rest): (Vec<&TensorInfo>, Vec<&TensorInfo>) =
        signature.outputs.iter().filter(is_asked).partition(|output| signature.is_fed(output));
    let names = |outputs: &[&TensorInfo]| list(outputs.iter().map(|info| info.alias.as_str()), MAX_NAMES);
    if fed.is_empty() {
        return None;
    }
    let others = if rest.is_empty() { String::new() } else { format!("; output_filter: {}", names(&rest)) };
    Some(format!("outputs that are inputs: {}{others}", names(&fed)))
}

/// `a, b and 3 more`.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>, most: usize) -> String {
    let names: Vec<&str> = names.collect();
    // One that is left over is named rather than counted.
    let shown = if names.len() > most + 1 { most } else { names.len() };
    let text = names.iter().take(shown).map(|name| ascii(name)).collect::<Vec<_>>().join(", ");
    match names.len() - shown {
        0 => text,
        left => format!("{text} and {left} more"),
    }
}

/// A name fit for an error's text: ASCII on one line, cut where it is long.
fn ascii(name: &str) -> String {
    name.escape_default().take(MAX_NAME).collect()
}
